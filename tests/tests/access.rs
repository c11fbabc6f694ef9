//! Who may reach what: files of the cluster on the local disk, the socket that hands out descriptors, credentials of stores.

use alluxio_client::RemoteMaster;
use alluxio_common::rpc;
use alluxio_proto::master::{GetMounts, MasterRequest, Op, ReadSource, RegisterWorker, Reply, WriteLease};
use alluxio_proto::types::WorkerAddress;
use alluxio_proto::worker::{OpenRead, OpenWrite, WorkerReply, WorkerRequest};
use alluxio_proto::{ErrorKind, FsResult, MasterApi};
use alluxio_tests::cluster::Mount;
use alluxio_tests::modes::Mode;
use alluxio_tests::s3::S3Server;
use alluxio_tests::separate::Mount as SeparateMount;
use alluxio_tests::{Local, LocalBuilder, Moto, Process, Separate, Versity, ports, process, tools, wait};
use bytes::Bytes;
use nix::sys::signal::Signal;
use prost::Message;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
/// For what comes soon, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything beneath `dir` that group or others have a right to.
fn open_to_others(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let Ok(meta) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if meta.file_type().is_symlink() {
            continue;
        }
        if meta.mode() & 0o077 != 0 {
            found.push(format!("{:o} {}", meta.mode() & 0o7777, path.display()));
        }
        if meta.is_dir() {
            todo.extend(
                std::fs::read_dir(&path)
                    .expect("list a folder")
                    .map(|e| e.expect("an entry").path()),
            );
        }
    }
    found
}

/// The one cached file beneath a data folder that holds `text`.
fn cached_file(data: &Path, text: &[u8]) -> PathBuf {
    let mut todo = vec![data.join("cache/data")];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(
                std::fs::read_dir(&path)
                    .expect("list a folder")
                    .map(|e| e.expect("an entry").path()),
            );
        } else if path.extension().is_some_and(|e| e == "data") && std::fs::read(&path).is_ok_and(|bytes| bytes == text)
        {
            return path;
        }
    }
    panic!("no cached file holds the text");
}

/// Runs a shell line as the user nobody.
fn as_nobody(line: &str) -> process::Output {
    process::run(
        Command::new("setpriv").args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", line]),
        LIMIT,
    )
}

/// A scratch folder that every user can pass through, so that what stops them is what is in it.
fn passable() -> tempfile::TempDir {
    let dir = tools::scratch("access-");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("open the scratch folder");
    dir
}

#[test]
fn nobody_reads_the_cache_the_journal_or_the_metadata() {
    let dir = passable();
    // A generous umask must not matter.
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let local = LocalBuilder::at(dir.path()).start();
    nix::sys::stat::umask(before);
    let secret = b"what only the owner may read";
    std::fs::write(local.mount().join("private"), secret).expect("write a file");
    std::fs::set_permissions(local.mount().join("private"), PermissionsExt::from_mode(0o600)).expect("chmod");
    std::fs::create_dir(local.mount().join("folder")).expect("make a folder");
    let data = local.data().to_owned();
    let mut open = open_to_others(&data);
    // The store's own objects have the modes that the namespace gave them.
    let store = data.join("ufs");
    open.retain(|line| !line.contains(tools::text(&store)));
    assert_eq!(open, Vec::<String>::new());
    assert!(
        data.join("cache/worker.sock")
            .symlink_metadata()
            .expect("the socket")
            .file_type()
            .is_socket()
    );
    let cached = cached_file(&data, secret);
    for command in [
        format!("cat {}", cached.display()),
        format!("ls {}", data.join("journal").display()),
        format!("ls {}", data.join("metastore").display()),
        format!("ls {}", store.display()),
    ] {
        let output = as_nobody(&command);
        assert_ne!(output.code, 0, "{command} succeeded: {}", output.stdout);
        assert_eq!(output.stdout, "");
    }
}

