//! First start, later starts, mounts, serving.

use super::harness::*;
use crate::service::Master;
use alluxio_common::config::keys;
use alluxio_common::rpc::{Address, Client as RpcClient, ClientOptions, Listener, SERVICE_MASTER};
use alluxio_common::secret::{self, ClusterSecret};
use alluxio_proto::ErrorKind;
use alluxio_proto::master::*;
use alluxio_proto::types::{Property, WriteType};
use alluxio_ufs::fault::Call;
use alluxio_ufs::{UfsErrorKind, memory};
use futures::StreamExt;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

#[tokio::test]
async fn a_restart_keeps_names_and_resumes_intents() {
    for on_disk in [true, false] {
        let ufs = Arc::new(memory());
        let harness = Harness::over(conf(), ufs, on_disk).await;
        let (client, worker) = (harness.client().await, harness.worker().await);
        let dir = client.mkdir(ROOT, "d").await.unwrap().inode;
        harness
            .ufs
            .faults()
            .fail_next(Call::Write, u32::MAX, UfsErrorKind::Unreachable);
        let file = client.write(&worker, dir, "f", "content").await;
        let open = client
            .create(dir, "open", WriteType::AsyncThrough)
            .await
            .unwrap()
            .attr
            .unwrap()
            .inode;
        let cluster = harness.master.cluster_id();
        let (session, id, files) = (client.session, worker.id, worker.files.clone());
        // Whoever holds the old master holds its folders.
        drop((client, worker));
        let harness = harness.restart().await;
        assert_eq!(harness.master.cluster_id(), cluster);
        harness.ufs.faults().heal();
        let again = client_of(&harness, session).await;
        assert_eq!(again.session, session, "the session lives on");
        assert_eq!(again.lookup(dir, "f").await.unwrap().inode, file);
        assert!(again.lookup(dir, "open").await.unwrap().open_for_write);
        let _worker = FakeWorker::start_with(harness.master.clone(), harness.ufs.clone(), HOST, id, files).await;
        again.wait_persisted("/d/f", LONG).await.unwrap();
        assert_eq!(
            harness.objects().await,
            BTreeMap::from([("d/f".into(), "content".into())])
        );
        assert_eq!(again.lookup(dir, "open").await.unwrap().inode, open);
    }
}

async fn client_of(harness: &Harness, resume: u64) -> Client {
    let mut client = harness.client().await;
    client.session = client.open_session(resume, &[]).await.session;
    client
}

#[tokio::test]
async fn in_one_process_a_restart_ends_the_sessions_of_this_host() {
    let harness = Harness::over(conf(), Arc::new(memory()), true).await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let file = client.create(ROOT, "f", WriteType::AsyncThrough).await.unwrap();
    let (inode, version) = (file.attr.unwrap().inode, file.write.unwrap().version);
    worker.keep(inode, version, "promised");
    let durable = MarkDurable {
        inode,
        version,
        length: 8,
        mtime_ns: 1,
    };
    let _: Empty = client.ask(Op::MarkDurable(durable)).await.unwrap();
    let (session, id, files) = (client.session, worker.id, worker.files.clone());
    drop((client, worker));
    harness.master.shutdown().await;
    let Harness {
        dir, conf, ufs, master, ..
    } = harness;
    drop(master);
    let mut options = Harness::options(&dir, &conf, &ufs, true);
    options.end_sessions_of_hosts = vec!["another name".into(), HOST.into()];
    let master = Master::start(&conf, options).await.unwrap();
    let _worker = FakeWorker::start_with(master.clone(), ufs, HOST, id, files).await;
    let again = Client::open(master).await;
    assert_eq!(session + 1, again.session);
    eventually("recovery", || async {
        again.lookup(ROOT, "f").await.is_ok_and(|attr| attr.size == 8)
    })
    .await;
}

#[tokio::test]
async fn a_first_start_needs_a_usable_store_and_writes_nothing_without() {
    let dir = tempfile::tempdir().unwrap();
    let ufs = Arc::new(memory());
    for (fault, kind) in [
        (UfsErrorKind::Denied, ErrorKind::UfsDenied),
        (UfsErrorKind::StoreMissing, ErrorKind::Unavailable),
        (UfsErrorKind::Unreachable, ErrorKind::Unavailable),
    ] {
        ufs.faults().fail_next(Call::Probe, 1, fault);
        let error = Harness::open(&dir, &conf(), &ufs, true).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains("use memory://objects as root"), "{error}");
        assert!(!dir.path().join("journal").exists());
    }
    let master = Harness::open(&dir, &conf(), &ufs, true).await.unwrap();
    master.shutdown().await;
    drop(master);
    // Once formatted, an unreachable store is no reason not to serve.
    ufs.faults().fail_next(Call::Probe, u32::MAX, UfsErrorKind::Unreachable);
    let master = Harness::open(&dir, &conf(), &ufs, true).await.unwrap();
    master.shutdown().await;
}

