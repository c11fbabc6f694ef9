//! Intents become changes of the store, whatever happens meanwhile.

use super::harness::*;
use alluxio_proto::ErrorKind;
use alluxio_proto::master::*;
use alluxio_proto::types::{PersistState, WriteType};
use alluxio_ufs::fault::Call;
use alluxio_ufs::{Semantics, UfsErrorKind};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[tokio::test]
async fn what_is_committed_is_uploaded() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let dir = client.mkdir(ROOT, "d").await.unwrap().inode;
    let file = client.write(&worker, dir, "f", "content").await;
    client.wait_persisted("/d/f", LONG).await.unwrap();
    assert_eq!(
        harness.objects().await,
        BTreeMap::from([("d/f".into(), "content".into())])
    );
    let attr: alluxio_proto::types::Attr = client.ask(Op::GetAttr(GetAttr { inode: file })).await.unwrap();
    assert_eq!(attr.persist_state, PersistState::Persisted as i32);
    let read = client.open_file(file, false).await.unwrap().read.unwrap();
    assert_eq!(read.ufs.unwrap().path, "d/f");
    assert_eq!(read.workers[0].worker_id, worker.id);
}

#[tokio::test]
async fn empty_files_need_no_worker() {
    let harness = Harness::start().await;
    let client = harness.client().await;
    let create = Create {
        parent: ROOT,
        name: "empty".into(),
        mode: 0o644,
        ..Default::default()
    };
    let _: Opened = client.ask(Op::Create(create)).await.unwrap();
    client.wait_persisted("/", LONG).await.unwrap();
    assert_eq!(
        harness.objects().await,
        BTreeMap::from([("empty".into(), String::new())])
    );
    // With data to take, one must be there.
    let error = client.create(ROOT, "data", WriteType::AsyncThrough).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn renames_and_removals_race_with_uploads() {
    for semantics in [Semantics::Object, Semantics::Posix] {
        let harness = Harness::with(conf(), semantics).await;
        let (client, worker) = (harness.client().await, harness.worker().await);
        let dir = client.mkdir(ROOT, "d").await.unwrap().inode;
        let mut expected = BTreeMap::new();
        let mut random = 12345u32;
        for round in 0..120 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let name = format!("f{}", (random >> 8) % 7);
            let other = format!("f{}", (random >> 16) % 7);
            let content = format!("round {round} of {name}");
            match (random >> 24) % 4 {
                0 | 1 => {
                    let temporary = format!("t{round}");
                    client.write(&worker, dir, &temporary, &content).await;
                    if round % 3 == 0 {
                        tokio::time::sleep(Duration::from_millis(u64::from(random >> 20) % 4)).await;
                    }
                    client.rename(dir, &temporary, dir, &name).await.unwrap();
                    expected.insert(name, content);
                }
                2 => match client.unlink(dir, &name).await {
                    Ok(_) => assert!(expected.remove(&name).is_some()),
                    Err(error) => assert!(
                        error.kind == ErrorKind::NotFound && !expected.contains_key(&name),
                        "{error}"
                    ),
                },
                _ if name != other => match client.rename(dir, &name, dir, &other).await {
                    Ok(_) => {
                        let moved = expected.remove(&name).expect("only what is there can be renamed");
                        expected.insert(other, moved);
                    }
                    Err(error) => assert!(
                        error.kind == ErrorKind::NotFound && !expected.contains_key(&name),
                        "{error}"
                    ),
                },
                _ => {}
            }
        }
        client.wait_persisted("/", LONG).await.unwrap();
        let expected: BTreeMap<_, _> = expected
            .into_iter()
            .map(|(name, content)| (format!("d/{name}"), content))
            .collect();
        assert_eq!(harness.objects().await, expected, "{semantics:?}");
        assert_eq!(harness.master.state().pending_intents(), 0);
    }
}

