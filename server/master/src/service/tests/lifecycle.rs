//! First start, later starts, mounts, serving.

use super::harness::*;
use crate::service::Master;
use alluxio_common::config::keys;
use alluxio_common::rpc::{Address, Client as RpcClient, ClientOptions, Listener, SERVICE_MASTER};
use alluxio_proto::ErrorKind;
use alluxio_proto::master::*;
use alluxio_proto::types::{Property, WriteType};
use alluxio_ufs::fault::Call;
use alluxio_ufs::{Semantics, UfsErrorKind, memory};
use futures::StreamExt;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

#[tokio::test]
async fn a_restart_keeps_names_and_resumes_intents() {
    for on_disk in [true, false] {
        let ufs = Arc::new(memory(Semantics::Object));
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
    let harness = Harness::over(conf(), Arc::new(memory(Semantics::Object)), true).await;
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
    options.end_sessions_of_host = Some(HOST.into());
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
    let ufs = Arc::new(memory(Semantics::Object));
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
    let ufs = Arc::new(memory(Semantics::Object));
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&dir, &other] {
        Harness::open(dir, &conf(), &ufs, true).await.unwrap().shutdown().await;
    }
    let mut changed = conf();
    changed.set(keys::master::ROOT_UFS.name, "memory://posix");
    let error = Harness::open(&dir, &changed, &ufs, true).await.unwrap_err();
    assert!(
        error.message.contains("memory://posix") && error.message.contains("memory://objects"),
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
    let ufs = Arc::new(memory(Semantics::Object));
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
    assert!(refused.unwrap_err().message.contains("/does/not/exist"));
    assert_eq!(client.lookup(ROOT, "n").await.unwrap_err().kind, ErrorKind::NotFound);
    // Credentials are for workers.
    let worker = harness.worker().await;
    for (for_worker, secret) in [(0, "******"), (worker.id, "hush")] {
        let table: MountTable = client.ask(Op::GetMounts(GetMounts { for_worker })).await.unwrap();
        assert_eq!(table.mounts.len(), 2);
        assert_eq!(table.mounts[1].options[0].value, secret);
    }
    let refused: Result<MountTable, _> = client.ask(Op::GetMounts(GetMounts { for_worker: 77 })).await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::NotPermitted);
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
    let report: Report = client.ask(Op::GetReport(GetReport {})).await.unwrap();
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
            ..local.request(Op::KeepAlive(Empty {}))
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
    assert_eq!(missing.kind, ErrorKind::NotFound);
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