#[tokio::test]
async fn folders_and_roots_of_others_are_refused() {
    let ufs = Arc::new(memory());
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&dir, &other] {
        Harness::open(dir, &conf(), &ufs, true).await.unwrap().shutdown().await;
    }
    let mut changed = conf();
    changed.set(keys::master::ROOT_UFS.name, "s3://another/root");
    let error = Harness::open(&dir, &changed, &ufs, true).await.unwrap_err();
    assert!(
        error.message.contains("s3://another/root") && error.message.contains("memory://objects"),
        "{error}"
    );
    let mut options = Harness::options(&dir, &conf(), &ufs, true);
    options.journal_dir = other.path().join("journal");
    let error = Master::start(&conf(), options).await.unwrap_err();
    assert!(error.message.contains("belong together"), "{error}");
    let mut options = Harness::options(&dir, &conf(), &ufs, true);
    options.journal_dir = dir.path().join("new");
    let error = Master::start(&conf(), options).await.unwrap_err();
    assert!(error.message.contains("is empty"), "{error}");
    Harness::open(&dir, &conf(), &ufs, true).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn our_own_folders_are_no_under_storage() {
    let dir = tempfile::tempdir().unwrap();
    let ufs = Arc::new(memory());
    let mut conf = conf();
    conf.set(
        keys::master::ROOT_UFS.name,
        dir.path().join("journal/x").to_str().unwrap(),
    );
    let error = Harness::open(&dir, &conf, &ufs, true).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.message.contains("is a folder of ours"), "{error}");
}

#[tokio::test]
async fn mounting_at_run_time() {
    let harness = Harness::start().await;
    let client = harness.client().await;
    let store = tempfile::tempdir().unwrap();
    std::fs::write(store.path().join("hello"), "world").unwrap();
    let mount = Mount {
        path: "/m".into(),
        uri: store.path().to_str().unwrap().into(),
        read_only: true,
        shared: true,
        options: vec![Property {
            key: "s3a.secretKey".into(),
            value: "hush".into(),
        }],
        update: false,
    };
    let info: MountInfo = client.ask(Op::Mount(mount.clone())).await.unwrap();
    assert_eq!((info.path, info.ufs_type.as_str()), ("/m".into(), "posix"));
    assert_eq!(client.resolve("/m/hello").await.unwrap().size, 5);
    let m = client.resolve("/m").await.unwrap().inode;
    assert_eq!(client.mkdir(m, "x").await.unwrap_err().kind, ErrorKind::ReadOnly);
    let again: Result<MountInfo, _> = client.ask(Op::Mount(mount.clone())).await;
    assert_eq!(again.unwrap_err().kind, ErrorKind::Busy);
    let missing = Mount {
        path: "/n".into(),
        uri: "/does/not/exist".into(),
        ..mount
    };
    let refused: Result<MountInfo, _> = client.ask(Op::Mount(missing)).await;
    let refused = refused.unwrap_err();
    assert!(refused.message.contains("/does/not/exist"), "{refused}");
    assert!(!refused.is_retryable(), "asking again does not make it: {refused}");
    assert_eq!(client.lookup(ROOT, "n").await.unwrap_err().kind, ErrorKind::NotFound);
    // Credentials are for workers.
    let worker = harness.worker().await;
    let table: MountTable = client.ask(Op::GetMounts(GetMounts::default())).await.unwrap();
    assert_eq!(
        (table.mounts.len(), table.mounts[1].options[0].value.as_str()),
        (2, "******")
    );
    assert!(table.mounts[1].sealed.is_empty());
    let proven = GetMounts {
        for_worker: worker.id,
        proof: Some(prove(&harness.master, worker.id).await),
    };
    let table: MountTable = client.ask(Op::GetMounts(proven.clone())).await.unwrap();
    assert_eq!(table.mounts[1].options[0].value, "******", "in clear for nobody");
    let secret = harness.master.core.ufs.secret().get().unwrap();
    let context = [
        &proven.proof.as_ref().unwrap().answer[..],
        &table.mounts[1].mount_id.to_le_bytes(),
    ];
    let clear = secret
        .unseal(secret::FOR_ONE_WORKER, &context, &table.mounts[1].sealed)
        .unwrap();
    assert!(clear.windows(4).any(|part| part == b"hush"));
    // The same proof again, none, another worker's, and one of somebody who is not registered.
    let named = GetMounts {
        for_worker: worker.id,
        proof: None,
    };
    let anothers = GetMounts {
        for_worker: worker.id,
        proof: Some(prove(&harness.master, worker.id + 1).await),
    };
    let stranger = GetMounts {
        for_worker: 77,
        proof: Some(prove(&harness.master, 77).await),
    };
    for refused in [proven, named, anothers, stranger] {
        let answer: Result<MountTable, _> = client.ask(Op::GetMounts(refused.clone())).await;
        assert!(answer.is_err(), "{refused:?}");
    }
    let root: Result<Empty, _> = client.ask(Op::Unmount(Unmount { path: "/".into() })).await;
    assert_eq!(root.unwrap_err().kind, ErrorKind::InvalidArgument);
    let _: Empty = client.ask(Op::Unmount(Unmount { path: "/m".into() })).await.unwrap();
    assert_eq!(client.resolve("/m").await.unwrap_err().kind, ErrorKind::NotFound);
    assert!(store.path().join("hello").exists());
}