#[test]
fn an_old_folder_is_closed_at_start() {
    let dir = passable();
    let local = LocalBuilder::at(dir.path()).start();
    std::fs::write(local.mount().join("f"), b"cached").expect("write a file");
    let data = local.data().to_owned();
    let (local, _) = {
        let (status, log) = local.stop(LIMIT);
        assert_eq!(status, 0, "{log}");
        // As older software left it.
        let open = format!(
            "find {} ! -name cluster.secret -exec chmod a+rwX {{}} +",
            data.display()
        );
        process::sh(&open, LIMIT).ok();
        (LocalBuilder::at(dir.path()).start(), log)
    };
    for folder in [
        "",
        "journal",
        "journal/log",
        "journal/snapshots",
        "metastore",
        "cache",
        "cache/data",
        "cache/data/00",
        "cache/lost+found",
    ] {
        let mode = std::fs::metadata(data.join(folder)).expect("a folder").mode() & 0o7777;
        assert_eq!(mode, 0o700, "{folder:?} is {mode:o}");
    }
    let output = as_nobody(&format!("cat {}", cached_file(&data, b"cached").display()));
    assert_ne!(output.code, 0, "{}", output.stdout);
    drop(local);
}

#[test]
fn a_command_keeps_its_umask_and_the_store_its_modes() {
    let dir = passable();
    let store = dir.path().join("store");
    std::fs::create_dir(&store).expect("make the store");
    let builder = LocalBuilder::at(dir.path()).ufs(tools::text(&store));
    let output = builder.run(
        "umask 022; umask; mkdir -p $M/a; echo x > $M/a/b; stat -c %a $M/a $M/a/b",
        LIMIT,
    );
    assert_eq!(output.ok(), "0022\n755\n644\n");
    let output = LocalBuilder::at(dir.path())
        .ufs(tools::text(&store))
        .run("umask", LIMIT)
        .ok();
    let own = process::sh("umask", LIMIT).ok();
    assert_eq!(output, own, "the umask of whoever started it");
    let mode = |path: &str| std::fs::metadata(store.join(path)).expect("an object").mode() & 0o7777;
    assert_eq!((mode("a"), mode("a/b")), (0o755, 0o644));
}

/// Runs `work` on a thread that has become the user nobody: credentials are per thread beneath libc.
fn as_nobody_here<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        // SAFETY: plain system calls that change this thread's credentials and nothing in memory.
        let done = unsafe {
            libc::syscall(libc::SYS_setresgid, 65534, 65534, 65534)
                | libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534)
        };
        assert_eq!(done, 0, "become nobody");
        work()
    });
    thread.join().expect("the thread of nobody")
}

/// Asks a worker through its descriptor socket.
fn ask_socket(socket: &Path, request: WorkerRequest) -> FsResult<(WorkerReply, Option<std::os::fd::OwnedFd>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let client = rpc::fd::Client::new(socket);
        let (header, _, fd) = client.call(request.encode_to_vec().into(), Bytes::new()).await?;
        Ok((WorkerReply::decode(header).expect("an answer"), fd))
    })
}

/// Asks a master through its port.
fn ask_master(port: u16, op: Op) -> FsResult<Reply> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let address = rpc::Address::tcp("127.0.0.1", port);
        let master = RemoteMaster::new(vec![address], rpc::ClientOptions::default());
        master
            .call(MasterRequest {
                op: Some(op),
                ..Default::default()
            })
            .await
    })
}

fn rpc_port(local: &Local) -> u16 {
    local.option("alluxio.master.rpc.port").parse().expect("a port")
}

