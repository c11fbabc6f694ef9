//! Bad input: one clear error (what, on what, what to try), the right errno or exit status, no panic, no hang, nothing lost.

use alluxio_tests::process::{Output, run};
use alluxio_tests::{LocalBuilder, S3Server, Versity, ports, tools, tree, wait};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_secs(60);

/// Failed with one clear line that holds all `words`, and did not panic.
#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    assert_ne!(output.code, 0, "it succeeded: {output:?}");
    assert!(
        output.code < 128 && output.code != 101,
        "killed or panicked: {output:?}"
    );
    let text = output.stderr.to_lowercase();
    assert!(!text.contains("panicked"), "{output:?}");
    for word in words {
        assert!(
            text.contains(&word.to_lowercase()),
            "the error does not say {word:?}:\n{}",
            output.stderr
        );
    }
}

#[test]
fn wrong_credentials_and_missing_bucket() {
    let server = Versity::start();
    let wrong = LocalBuilder::new()
        .ufs("s3://bucket")
        .options(server.options())
        .option("s3a.secretKey", "wrong")
        .run("true", SHORT);
    assert_refused(&wrong, &["s3://bucket", "s3a.secretKey"]);
    let missing = LocalBuilder::new()
        .ufs("s3://no-such-bucket")
        .options(server.options())
        .run("true", SHORT);
    assert_refused(&missing, &["no-such-bucket", "bucket"]);
}

#[test]
fn unreachable_endpoint() {
    let endpoint = format!("http://127.0.0.1:{}", ports::free());
    let start = Instant::now();
    let output = LocalBuilder::new()
        .ufs("s3://bucket")
        .options(alluxio_tests::s3::options_for(&endpoint))
        .run("true", SHORT);
    assert_refused(&output, &[&endpoint]);
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "it took {:?}",
        start.elapsed()
    );
}

#[test]
fn mount_point_that_is_no_folder_or_in_use() {
    let dir = tools::scratch("mp-");
    let builder = LocalBuilder::at(dir.path());
    std::fs::write(builder.mount(), "a file").unwrap();
    assert_refused(
        &run(&mut builder.command(), SHORT),
        &[builder.mount().to_str().unwrap(), "directory"],
    );

    let local = LocalBuilder::new().start();
    let other = tools::scratch("mp-");
    let mut command = LocalBuilder::at(other.path()).command();
    // The last --mount wins over the builder's.
    let arguments: Vec<_> = command.get_args().map(OsStr::to_owned).collect();
    let mut second = std::process::Command::new(tools::alluxio());
    for (index, argument) in arguments.iter().enumerate() {
        second.arg(if index > 0 && arguments[index - 1] == "--mount" {
            local.mount().as_os_str()
        } else {
            argument
        });
    }
    command = second;
    assert_refused(&run(&mut command, SHORT), &[local.mount().to_str().unwrap(), "mounted"]);
    std::fs::write(local.mount().join("still"), "serving").unwrap();
}

#[test]
fn port_taken() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    for key in ["alluxio.master.rpc.port", "alluxio.worker.rpc.port"] {
        let output = LocalBuilder::new().option(key, &port).run("true", SHORT);
        assert_refused(&output, &[&port, key]);
    }
}