#[tokio::test]
async fn reports_and_capacity() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let report: Report = client.ask(Op::GetReport(GetReport::default())).await.unwrap();
    assert_eq!(report.cluster_id, harness.master.cluster_id());
    assert_eq!((report.sessions, report.inodes, report.workers.len()), (1, 1, 1));
    assert!(report.workers[0].live && !report.safe_mode && report.journal_index > 0);
    assert_eq!(report.workers[0].address.as_ref().unwrap().worker_id, worker.id);
    let space: FsStat = client.ask(Op::StatFs(StatFs { inode: ROOT })).await.unwrap();
    assert!(space.total_bytes > 0 && space.files == 1);
    assert_eq!(harness.master.metrics().value("Master.TotalPaths"), Some(1));
    client.write(&worker, ROOT, "f", "x").await;
    assert_eq!(harness.master.metrics().value("Master.FilesCreated"), Some(1));
    assert_eq!(harness.master.metrics().value("Master.FilesCompleted"), Some(1));
}

#[tokio::test]
async fn unknown_workers_must_register_and_foreign_ones_must_not() {
    let harness = Harness::start().await;
    let client = harness.client().await;
    let beat = WorkerHeartbeat {
        worker_id: 5,
        ..Default::default()
    };
    let tasks: WorkerTasks = client.ask(Op::WorkerHeartbeat(beat)).await.unwrap();
    assert!(tasks.reregister);
    let foreign = RegisterWorker {
        cluster_id: "another".into(),
        proof: Some(prove(&harness.master, 0).await),
        ..Default::default()
    };
    let refused: Result<Registered, _> = client.ask(Op::RegisterWorker(foreign)).await;
    assert!(refused.unwrap_err().message.contains("belongs to cluster another"));
}

#[tokio::test]
async fn frames_carry_requests_and_streams() {
    let harness = Harness::start().await;
    let local = harness.client().await;
    let listener = Listener::bind_tcp("127.0.0.1", 0).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(harness.master.clone().serve(listener));
    let client = RpcClient::new(vec![Address::tcp("127.0.0.1", port)], ClientOptions::default());
    let call = |op| {
        let header = MasterRequest {
            op: Some(op),
            ..local.request(Op::KeepAlive(KeepAlive {}))
        }
        .encode_to_vec();
        client.call(SERVICE_MASTER, header.into(), bytes::Bytes::new())
    };
    let (reply, _) = call(Op::GetAttr(GetAttr { inode: ROOT })).await.unwrap();
    let Some(Reply::Attr(attr)) = MasterReply::decode(reply).unwrap().reply else {
        panic!("another answer")
    };
    assert_eq!(attr.inode, ROOT);
    let missing = call(Op::GetAttr(GetAttr { inode: 99 })).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::Gone);
    let garbage = client
        .call(
            SERVICE_MASTER,
            bytes::Bytes::from_static(b"\xff\xff\xff"),
            bytes::Bytes::new(),
        )
        .await;
    assert_eq!(garbage.unwrap_err().kind, ErrorKind::InvalidArgument);
    let header = MasterRequest {
        session: local.session,
        ..Default::default()
    }
    .encode_to_vec();
    let mut stream = client.stream(SERVICE_MASTER, header.into()).await.unwrap();
    let batch = WatchBatch::decode(stream.next().await.unwrap().unwrap()).unwrap();
    assert_eq!(batch.items[0].event, Some(WatchEvent::Reset(Empty {})));
    harness.master.shutdown().await;
    serving.await.unwrap();
}