#[test]
fn nobody_gets_a_descriptor() {
    let dir = passable();
    let local = LocalBuilder::at(dir.path()).start();
    std::fs::write(local.mount().join("private"), b"for root alone").expect("write a file");
    let inode = std::fs::metadata(local.mount().join("private")).expect("stat").ino();
    let socket = local.data().join("cache/worker.sock");
    let request = move || {
        WorkerRequest::from(OpenRead {
            inode,
            source: Some(ReadSource {
                version: 1,
                length: 14,
                ..Default::default()
            }),
            want_fd: true,
            verify: false,
            check_source: false,
        })
    };
    assert!(ask_socket(&socket, request()).expect("root is served").1.is_some());
    // Should somebody open the way to the socket, who is at its other end still counts.
    process::sh(
        &format!(
            "chmod 755 {0} {0}/cache; chmod 666 {1}",
            local.data().display(),
            socket.display()
        ),
        LIMIT,
    )
    .ok();
    let at = socket.clone();
    let refused = as_nobody_here(move || ask_socket(&at, request()));
    assert!(refused.is_err(), "{refused:?}");
    assert!(ask_socket(&socket, request()).is_ok(), "it serves on");
}

#[test]
fn nothing_is_opened_for_writing_without_the_masters_lease() {
    let dir = passable();
    let local = LocalBuilder::at(dir.path()).start();
    let path = local.mount().join("f");
    std::fs::write(&path, b"what the owner wrote").expect("write a file");
    let inode = std::fs::metadata(&path).expect("stat").ino();
    let address = WorkerAddress {
        worker_id: 1,
        ..Default::default()
    };
    for version in 0..10 {
        let lease = WriteLease {
            version,
            home: Some(address.clone()),
            ..Default::default()
        };
        let open = OpenWrite {
            inode,
            lease: Some(lease),
            truncate: true,
            want_fd: true,
            needs_fd: false,
            write_only: false,
        };
        let socket = local.data().join("cache/worker.sock");
        let refused = ask_socket(&socket, open.into()).expect_err("a lease that nobody gave");
        assert_eq!(refused.kind, ErrorKind::NotPermitted, "{refused}");
    }
    assert_eq!(std::fs::read(&path).expect("read"), b"what the owner wrote");
    // Leases of the master are honoured, also from another process.
    let other = Mount::start(&local, &dir.path().join("other"), Mode::Passthrough);
    std::fs::write(other.path().join("f"), b"over another mount").expect("write through another mount");
    assert_eq!(std::fs::read(&path).expect("read"), b"over another mount");
}

/// Credentials that stand out.
const ROOT_SECRET: &str = "test-secret-key";
const MOUNT_SECRET: &str = "sesame-of-the-second-mount";