#[test]
fn data_folder_in_use_newer_or_foreign() {
    let dir = tools::scratch("data-");
    LocalBuilder::at(dir.path()).run("echo kept > \"$M\"/f", SHORT).ok();
    let data = dir.path().join("data");

    // In use by another process.
    let local = LocalBuilder::at(dir.path()).start();
    let other = tools::scratch("other-");
    std::fs::create_dir(other.path().join("mnt")).unwrap();
    let mut command = LocalBuilder::at(other.path()).command();
    command.arg("--data").arg(&data);
    let arguments: Vec<_> = command.get_args().map(OsStr::to_owned).collect();
    let mut second = std::process::Command::new(tools::alluxio());
    let mut skip = false;
    for (index, argument) in arguments.iter().enumerate() {
        // Drop the builder's own --data.
        if skip || (argument == "--data" && index < arguments.len() - 2) {
            skip = !skip;
            continue;
        }
        second.arg(argument);
    }
    assert_refused(&run(&mut second, SHORT), &["in use"]);
    assert_eq!(local.stop(SHORT).0, 0);

    // Of a newer format.
    let format = find_file(&data.join("journal"), "format");
    let original = std::fs::read_to_string(&format).unwrap();
    std::fs::write(
        &format,
        original
            .replace("\"format_version\":1", "\"format_version\":99")
            .replace("\"format_version\": 1", "\"format_version\": 99"),
    )
    .unwrap();
    assert_ne!(std::fs::read_to_string(&format).unwrap(), original, "{original}");
    assert_refused(&LocalBuilder::at(dir.path()).run("true", SHORT), &["99", "format"]);
    std::fs::write(&format, &original).unwrap();

    // A cache of another cluster.
    let foreign = tools::scratch("foreign-");
    LocalBuilder::at(foreign.path())
        .run("echo other > \"$M\"/g", SHORT)
        .ok();
    let (cache, away) = (data.join("cache"), data.join("cache-own"));
    sh_ok(&format!(
        "mv {0} {1} && cp -a {2} {0}",
        cache.display(),
        away.display(),
        foreign.path().join("data/cache").display()
    ));
    assert_refused(&LocalBuilder::at(dir.path()).run("true", SHORT), &["cluster"]);
    sh_ok(&format!("rm -r {0} && mv {1} {0}", cache.display(), away.display()));

    // Nothing was changed by any of this.
    assert_eq!(LocalBuilder::at(dir.path()).run("cat \"$M\"/f", SHORT).ok(), "kept\n");
}

#[test]
fn corrupt_journal_record_in_the_middle() {
    let dir = tools::scratch("corrupt-");
    LocalBuilder::at(dir.path())
        .run("for i in $(seq 200); do echo $i > \"$M\"/f$i; done", SHORT)
        .ok();
    let segment = largest_file(&dir.path().join("data/journal"));
    let original = std::fs::read(&segment).unwrap();
    let used = original.iter().rposition(|byte| *byte != 0).unwrap();
    let mut bytes = original.clone();
    // Not the padding between records, which says nothing and is zero.
    let at = (used / 2..).find(|at| original[*at] != 0).unwrap();
    bytes[at] ^= 0xFF;
    std::fs::write(&segment, &bytes).unwrap();
    // The metadata store may be ahead of the damage; without it the log has to be read from there on.
    let metastore = dir.path().join("data/metastore");
    let away = dir.path().join("metastore-away");
    sh_ok(&format!("mv {} {}", metastore.display(), away.display()));
    let output = LocalBuilder::at(dir.path()).run("true", SHORT);
    assert_refused(&output, &["journal", segment.file_name().unwrap().to_str().unwrap()]);
    assert_eq!(
        std::fs::read(&segment).unwrap(),
        bytes,
        "a damaged journal is not touched"
    );
    // Healed, everything is there.
    std::fs::write(&segment, &original).unwrap();
    sh_ok(&format!("rm -rf {0}; mv {1} {0}", metastore.display(), away.display()));
    assert_eq!(LocalBuilder::at(dir.path()).run("cat \"$M\"/f200", SHORT).ok(), "200\n");
}