#[tokio::test]
async fn without_room_for_metadata_it_is_read_only() {
    let dir = tempfile::tempdir().unwrap();
    let stat = nix::sys::statvfs::statvfs(dir.path()).unwrap();
    let free = stat.blocks_available() * stat.fragment_size();
    let mut conf = conf();
    conf.set(keys::master::JOURNAL_SPACE_LOW.name, &(free * 2).to_string());
    let harness = Harness::with(conf).await;
    harness.put("f", "x").await;
    let client = harness.client().await;
    let error = client.mkdir(ROOT, "d").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSpace);
    assert!(error.message.contains("make room"), "{error}");
    assert_eq!(client.names(ROOT).await.unwrap(), ["f"]);
    let file = client.resolve("/f").await.unwrap().inode;
    client.open_file(file, false).await.unwrap();
    client.close(file, false).await.unwrap();
    client.unlink(ROOT, "f").await.unwrap();
    client.wait_persisted("/", LONG).await.unwrap();
}

/// Below what nothing is journaled with, on the disk of `dir`.
fn no_room(dir: &std::path::Path) -> String {
    let stat = nix::sys::statvfs::statvfs(dir).unwrap();
    (stat.blocks_free() * stat.fragment_size() * 8).to_string()
}

#[tokio::test]
async fn without_any_room_it_starts_and_what_ends_comes_later() {
    let mut harness = Harness::over(conf(), Arc::new(memory()), true).await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let read = client.write(&worker, ROOT, "read", "x").await;
    client.wait_persisted("/", LONG).await.unwrap();
    client.open_file(read, false).await.unwrap();
    client.unlink(ROOT, "read").await.unwrap();
    let opened = client.create(ROOT, "written", WriteType::AsyncThrough).await.unwrap();
    let written = opened.attr.as_ref().unwrap().inode;
    let gone = Client::open(harness.master.clone()).await;
    let (session, ended) = (client.session, gone.session);
    drop((client, gone, worker));
    harness
        .conf
        .set(keys::master::JOURNAL_SPACE_LOW.name, &no_room(harness.dir.path()));
    let mut harness = harness
        .restart_with(|options| options.end_sessions_of_hosts = vec![HOST.into()])
        .await;
    // It serves, read-only; what nobody can be told of is tried again.
    let client = harness.client_of(session);
    assert_eq!(client.lookup(ROOT, "written").await.unwrap().inode, written);
    assert_eq!(client.mkdir(ROOT, "d").await.unwrap_err().kind, ErrorKind::NoSpace);
    client.open_session(session, &[read]).await;
    for (inode, write) in [(read, false), (read, false), (written, true)] {
        let error = client.close(inode, write).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
    }
    let state = harness.master.state().clone();
    assert!(state.inode(alluxio_proto::InodeId(read)).is_ok());
    drop((client, state));
    harness.conf.set(keys::master::JOURNAL_SPACE_LOW.name, "0");
    let harness = harness.restart_with(|_| {}).await;
    let client = harness.client_of(session);
    client.open_session(session, &[read]).await;
    for (inode, write) in [(read, false), (read, false), (written, true)] {
        // The first is one whose answer was lost, to the client.
        client.close(inode, write).await.unwrap();
    }
    assert!(
        harness.master.state().inode(alluxio_proto::InodeId(read)).is_err(),
        "nobody has it open"
    );
    // The other session is one that falls silent.
    assert!(
        harness
            .master
            .state()
            .sessions()
            .unwrap()
            .iter()
            .any(|there| there.id == ended)
    );
}

