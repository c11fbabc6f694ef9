//! Starts over what older software left, and over what was lost.

use super::harness::*;
use crate::metastore::HeapStore;
use crate::state::command::{self, CloseWrite, CreateFile, EndSession, Format, MountSpec};
use crate::state::{Body, Command, Outcome, RULES, State, StateOptions};
use alluxio_common::config::keys;
use alluxio_journal::{Journal, JournalOptions, NodeId};
use alluxio_proto::ErrorKind;
use alluxio_proto::master::*;
use alluxio_proto::types::{Caller, FileKind, Property};
use alluxio_ufs::memory;
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

/// A journal, written before commands had rules.
struct OldJournal(Journal<State>);

impl OldJournal {
    async fn open(dir: &Path) -> OldJournal {
        let state = State::open(Arc::new(HeapStore::default()), StateOptions::default()).unwrap();
        let options = JournalOptions::new(dir, "00112233445566778899aabbccddeeff", NodeId(1));
        OldJournal(Journal::open(options, Arc::new(state)).await.unwrap())
    }

    async fn propose(&self, session: u64, user: Option<&str>, body: impl Into<Body>) -> Outcome {
        let command = Command {
            session,
            superuser: user.is_none(),
            caller: user.map(|user| Caller {
                user: user.into(),
                groups: Vec::new(),
            }),
            ..Command::system(1_000, body)
        };
        self.0.propose(command).await.unwrap()
    }

    async fn create(&self, session: u64, name: &'static str) -> u64 {
        let create = CreateFile {
            parent: ROOT,
            name: name.into(),
            mode: 0o644,
            open: session != 0,
            home_worker: 1,
            ..Default::default()
        };
        let created = self.propose(session, None, create).await.result.unwrap();
        created.attr.unwrap().inode
    }
}

fn whiteout(name: &'static str) -> command::Mknod {
    command::Mknod {
        parent: ROOT,
        name: name.into(),
        kind: FileKind::CharDevice as i32,
        ..Default::default()
    }
}

#[tokio::test]
async fn what_older_software_journaled_gives_what_it_gave() {
    let ufs = Arc::new(memory());
    let dir = tempfile::tempdir().unwrap();
    let old = OldJournal::open(&dir.path().join("journal")).await;
    let format = Format {
        cluster_id: "00112233445566778899aabbccddeeff".into(),
        owner: "root".into(),
        group: "root".into(),
        mode: 0o777,
        root: Some(MountSpec {
            uri: "memory://objects".into(),
            ufs_type: "memory".into(),
            ..Default::default()
        }),
        rules: 0,
    };
    old.propose(0, None, format).await.result.unwrap();
    for _ in 0..2 {
        old.propose(0, None, command::OpenSession::default())
            .await
            .result
            .unwrap();
    }
    // Each of these did something else then, and what comes after has its id by that.
    assert_eq!(old.create(1, "f").await, 2);
    let durable = command::MarkDurable {
        inode: 2,
        version: 1,
        length: 5,
        mtime_ns: 1,
    };
    old.propose(2, None, durable).await.result.unwrap();
    old.propose(0, None, EndSession { id: 1 }).await.result.unwrap();
    let close = CloseWrite {
        inode: 2,
        abandon: true,
        ..Default::default()
    };
    old.propose(2, None, close).await.result.unwrap();
    let refused = old.propose(2, Some("ann"), whiteout("w")).await.result.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotPermitted);
    assert_eq!(old.create(0, "g").await, 3);
    let rename = command::Rename {
        parent: ROOT,
        name: "g".into(),
        new_parent: ROOT,
        new_name: "h".into(),
        flags: command::RENAME_WHITEOUT,
        ..Default::default()
    };
    let refused = old.propose(2, None, rename).await.result.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidArgument);
    assert_eq!(old.create(0, "f").await, 4, "the first was abandoned");
    assert_eq!(old.create(0, "last").await, 5);
    old.0.shutdown().await.unwrap();
    drop(old);
    // Twice: from the log, and from the checkpoint that the first start takes, with what came after it.
    let mut master = Harness::open(&dir, &conf(), &ufs, false).await.unwrap();
    for start in 0..2 {
        let client = Client::open(master.clone()).await;
        for (name, inode) in [("f", 4), ("g", 3), ("last", 5)] {
            assert_eq!(
                client.lookup(ROOT, name).await.unwrap().inode,
                inode,
                "{name}, start {start}"
            );
        }
        assert_eq!(master.state().counters().rules, RULES);
        let spec = master.state().mounts()[0].spec.clone().unwrap();
        assert!(
            spec.stores_attributes && spec.stores_symlinks,
            "what the store can do is found out"
        );
        eventually("the checkpoint", || async {
            let report: Report = client.ask(Op::GetReport(GetReport::default())).await.unwrap();
            report.journal_snapshot_index > 0
        })
        .await;
        // From now on, anybody makes whiteouts.
        let mut ann = client.clone();
        ann.caller.user = "ann".into();
        ann.caller.groups = Vec::new();
        let name = Bytes::from(format!("whiteout{start}"));
        let mknod = Mknod {
            parent: ROOT,
            name: name.clone(),
            kind: FileKind::CharDevice as i32,
            ..Default::default()
        };
        let made: alluxio_proto::types::Attr = ann.ask(Op::Mknod(mknod)).await.unwrap();
        assert_eq!(made.inode, 6 + start);
        drop((client, ann));
        stop(master).await;
        master = Harness::open(&dir, &conf(), &ufs, false).await.unwrap();
    }
}