#[test]
fn credentials_lie_nowhere_in_clear_and_reach_no_stranger() {
    let dir = passable();
    let server = Versity::start();
    let builder = || {
        LocalBuilder::at(dir.path())
            .ufs("s3://bucket/p")
            .options(server.options())
    };
    let local = builder().start();
    let second = dir.path().join("second");
    std::fs::create_dir(&second).expect("make a store");
    let file = dir.path().join("mount.properties");
    std::fs::write(&file, format!("# of the second\ns3a.secretKey={MOUNT_SECRET}\n")).expect("write options");
    local
        .alluxio(&[
            "fs",
            "mount",
            "--option-file",
            tools::text(&file),
            "/second",
            tools::text(&second),
        ])
        .ok();
    std::fs::write(local.mount().join("f"), b"through the sealed credentials").expect("write a file");
    local.alluxio(&["fs", "persist", "/f"]).ok();
    assert_eq!(
        std::fs::read(server.bucket("bucket").join("p/f")).expect("the object"),
        b"through the sealed credentials"
    );
    // Somebody who names a worker's id.
    for id in 0..5 {
        let op = Op::GetMounts(GetMounts {
            for_worker: id,
            ..Default::default()
        });
        let answer = ask_master(rpc_port(&local), op);
        let shown = format!("{answer:?}");
        assert!(
            !shown.contains(ROOT_SECRET) && !shown.contains(MOUNT_SECRET),
            "worker {id}: {shown}"
        );
        assert_eq!(answer.is_err(), id != 0, "worker {id}: {shown}");
    }
    let fake = Op::RegisterWorker(RegisterWorker {
        worker_id: 1,
        ..Default::default()
    });
    assert_eq!(
        ask_master(rpc_port(&local), fake).expect_err("no member").kind,
        ErrorKind::NotPermitted
    );
    // Over a restart the credentials are found again.
    let (local, log) = local.restart(LIMIT);
    assert_eq!(
        std::fs::read(local.mount().join("f")).expect("read"),
        b"through the sealed credentials"
    );
    let logs = log + &local.log();
    let data = local.data().to_owned();
    drop(local);
    for secret in [ROOT_SECRET, MOUNT_SECRET] {
        assert!(!logs.contains(secret));
        let found = process::run(Command::new("grep").args(["-rla", secret]).arg(&data), LIMIT);
        assert_eq!(
            (found.code, found.stdout.as_str()),
            (1, ""),
            "{secret} lies in these files"
        );
    }
    // Another secret opens nothing, and says so.
    let secret = data.join("cluster.secret");
    std::fs::remove_file(&secret).expect("take the secret away");
    let output = process::run(builder().command().args(["--", "true"]), LIMIT);
    assert_ne!(output.code, 0);
    assert!(
        output.stderr.contains("cluster.secret") && output.stderr.contains("copy"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_worker_without_the_secret_is_told_what_to_do() {
    let cluster = Separate::start(&[]);
    let worker = |secret: &Path| {
        let mut command = Command::new(tools::alluxio());
        command.env("ALLUXIO_CONF_DIR", cluster.dir()).arg("worker");
        let cache = cluster.dir().join("cache2");
        for (key, value) in [
            ("alluxio.worker.rpc.port", ports::free().to_string()),
            ("alluxio.worker.web.port", ports::free().to_string()),
            (
                "alluxio.worker.tieredstore.level0.dirs.path",
                tools::text(&cache).to_owned(),
            ),
            ("alluxio.security.cluster.secret.file", tools::text(secret).to_owned()),
        ] {
            command.arg("-D").arg(format!("{key}={value}"));
        }
        command
    };
    let (right, copy) = (
        cluster.dir().join("work/cluster.secret"),
        cluster.dir().join("copy.secret"),
    );
    wait::until("the master's secret", LIMIT, || right.exists());
    assert_eq!(
        std::fs::metadata(&right).expect("made by the master").mode() & 0o7777,
        0o600
    );
    let text = std::fs::read_to_string(&right).expect("read the secret");
    let wrong = text
        .trim_end()
        .trim_end_matches(|c: char| c.is_ascii_hexdigit())
        .to_owned()
        + &"ab".repeat(32)
        + "\n";
    let write = |text: &str, mode| {
        std::fs::write(&copy, text).expect("write a copy");
        std::fs::set_permissions(&copy, PermissionsExt::from_mode(mode)).expect("chmod");
    };
    let refused = |why: &str| {
        let output = process::run(&mut worker(&copy), LIMIT);
        assert_ne!(output.code, 0, "{}", output.stderr);
        assert!(output.stderr.contains(why), "{why}: {}", output.stderr);
        assert!(
            output.stderr.contains("alluxio.security.cluster.secret.file"),
            "{}",
            output.stderr
        );
    };
    refused("copy the master's");
    write(&text, 0o644);
    refused("chmod 600");
    write(&wrong, 0o600);
    refused("has not this cluster's secret");
    write(&text, 0o600);
    let mut second = Process::spawn("worker", &mut worker(&copy));
    second.wait_ready("its registration", LIMIT, || {
        let report = cluster.alluxio(&["fsadmin", "report"]);
        report.stdout.contains("Live Workers: 2")
    });
}

#[test]
fn one_host_listens_on_loopback_and_a_cluster_says_what_it_opens() {
    let local = LocalBuilder::new().start();
    let listens = |port: &str, address: &str| {
        let port: u16 = local.option(port).parse().expect("a port");
        let table = std::fs::read_to_string("/proc/net/tcp").expect("read the table of sockets");
        let at = format!(" {address}:{port:04X} 00000000:0000 0A ");
        table.lines().any(|line| line.contains(&at))
    };
    for port in [
        "alluxio.master.rpc.port",
        "alluxio.worker.rpc.port",
        "alluxio.master.web.port",
    ] {
        assert!(listens(port, "0100007F"), "{port} is not on 127.0.0.1");
        assert!(!listens(port, "00000000"), "{port} is open to the network");
    }
    assert!(local.log().contains("reached from this host only"), "{}", local.log());
    let mut cluster = Separate::start(&[]);
    for log in [cluster.master().log(), cluster.worker().log()] {
        assert!(
            log.contains("serving 0.0.0.0:") && log.contains("is trusted with all files"),
            "{log}"
        );
    }
}

#[test]
fn a_mount_finds_the_worker_beside_it_whatever_both_are_called() {
    for (worker, user) in [("127.0.0.5", "pod-7"), ("127.0.0.1", "10.1.2.3"), ("localhost", "")] {
        let cluster = Separate::start(&[("alluxio.worker.hostname", worker), ("alluxio.user.hostname", user)]);
        let mut mount = cluster.mount_with("mnt", "passthrough=on");
        let file = mount.file("f");
        std::fs::write(&file, vec![7; 1 << 20]).expect("write a file");
        let since = Instant::now();
        // While its close is on its way, the file is read through the daemon.
        while !kernel_reads_by_itself(&mut mount, &file) {
            assert!(
                since.elapsed() < PATIENCE,
                "no passthrough: worker {worker:?}, user {user:?}"
            );
        }
        mount.stop();
    }
}

/// Whether a file is passed through: then the kernel reads it also while the daemon stands still.
fn kernel_reads_by_itself(mount: &mut SeparateMount, path: &Path) -> bool {
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let mut options = std::fs::File::options();
    let file = options
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .expect("open");
    let pid = mount.process().id();
    mount.process().signal(Signal::SIGSTOP);
    // Until all its threads stand still, one of them may go on answering.
    wait::until("the mount stands still", LIMIT, || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("list its threads");
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with('T'))
        })
    });
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut page = Box::new(Page([0; 4096]));
        // Nobody listens any more if it took too long.
        let _ = send.send(file.read_exact_at(&mut page.0, 65536).map(|()| page.0));
    });
    let answer = receive.recv_timeout(Duration::from_secs(2));
    mount.process().signal(Signal::SIGCONT);
    match answer {
        Ok(read) => read.expect("read") == [7; 4096],
        Err(_) => {
            receive.recv_timeout(LIMIT).expect("an end of the read").expect("read");
            false
        }
    }
}