#[tokio::test]
async fn damage_of_a_file_that_is_gone_is_reported_without_a_path() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let file = client.write(&worker, ROOT, "f", "x").await;
    client.unlink(ROOT, "f").await.unwrap();
    worker.kill();
    let kept = client.mkdir(ROOT, "kept").await.unwrap().inode;
    let damaged = |inode| DamagedRange {
        inode,
        version: 1,
        offset: 0,
        length: 1,
        path: Default::default(),
    };
    let beat = WorkerHeartbeat {
        worker_id: worker.id,
        damaged: vec![damaged(file), damaged(kept)],
        ..Default::default()
    };
    let _: WorkerTasks = client.ask(Op::WorkerHeartbeat(beat)).await.unwrap();
    let report: Report = client.ask(Op::GetReport(GetReport::default())).await.unwrap();
    let paths: Vec<_> = report.workers[0]
        .damaged
        .iter()
        .map(|range| range.path.clone())
        .collect();
    assert_eq!(paths, ["", "/kept"]);
}

#[tokio::test]
async fn metrics_have_alluxios_names_where_alluxio_has_one() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    harness
        .ufs
        .faults()
        .fail_next(Call::Write, 2, UfsErrorKind::Unreachable);
    client.write(&worker, ROOT, "f", "x").await;
    client.wait_persisted("/", LONG).await.unwrap();
    let value = |name| harness.master.metrics().value(name);
    for (name, expected) in [
        ("Cluster.Workers", 1),
        ("Master.AsyncPersistFail", 2),
        ("Master.AsyncPersistSuccess", 1),
        ("Master.FilesPersisted", 1),
        ("Master.FilesCreated", 1),
    ] {
        eventually(name, || async { value(name) == Some(expected) }).await;
    }
    // These mean something else in Alluxio.
    assert_eq!(value("Master.GetFileInfoOps"), None);
}

/// Turns some bytes of every file beneath a folder around.
fn damage(dir: &std::path::Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damage(&path);
        } else if !path.ends_with("lock") {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.iter_mut().step_by(7).for_each(|byte| *byte ^= 0x5a);
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

fn kept_aside(dir: &std::path::Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("metastore.damaged-"))
        .count()
}

#[tokio::test]
async fn a_damaged_metastore_is_rebuilt_from_the_journal() {
    let ufs = Arc::new(memory());
    let mut harness = Harness::over(conf(), ufs, true).await;
    let client = harness.client().await;
    let mut names = Vec::new();
    for life in 0..3 {
        for n in 0..50 {
            names.push(format!("d{life}-{n:02}"));
            harness.client().await.mkdir(ROOT, names.last().unwrap()).await.unwrap();
        }
        if life == 1 {
            // The rest is in the log.
            harness.master.core.journal.checkpoint().await.unwrap();
        }
    }
    let (session, cluster) = (client.session, harness.master.cluster_id());
    drop(client);
    let Harness {
        dir,
        conf,
        ufs,
        master,
        on_disk,
    } = harness;
    master.shutdown().await;
    drop(master);
    damage(&dir.path().join("metastore"));
    let master = Harness::open(&dir, &conf, &ufs, on_disk).await.unwrap();
    harness = Harness {
        dir,
        conf,
        ufs,
        master,
        on_disk,
    };
    let again = client_of(&harness, session).await;
    assert_eq!((again.session, harness.master.cluster_id()), (session, cluster));
    assert_eq!(again.names(ROOT).await.unwrap(), names);
    assert_eq!(kept_aside(harness.dir.path()), 1);
    // What is found to be damaged while it serves is rebuilt at the next start.
    drop(again);
    crate::service::rebuild::leave_mark(&harness.dir.path().join("metastore"), "a test says so").unwrap();
    let harness = harness.restart().await;
    assert_eq!(kept_aside(harness.dir.path()), 2);
    assert_eq!(client_of(&harness, session).await.names(ROOT).await.unwrap(), names);
    let harness = harness.restart().await;
    assert_eq!(kept_aside(harness.dir.path()), 2, "once");
}