#[tokio::test]
async fn create_write_rename_costs_one_upload() {
    let mut conf = conf();
    conf.set(alluxio_common::config::keys::user::PERSIST_WAIT.name, "300ms");
    let harness = Harness::with(conf, Semantics::Object).await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    client.write(&worker, ROOT, "tmp", "x").await;
    client.rename(ROOT, "tmp", ROOT, "final").await.unwrap();
    client.wait_persisted("/final", LONG).await.unwrap();
    assert_eq!(harness.objects().await, BTreeMap::from([("final".into(), "x".into())]));
    assert_eq!(
        (
            harness.calls(Call::Write),
            harness.calls(Call::Rename),
            harness.calls(Call::Delete)
        ),
        (1, 0, 0)
    );
}

#[tokio::test]
async fn a_whole_tree_goes() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let top = client.mkdir(ROOT, "top").await.unwrap().inode;
    for sub in 0..3 {
        let dir = client.mkdir(top, &format!("s{sub}")).await.unwrap().inode;
        for file in 0..5 {
            client.write(&worker, dir, &format!("f{file}"), "x").await;
        }
    }
    client.write(&worker, ROOT, "stays", "y").await;
    client.wait_persisted("/", LONG).await.unwrap();
    harness.put("top/behind/our/back", "z").await;
    let delete = Delete {
        path: "/top".into(),
        recursive: false,
        alluxio_only: false,
    };
    let refused: Result<Counted, _> = client.ask(Op::Delete(delete.clone())).await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::NotEmpty);
    let _: Counted = client
        .ask(Op::Delete(Delete {
            recursive: true,
            ..delete
        }))
        .await
        .unwrap();
    assert_eq!(client.lookup(ROOT, "top").await.unwrap_err().kind, ErrorKind::NotFound);
    client.wait_persisted("/", LONG).await.unwrap();
    assert_eq!(harness.objects().await, BTreeMap::from([("stays".into(), "y".into())]));
    eventually("reclaiming", || async { harness.master.state().counters().inodes == 2 }).await;
}

#[tokio::test]
async fn failures_are_tried_again_and_told() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    harness
        .ufs
        .faults()
        .fail_next(Call::Write, 3, UfsErrorKind::Unreachable);
    client.write(&worker, ROOT, "f", "x").await;
    client.wait_persisted("/", LONG).await.unwrap();
    assert_eq!(harness.objects().await.len(), 1);
    // Without hope, who waits is told at once.
    harness
        .ufs
        .faults()
        .fail_next(Call::Write, u32::MAX, UfsErrorKind::Denied);
    client.write(&worker, ROOT, "g", "y").await;
    for path in ["/", "/g"] {
        let started = Instant::now();
        let error = client.wait_persisted(path, LONG).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UfsDenied, "{error}");
        assert!(started.elapsed() < LONG / 2);
    }
    // But it is tried on, and heals.
    harness.ufs.faults().heal();
    eventually("the upload", || async { harness.objects().await.len() == 2 }).await;
    client.wait_persisted("/", LONG).await.unwrap();
}

#[tokio::test]
async fn waiting_ends_with_a_reason() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let _hold = worker.hold.write().await;
    client.write(&worker, ROOT, "f", "x").await;
    let error = client
        .wait_persisted("/f", Duration::from_millis(50))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(
        error
            .message
            .contains("persist /f: not done after 50ms, 1 changes pending"),
        "{error}"
    );
    assert_eq!(
        client.wait_persisted("/none", LONG).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn what_is_kept_in_the_cache_is_uploaded_on_demand() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let opened = client.create(ROOT, "f", WriteType::MustCache).await.unwrap();
    client.finish(&worker, &opened, "cached").await;
    client.wait_persisted("/", LONG).await.unwrap();
    assert_eq!(harness.objects().await.len(), 0);
    let wait = WaitPersisted {
        path: "/".into(),
        schedule: true,
        ..Default::default()
    };
    let _: Counted = client.ask(Op::WaitPersisted(wait)).await.unwrap();
    assert_eq!(harness.objects().await, BTreeMap::from([("f".into(), "cached".into())]));
}

