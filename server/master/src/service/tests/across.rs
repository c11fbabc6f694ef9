//! Renames between two mounts, with a store that fails in between: the root in memory, with faults, and a folder at `/m`.

use super::harness::*;
use alluxio_proto::ErrorKind;
use alluxio_proto::master::*;
use alluxio_ufs::fault::Call;
use alluxio_ufs::{UfsErrorKind, memory};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;

struct World {
    harness: Harness,
    client: Client,
    /// Who makes the copies.
    worker: Option<FakeWorker>,
    folder: TempDir,
    /// Inode of `/m`.
    point: u64,
}

impl World {
    async fn start() -> World {
        let mut world = Self::without_worker().await;
        world.worker = Some(world.harness.worker().await);
        world
    }

    async fn without_worker() -> World {
        let harness = Harness::over(conf(), Arc::new(memory()), true).await;
        let client = harness.client().await;
        let folder = tempfile::tempdir().unwrap();
        let mount = Mount {
            path: "/m".into(),
            uri: folder.path().to_str().unwrap().into(),
            ..Default::default()
        };
        let _: MountInfo = client.ask(Op::Mount(mount)).await.unwrap();
        let point = client.resolve("/m").await.unwrap().inode;
        World {
            harness,
            client,
            worker: None,
            folder,
            point,
        }
    }

    async fn rename(&self, parent: u64, name: &str, new_parent: u64) -> alluxio_proto::FsResult<Empty> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        let rename = Rename {
            parent,
            new_parent,
            new_name: name.clone(),
            name,
            across_mounts: true,
            ..Default::default()
        };
        self.client.ask(Op::Rename(rename)).await
    }

    /// The mount that a file is read from.
    async fn source_of(&self, path: &str) -> u64 {
        let inode = self.client.resolve(path).await.unwrap().inode;
        let opened = self.client.open_file(inode, false).await.unwrap();
        self.client.close(inode, false).await.unwrap();
        opened.read.unwrap().ufs.unwrap().mount_id
    }

    fn in_folder(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join(name)).ok()
    }

    async fn wait_all(&self) {
        self.client.wait_persisted("/", LONG).await.unwrap();
    }

    async fn restart(self) -> World {
        let session = self.client.session;
        drop(self.client);
        drop(self.worker);
        let harness = self.harness.restart().await;
        World {
            client: harness.client_of(session),
            worker: Some(harness.worker().await),
            harness,
            folder: self.folder,
            point: self.point,
        }
    }
}