#[tokio::test]
async fn a_damaged_metastore_that_nothing_can_rebuild_is_refused_and_kept() {
    let ufs = Arc::new(memory());
    let mut conf = conf();
    conf.set(keys::master::JOURNAL_SEGMENT_BYTES.name, "64KB");
    let harness = Harness::over(conf, ufs, true).await;
    let client = harness.client().await;
    // Enough that whole segments are dropped before the older of two snapshots.
    for life in 0..8 {
        let many = (0..400).map(|n| {
            let client = client.clone();
            async move {
                client
                    .mkdir(ROOT, &format!("a-longer-name-of-a-directory-{life}-{n}"))
                    .await
            }
        });
        for made in futures::future::join_all(many).await {
            made.unwrap();
        }
        harness.master.core.journal.checkpoint().await.unwrap();
    }
    drop(client);
    let Harness {
        dir,
        conf,
        ufs,
        master,
        on_disk,
    } = harness;
    master.shutdown().await;
    drop(master);
    let metastore = dir.path().join("metastore");
    damage(&metastore);
    let snapshots = dir.path().join("journal/snapshots");
    let kept = dir.path().join("kept");
    alluxio_common::crashsafe::rename(&snapshots, &kept).unwrap();
    let before = std::fs::read_dir(&metastore).unwrap().count();
    for _ in 0..2 {
        let error = Harness::open(&dir, &conf, &ufs, on_disk).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
        assert!(error.message.contains("`alluxio format`"), "{error}");
        assert_eq!(std::fs::read_dir(&metastore).unwrap().count(), before, "put back");
        assert_eq!(kept_aside(dir.path()), 0);
    }
    // With the snapshots back, it is rebuilt.
    std::fs::remove_dir_all(&snapshots).unwrap();
    alluxio_common::crashsafe::rename(&kept, &snapshots).unwrap();
    let master = Harness::open(&dir, &conf, &ufs, on_disk).await.unwrap();
    assert_eq!(master.state().counters().inodes, 3201);
    master.shutdown().await;
}

#[tokio::test]
async fn who_has_not_the_secret_is_no_worker() {
    let harness = Harness::start().await;
    let client = harness.client().await;
    let without: Result<Registered, _> = client.ask(Op::RegisterWorker(RegisterWorker::default())).await;
    let error = without.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotPermitted);
    assert!(
        error.message.contains("alluxio.security.cluster.secret.file"),
        "{error}"
    );
    let challenged: Challenged = client.ask(Op::Challenge(Challenge {})).await.unwrap();
    let wrong = RegisterWorker {
        proof: Some(ClusterSecret::generate().prove(0, &challenged.challenge)),
        ..Default::default()
    };
    let wrong: Result<Registered, _> = client.ask(Op::RegisterWorker(wrong)).await;
    assert_eq!(wrong.unwrap_err().kind, ErrorKind::NotPermitted);
}

#[tokio::test]
async fn credentials_of_an_old_journal_load_and_are_sealed() {
    let (harness, store) = (Harness::start().await, tempfile::tempdir().unwrap());
    let secret_option = |key: &str, value: &str| Property {
        key: key.into(),
        value: value.into(),
    };
    // As software without seals journaled it.
    let old = crate::state::command::MountUfs {
        parent: ROOT,
        name: "old".into(),
        inode: 0,
        mode: 0o755,
        spec: Some(crate::state::command::MountSpec {
            uri: format!("file://{}", store.path().display()),
            options: vec![
                secret_option("s3a.secretKey", "hush"),
                secret_option("alluxio.x", "plain"),
            ],
            ufs_type: "posix".into(),
            ..Default::default()
        }),
    };
    let id = harness.master.core.propose_own(old).await.unwrap().id;
    let harness = harness.restart().await;
    let record = harness.master.core.state.mount(alluxio_proto::MountId(id)).unwrap();
    assert_eq!(record.options(), [secret_option("alluxio.x", "plain")]);
    let options = super::super::credentials::options_of(harness.master.core.ufs.secret(), &record).unwrap();
    assert!(options.contains(&secret_option("s3a.secretKey", "hush")));
    // Once sealed, the secret is needed.
    let path = harness.master.core.ufs.secret().path().to_owned();
    let kept = std::fs::read(&path).unwrap();
    let (conf, ufs, on_disk) = (harness.conf.clone(), harness.ufs.clone(), harness.on_disk);
    harness.master.shutdown().await;
    let Harness { dir, master, .. } = harness;
    let old = Arc::downgrade(&master);
    drop(master);
    eventually("the end of the old master", || async { old.strong_count() == 0 }).await;
    std::fs::remove_file(&path).unwrap();
    let missing = Harness::open(&dir, &conf, &ufs, on_disk).await.unwrap_err();
    assert!(missing.message.contains("cluster.secret"), "{missing}");
    alluxio_common::crashsafe::write_atomic(&path, &kept).unwrap();
    Harness::open(&dir, &conf, &ufs, on_disk).await.unwrap();
}