#[tokio::test]
async fn an_object_put_in_the_way_is_replaced_by_the_last_writer() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let hold = worker.hold.write().await;
    client.write(&worker, ROOT, "f", "ours").await;
    harness.put("f", "theirs").await;
    drop(hold);
    client.wait_persisted("/f", LONG).await.unwrap();
    assert_eq!(harness.objects().await, BTreeMap::from([("f".into(), "ours".into())]));
}

#[tokio::test]
async fn a_lost_worker_and_its_return() {
    let harness = Harness::start().await;
    let client = harness.client().await;
    let worker = harness.worker().await;
    let _hold = worker.hold.clone().write_owned().await;
    client.write(&worker, ROOT, "f", "x").await;
    eventually("the upload's start", || async {
        let intents = harness.master.state().intents(alluxio_proto::IntentId(0), 10).unwrap();
        intents.iter().any(|intent| intent.started)
    })
    .await;
    worker.kill();
    // The same worker with the same files comes back, and is given the upload again.
    let (id, files) = (worker.id, worker.files.clone());
    let again = FakeWorker::start_with(harness.master.clone(), harness.ufs.clone(), HOST, id, files).await;
    assert_eq!(again.id, id);
    client.wait_persisted("/", LONG).await.unwrap();
    assert_eq!(harness.objects().await, BTreeMap::from([("f".into(), "x".into())]));
}

#[tokio::test]
async fn a_changed_file_is_uploaded_again_over_its_object() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let file = client.write(&worker, ROOT, "f", "one").await;
    client.wait_persisted("/", LONG).await.unwrap();
    let opened = client.open_file(file, true).await.unwrap();
    let lease = opened.write.clone().unwrap();
    assert_eq!(lease.base.unwrap().ufs.unwrap().length, 3);
    assert_eq!(lease.home.unwrap().worker_id, worker.id);
    client.finish(&worker, &opened, "two!").await;
    client.wait_persisted("/", LONG).await.unwrap();
    assert_eq!(harness.objects().await, BTreeMap::from([("f".into(), "two!".into())]));
}

#[tokio::test]
async fn freed_files_are_dropped_by_workers() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let file = client.write(&worker, ROOT, "f", "x").await;
    let located: Locations = client.ask(Op::Locate(Locate { inode: file })).await.unwrap();
    assert_eq!(located.locations.len(), 1);
    client.wait_persisted("/", LONG).await.unwrap();
    let freed: Counted = client
        .ask(Op::Free(Free {
            path: "/".into(),
            force: false,
        }))
        .await
        .unwrap();
    assert_eq!((freed.files, freed.bytes), (1, 1));
    eventually("the drop", || async {
        worker.dropped.lock().iter().any(|dropped| dropped.inode == file)
    })
    .await;
}

#[tokio::test]
async fn paths_of_stores() {
    let harness = Harness::start().await;
    harness.put("d/f", "x").await;
    let client = harness.client().await;
    let inode = client.resolve("/d/f").await.unwrap().inode;
    let path: PathReply = client.ask(Op::GetPath(GetPath { inode })).await.unwrap();
    assert_eq!(
        (path.path, path.ufs_uri.as_str()),
        (Bytes::from("/d/f"), "memory://objects/d/f")
    );
}

#[tokio::test]
async fn an_upload_whose_order_was_lost_is_ordered_again() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    worker.kill();
    let beat = || {
        let beat = WorkerHeartbeat {
            worker_id: worker.id,
            wait_ms: 200,
            capacity_tasks: 4,
            ..Default::default()
        };
        client.ask::<WorkerTasks>(Op::WorkerHeartbeat(beat))
    };
    client.write(&worker, ROOT, "f", "x").await;
    let mut orders = Vec::new();
    let started = Instant::now();
    while orders.len() < 2 {
        assert!(started.elapsed() < LONG);
        orders.extend(beat().await.unwrap().persist);
    }
    assert_eq!(orders[0], orders[1]);
}