#[test]
fn garbage_on_every_port() {
    let (rpc, data) = (ports::free(), ports::free());
    let local = LocalBuilder::new()
        .option("alluxio.master.rpc.port", rpc.to_string())
        .option("alluxio.worker.rpc.port", data.to_string())
        .start();
    let garbage: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        vec![0xFF; 100_000],
        vec![0; 100_000],
        tree::contents(1, 100_000),
        vec![],
    ];
    for port in [rpc, data] {
        assert!(wait::listens(port), "nothing listens on {port}");
        for bytes in &garbage {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            // The server may close in the middle of it: that is its right.
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let end = stream.read_to_end(&mut answer);
            let hung = end.is_err_and(|error| {
                matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                )
            });
            assert!(!hung, "port {port} keeps a connection open that sent garbage and ended");
        }
    }
    std::fs::write(local.mount().join("f"), "still serving").unwrap();
    assert_eq!(std::fs::read(local.mount().join("f")).unwrap(), b"still serving");
    let (code, log) = local.stop(SHORT);
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn unknown_flags_keys_and_values() {
    let alluxio = |arguments: &[&str]| run(std::process::Command::new(tools::alluxio()).args(arguments), SHORT);
    assert_refused(&alluxio(&["local", "--mont", "/x"]), &["--mont", "--mount"]);
    assert_refused(&alluxio(&["fs", "lss", "/"]), &["lss", "ls"]);
    assert_refused(
        &alluxio(&["getConf", "-D", "alluxio.master.rpc.port=many"]),
        &["alluxio.master.rpc.port", "many"],
    );
    assert_refused(
        &alluxio(&["getConf", "alluxio.master.rpc.prt"]),
        &["alluxio.master.rpc.port"],
    );
    // An unknown key is a warning with the nearest known one.
    let warned = alluxio(&["getConf", "-D", "alluxio.master.rpc.prt=1", "alluxio.master.rpc.port"]);
    assert_eq!(warned.code, 0, "{warned:?}");
    assert_eq!(warned.stdout.trim(), "19998");
    assert!(
        warned.stderr.contains("alluxio.master.rpc.prt") && warned.stderr.contains("alluxio.master.rpc.port"),
        "{}",
        warned.stderr
    );
    // A known key without effect says so.
    let noted = alluxio(&[
        "getConf",
        "-D",
        "alluxio.fuse.jnifuse.enabled=true",
        "alluxio.master.rpc.port",
    ]);
    assert!(noted.stderr.contains("no effect"), "{}", noted.stderr);
}