/// Its folders are free when nobody holds it any more.
async fn stop(master: Arc<crate::service::MasterService>) {
    master.shutdown().await;
    let gone = Arc::downgrade(&master);
    drop(master);
    eventually("the end of the master", || async { gone.strong_count() == 0 }).await;
}

fn property(key: &str, value: &str) -> Property {
    Property {
        key: key.into(),
        value: value.into(),
    }
}

#[tokio::test]
async fn without_its_secret_a_cluster_keeps_its_names_and_is_given_its_credentials_again() {
    let ufs = Arc::new(memory());
    let harness = Harness::over(conf(), ufs.clone(), true).await;
    let (client, store) = (harness.client().await, tempfile::tempdir().unwrap());
    std::fs::write(store.path().join("hello"), "world").unwrap();
    let mount = Mount {
        path: "/m".into(),
        uri: store.path().to_str().unwrap().into(),
        options: vec![property("s3a.secretKey", "hush"), property("alluxio.x", "plain")],
        ..Default::default()
    };
    let _: MountInfo = client.ask(Op::Mount(mount)).await.unwrap();
    assert_eq!(client.resolve("/m/hello").await.unwrap().size, 5);
    let secret = harness.master.core.ufs.secret().path().to_owned();
    drop(client);
    let Harness {
        dir, mut conf, master, ..
    } = harness;
    stop(master).await;
    std::fs::remove_file(&secret).unwrap();
    let missing = Harness::open(&dir, &conf, &ufs, true).await.unwrap_err();
    let store_uri = format!("file://{}", store.path().display());
    for part in [
        "cluster.secret",
        "Restore the file",
        "alluxio.master.mount.credentials.forget=true",
        "mount --update",
        &store_uri,
    ] {
        assert!(missing.message.contains(part), "{part}: {missing}");
    }
    conf.set(keys::master::FORGET_CREDENTIALS.name, "true");
    stop(Harness::open(&dir, &conf, &ufs, true).await.unwrap()).await;
    // Once is enough.
    conf.set(keys::master::FORGET_CREDENTIALS.name, "false");
    let master = Harness::open(&dir, &conf, &ufs, true).await.unwrap();
    let harness = Harness {
        dir,
        conf,
        ufs,
        master,
        on_disk: true,
    };
    let client = harness.client().await;
    let table = async || -> MountTable { client.ask(Op::GetMounts(GetMounts::default())).await.unwrap() };
    let wanting = |table: &MountTable| {
        table
            .mounts
            .iter()
            .map(|mount| mount.wants_credentials)
            .collect::<Vec<_>>()
    };
    assert_eq!(wanting(&table().await), [false, true]);
    // The names are there; the store is not used.
    assert_eq!(client.resolve("/m/hello").await.unwrap().size, 5);
    let unused = client.resolve("/m/unknown").await.unwrap_err();
    assert!(unused.message.contains("mount --update"), "{unused}");
    let worker = harness.worker().await;
    let for_worker = async || -> MountTable {
        let get = GetMounts {
            for_worker: worker.id,
            proof: Some(prove(&harness.master, worker.id).await),
        };
        client.ask(Op::GetMounts(get)).await.unwrap()
    };
    assert_eq!(
        for_worker().await.mounts.len(),
        1,
        "workers ask again for what they do not find"
    );
    let update = |path: &str, uri: &str| Mount {
        path: Bytes::copy_from_slice(path.as_bytes()),
        uri: uri.into(),
        options: vec![property("s3a.secretKey", "new")],
        update: true,
        ..Default::default()
    };
    for (path, uri) in [("/m/hello", ""), ("/m", "/another")] {
        let refused: Result<MountInfo, _> = client.ask(Op::Mount(update(path, uri))).await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::InvalidArgument);
    }
    let mut ann = client.clone();
    ann.caller.user = "ann".into();
    ann.caller.groups = Vec::new();
    let refused: Result<MountInfo, _> = ann.ask(Op::Mount(update("/m", ""))).await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::NotPermitted);
    let _: MountInfo = client.ask(Op::Mount(update("/m", ""))).await.unwrap();
    assert_eq!(wanting(&table().await), [false, false]);
    assert_eq!(for_worker().await.mounts.len(), 2);
    assert_eq!(
        client.resolve("/m/unknown").await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    let record = harness.master.state().mount(alluxio_proto::MountId(2)).unwrap();
    let options = super::super::credentials::options_of(harness.master.core.ufs.secret(), &record).unwrap();
    assert_eq!(
        options,
        [property("alluxio.x", "plain"), property("s3a.secretKey", "new")]
    );
}