#[tokio::test]
async fn what_the_other_store_does_not_take_is_read_where_it_is() {
    let world = World::start().await;
    std::fs::write(world.folder.path().join("f"), "one").unwrap();
    let faults = world.harness.ufs.faults();
    faults.fail_next(Call::Write, u32::MAX, UfsErrorKind::Denied);
    let before = world.client.lookup(world.point, "f").await.unwrap();
    let was = world.source_of("/m/f").await;
    world.rename(world.point, "f", ROOT).await.unwrap();
    eventually("a try", || async { faults.calls(Call::Write) > 1 }).await;
    assert_eq!(
        world.client.lookup(world.point, "f").await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(world.source_of("/f").await, was);
    let world = world.restart().await;
    assert_eq!(
        (world.source_of("/f").await, world.in_folder("f").as_deref()),
        (was, Some("one"))
    );
    world.harness.ufs.faults().heal();
    world.wait_all().await;
    let after = world.client.resolve("/f").await.unwrap();
    assert_eq!(
        (after.inode, after.version, after.mode, after.mtime_ns),
        (before.inode, before.version, before.mode, before.mtime_ns)
    );
    assert_ne!(world.source_of("/f").await, was);
    assert_eq!(world.in_folder("f"), None);
    let expected = BTreeMap::from([("f".to_owned(), "one".to_owned())]);
    assert_eq!(world.harness.objects().await, expected);
}

#[tokio::test]
async fn a_source_that_is_not_deleted_yet_is_not_needed_any_more() {
    let world = World::start().await;
    world.harness.put("f", "one").await;
    world.client.lookup(ROOT, "f").await.unwrap();
    let was = world.source_of("/f").await;
    world
        .harness
        .ufs
        .faults()
        .fail_next(Call::Delete, u32::MAX, UfsErrorKind::Unreachable);
    world.rename(ROOT, "f", world.point).await.unwrap();
    eventually("a try to delete", || async { world.harness.calls(Call::Delete) > 0 }).await;
    assert_eq!(world.in_folder("f").as_deref(), Some("one"));
    assert_ne!(world.source_of("/m/f").await, was);
    assert_eq!(
        world.client.lookup(ROOT, "f").await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    let world = world.restart().await;
    assert_eq!(world.harness.objects().await.len(), 1);
    world.harness.ufs.faults().heal();
    world.wait_all().await;
    assert_eq!(world.harness.objects().await, BTreeMap::new());
    assert_eq!(world.in_folder("f").as_deref(), Some("one"));
}

#[tokio::test]
async fn what_somebody_put_in_its_place_is_neither_moved_nor_deleted() {
    let world = World::start().await;
    world.harness.put("f", "ours").await;
    world.client.lookup(ROOT, "f").await.unwrap();
    let faults = world.harness.ufs.faults();
    faults.fail_next(Call::Read, u32::MAX, UfsErrorKind::Unreachable);
    world.rename(ROOT, "f", world.point).await.unwrap();
    eventually("a try", || async { faults.calls(Call::Read) > 0 }).await;
    world.harness.put("f", "somebody's").await;
    faults.heal();
    world.wait_all().await;
    assert_eq!(world.in_folder("f"), None);
    let expected = BTreeMap::from([("f".to_owned(), "somebody's".to_owned())]);
    assert_eq!(world.harness.objects().await, expected);
}

#[tokio::test]
async fn a_tree_of_unknown_names_is_known_before_it_moves() {
    let world = World::start().await;
    for name in ["d/a", "d/e/b", "d/e/c/d"] {
        world.harness.put(name, name).await;
    }
    let faults = world.harness.ufs.faults();
    faults.fail_next(Call::List, 1, UfsErrorKind::Unreachable);
    assert_eq!(
        world.rename(ROOT, "d", world.point).await.unwrap_err().kind,
        ErrorKind::Unavailable
    );
    world.rename(ROOT, "d", world.point).await.unwrap();
    world.wait_all().await;
    for name in ["d/a", "d/e/b", "d/e/c/d"] {
        assert_eq!(world.in_folder(name).as_deref(), Some(name));
    }
    assert_eq!(world.harness.objects().await, BTreeMap::new());
    assert_eq!(
        world.client.lookup(ROOT, "d").await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    // One that is too large does not, and nothing has changed.
    for number in 0..crate::state::command::ACROSS_INODES_MAX {
        world.harness.put(&format!("large/{number}"), "").await;
    }
    assert_eq!(
        world.rename(ROOT, "large", world.point).await.unwrap_err().kind,
        ErrorKind::CrossesMounts
    );
    assert_eq!(
        world.client.resolve("/large").await.unwrap().entries,
        crate::state::command::ACROSS_INODES_MAX as u64
    );
}

#[tokio::test]
async fn a_copy_waits_for_a_worker_and_touches_no_store_meanwhile() {
    let world = World::without_worker().await;
    world.harness.put("f", "one").await;
    let before = world.client.lookup(ROOT, "f").await.unwrap();
    world.rename(ROOT, "f", world.point).await.unwrap();
    let report = || async {
        world
            .client
            .ask::<Report>(Op::GetReport(GetReport::default()))
            .await
            .unwrap()
    };
    eventually("the report to say so", || async { report().await.copies_waiting == 1 }).await;
    assert_eq!(world.harness.calls(Call::Read), 0);
    // It is read where it is.
    assert!(world.client.lookup(ROOT, "f").await.is_err());
    assert_eq!(world.client.resolve("/m/f").await.unwrap().inode, before.inode);
    assert_eq!(world.in_folder("f"), None);
    let _worker = world.harness.worker().await;
    world.wait_all().await;
    assert_eq!(world.in_folder("f").as_deref(), Some("one"));
    assert_eq!(world.harness.objects().await, BTreeMap::new());
    assert_eq!(report().await.copies_waiting, 0);
    let copies = |name: &str| world.harness.master.metrics().value(name);
    assert_eq!(
        (copies("Master.CopiesByWorkers"), copies("Master.CopiesInsideStores")),
        (Some(1), Some(0))
    );
}

#[tokio::test]
async fn what_a_worker_says_of_a_copy_is_looked_at() {
    let world = World::start().await;
    world.harness.put("f", "one").await;
    let file = world.client.lookup(ROOT, "f").await.unwrap();
    // Its worker takes its time.
    let worker = world.worker.as_ref().unwrap();
    let hold = worker.hold.clone();
    let held = hold.write().await;
    world.rename(ROOT, "f", world.point).await.unwrap();
    let core = &world.harness.master.core;
    let pending = || core.state.intents_of(alluxio_proto::InodeId(file.inode)).unwrap();
    eventually("the copy to be given out", || async {
        let given = pending().first().map(|intent| alluxio_proto::IntentId(intent.id));
        given.is_some_and(|id| core.queue.offered_to(id).is_some())
    })
    .await;
    let intent = pending().remove(0);
    let lie = CopyDone {
        worker_id: worker.id,
        intent: intent.id,
        mount_id: intent.to_mount_id,
        path: intent.to_path.clone(),
        source_fingerprint: intent.expect[0].clone(),
        fingerprint: "never".into(),
        length: 3,
        error: None,
    };
    let _: Empty = world.client.ask(Op::CopyDone(lie)).await.unwrap();
    assert_eq!(
        pending()[0].kind(),
        crate::state::IntentKind::Rename,
        "nothing is deleted for it"
    );
    assert_eq!(world.harness.objects().await.len(), 1);
    drop(held);
    world.wait_all().await;
    assert_eq!(world.in_folder("f").as_deref(), Some("one"));
    assert_eq!(world.harness.objects().await, BTreeMap::new());
    // Told once more of what has been confirmed, nothing happens.
    let late = CopyDone {
        worker_id: worker.id,
        intent: intent.id,
        ..Default::default()
    };
    let _: Empty = world.client.ask(Op::CopyDone(late)).await.unwrap();
}