#[test]
fn names_at_and_past_the_limit() {
    let dir = tools::scratch("names-");
    let ufs = dir.path().join("ufs");
    std::fs::create_dir(&ufs).unwrap();
    let local = LocalBuilder::at(dir.path()).ufs(ufs.to_str().unwrap()).start();
    let longest = "n".repeat(255);
    std::fs::write(local.mount().join(&longest), "x").unwrap();
    assert_eq!(std::fs::read(local.mount().join(&longest)).unwrap(), b"x");
    let error = std::fs::write(local.mount().join("n".repeat(256)), "x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    // Bytes that are no UTF-8 are a name like any other.
    let raw = OsStr::from_bytes(b"\xff\xfe-raw");
    std::fs::write(local.mount().join(raw), "raw").unwrap();
    assert_eq!(std::fs::read(local.mount().join(raw)).unwrap(), b"raw");
    assert!(
        std::fs::read_dir(local.mount())
            .unwrap()
            .any(|entry| entry.unwrap().file_name() == raw)
    );
    local.alluxio(&["fs", "persist", "/"]).ok();
    assert_eq!(std::fs::read(ufs.join(raw)).unwrap(), b"raw");
    assert_eq!(std::fs::read(ufs.join(&longest)).unwrap(), b"x");
}

#[test]
fn dots_in_uris() {
    let output = LocalBuilder::new().ufs("file:///tmp/../etc").run("true", SHORT);
    assert_refused(&output, &[".."]);
    let local = LocalBuilder::new().start();
    assert_refused(&local.alluxio(&["fs", "ls", "/a/../../b"]), &[".."]);
}

/// An object deleted or replaced between listing and reading.
#[test]
fn objects_that_change_between_listing_and_reading() {
    let server = Versity::start();
    let scratch = tools::scratch("body-");
    let put = |key: &str, bytes: &[u8]| {
        let body = scratch.path().join("body");
        std::fs::write(&body, bytes).unwrap();
        let code = format!(
            "s3.put_object(Bucket='bucket', Key='{key}', Body=open('{}', 'rb').read())",
            body.display()
        );
        alluxio_tests::s3::boto3(&server.endpoint(), &code);
    };
    for name in ["gone", "replaced"] {
        put(name, &tree::contents(1, 200_000));
    }
    let local = LocalBuilder::new()
        .ufs("s3://bucket")
        .options(server.options())
        .option("alluxio.user.file.metadata.sync.interval", "-1")
        .start();
    assert_eq!(std::fs::read_dir(local.mount()).unwrap().count(), 2);
    assert_eq!(
        std::fs::metadata(local.mount().join("replaced")).unwrap().len(),
        200_000
    );
    alluxio_tests::s3::boto3(&server.endpoint(), "s3.delete_object(Bucket='bucket', Key='gone')");
    put("replaced", &tree::contents(2, 100_000));
    let error = std::fs::read(local.mount().join("gone"))
        .unwrap_err()
        .raw_os_error()
        .unwrap();
    assert!([libc::ENOENT, libc::ESTALE].contains(&error), "errno {error}");
    wait::until(
        "the new content is read",
        Duration::from_secs(10),
        || match std::fs::read(local.mount().join("replaced")) {
            Ok(bytes) => {
                assert!(
                    bytes == tree::contents(2, 100_000),
                    "neither old nor new: {} bytes",
                    bytes.len()
                );
                true
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
                false
            }
        },
    );
}

#[test]
fn format_asks_first() {
    let dir = tools::scratch("format-");
    LocalBuilder::at(dir.path()).run("echo kept > \"$M\"/f", SHORT).ok();
    let work = format!("alluxio.work.dir={}", dir.path().join("data").display());
    let alluxio = |arguments: &[&str]| run(std::process::Command::new(tools::alluxio()).args(arguments), SHORT);
    assert_refused(&alluxio(&["format", "-D", &work]), &["-y"]);
    assert_eq!(LocalBuilder::at(dir.path()).run("cat \"$M\"/f", SHORT).ok(), "kept\n");
}

/// A full cache never fails a read.
#[test]
fn a_full_tier_never_fails_a_read() {
    let server = Versity::start();
    for index in 0..10 {
        std::fs::write(
            server.bucket("bucket").join(format!("f{index}")),
            tree::contents(index, 1_000_000),
        )
        .unwrap();
    }
    let local = LocalBuilder::new()
        .ufs("s3://bucket")
        .options(server.options())
        .option("alluxio.worker.tieredstore.level0.dirs.quota", "3MB")
        .start();
    for round in 0..2 {
        for index in 0..10 {
            let bytes = std::fs::read(local.mount().join(format!("f{index}")))
                .unwrap_or_else(|error| panic!("round {round}, f{index}: {error}"));
            assert!(bytes == tree::contents(index, 1_000_000));
        }
    }
}

fn sh_ok(line: &str) {
    alluxio_tests::process::sh(line, SHORT).ok();
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut stack = vec![dir.to_owned()];
    while let Some(dir) = stack.pop() {
        for entry in std::fs::read_dir(&dir).expect("list a folder") {
            let path = entry.expect("read an entry").path();
            if path.is_dir() {
                stack.push(path)
            } else {
                found.push(path)
            }
        }
    }
    found
}

fn find_file(dir: &Path, name: &str) -> std::path::PathBuf {
    walk(dir)
        .into_iter()
        .find(|path| path.file_name() == Some(OsStr::new(name)))
        .unwrap_or_else(|| panic!("no {name} under {}", dir.display()))
}

fn largest_file(dir: &Path) -> std::path::PathBuf {
    walk(dir)
        .into_iter()
        .max_by_key(|path| path.metadata().expect("stat a file").len())
        .expect("a file")
}