/// Uploads, objects and empty files of other programs beneath our prefix are not ours to end, replace unseen or delete.
#[test]
fn what_is_not_ours_stays_in_the_store() {
    let server = Moto::start();
    let begun = server.python("print(s3.create_multipart_upload(Bucket='bucket', Key='p/theirs')['UploadId'])");
    let dir = tools::scratch("theirs-");
    let start = || {
        LocalBuilder::at(dir.path())
            .ufs("s3://bucket/p")
            .options(server.options())
            .option("alluxio.worker.stale.upload.age", "0")
            .option("alluxio.user.file.metadata.sync.interval", "-1")
            .start()
    };
    let local = start();
    std::fs::write(local.mount().join("f"), b"ours").expect("write");
    local.alluxio(&["fs", "persist", "/f"]).ok();
    let (local, log) = local.restart(LIMIT);
    let pending = "print([u['UploadId'] for u in s3.list_multipart_uploads(Bucket='bucket').get('Uploads', [])])";
    assert!(
        server.python(pending).contains(begun.trim()),
        "another program's upload was aborted: {log}"
    );
    // Somebody replaces the object by one of the same length; then it is removed here.
    server.python("s3.put_object(Bucket='bucket', Key='p/f', Body=b'them')");
    std::fs::remove_file(local.mount().join("f")).expect("remove");
    let (status, log) = local.stop(LIMIT);
    assert_eq!(status, 0, "{log}");
    let there = server.python("print(s3.get_object(Bucket='bucket', Key='p/f')['Body'].read().decode())");
    assert_eq!(there.trim(), "them");
}
