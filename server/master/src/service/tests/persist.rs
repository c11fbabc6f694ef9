//! Intents become changes of the store, whatever happens meanwhile.

use super::harness::*;
use crate::state::Command;
use alluxio_proto::ErrorKind;
use alluxio_proto::master::*;
use alluxio_proto::types::{PersistState, WriteType};
use alluxio_ufs::UfsErrorKind;
use alluxio_ufs::fault::Call;
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
    for store in [Store::Objects, Store::Folder] {
        let harness = Harness::on(conf(), store).await;
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
        assert_eq!(harness.objects().await, expected, "{store:?}");
        assert_eq!(harness.master.state().pending_intents(), 0);
    }
}

#[tokio::test]
async fn create_write_rename_costs_one_upload() {
    let mut conf = conf();
    conf.set(alluxio_common::config::keys::user::PERSIST_WAIT.name, "300ms");
    let harness = Harness::with(conf).await;
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
    // Without hope, who waits is told at once. Credentials that ran out are as good for nothing else.
    for call in [Call::Write, Call::Probe] {
        harness.ufs.faults().fail_next(call, u32::MAX, UfsErrorKind::Denied);
    }
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

/// Files are removed and written over all the time: an upload that comes too late for that has not failed.
#[tokio::test]
async fn an_upload_that_is_overtaken_is_no_failure() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let hold = worker.hold.clone().write_owned().await;
    let replaced = client.write(&worker, ROOT, "replaced", "old").await;
    client.write(&worker, ROOT, "removed", "x").await;
    eventually("the start of both uploads", || async {
        let intents = harness.master.state().intents(alluxio_proto::IntentId(0), 10).unwrap();
        intents.iter().filter(|intent| intent.started).count() == 2
    })
    .await;
    // As a worker that has them no more.
    worker.files.lock().clear();
    let opened = client.open_file(replaced, true).await.unwrap();
    client.finish(&worker, &opened, "new").await;
    client.unlink(ROOT, "removed").await.unwrap();
    drop(hold);
    client.wait_persisted("/", LONG).await.unwrap();
    assert_eq!(
        harness.objects().await,
        BTreeMap::from([("replaced".into(), "new".into())])
    );
    let metrics = harness.master.metrics();
    for name in ["Master.AsyncPersistFail", "Master.UfsChangesFailed"] {
        assert_eq!(metrics.value(name), Some(0), "{name}");
    }
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

async fn report(client: &Client) -> Report {
    client.ask(Op::GetReport(GetReport::default())).await.unwrap()
}

/// Waits until something was refused for good.
async fn refused(client: &Client) -> StuckChange {
    eventually("the refusal", || async {
        report(client).await.stuck.iter().any(|stuck| stuck.refused)
    })
    .await;
    let report = report(client).await;
    assert_eq!(report.stuck_count, 1);
    report.stuck[0].clone()
}

#[tokio::test]
async fn an_upload_that_is_refused_for_good_waits_for_a_person_alone() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let dir = client.mkdir(ROOT, "d").await.unwrap().inode;
    client.write(&worker, dir, "before", "x").await;
    client.wait_persisted("/", LONG).await.unwrap();
    let faults = harness.ufs.faults();
    faults.fail_next(Call::Write, u32::MAX, UfsErrorKind::Denied);
    let file = client.write(&worker, dir, "f", "refused").await;
    let stuck = refused(&client).await;
    assert_eq!(
        (stuck.what.as_str(), stuck.path.as_str(), stuck.given_up),
        ("upload", "/d/f", false)
    );
    assert!(stuck.error.contains("fault on demand"), "{stuck:?}");
    let attr = || client.ask::<alluxio_proto::types::Attr>(Op::GetAttr(GetAttr { inode: file }));
    assert!(attr().await.unwrap().persist_refused);
    assert_eq!(harness.master.metrics().value("Master.UfsChangesRefused"), Some(1));
    // What does not depend on it goes on, in its own folder, too; it is not asked for again meanwhile.
    let tried = faults.calls(Call::Write);
    client.rename(ROOT, "d", ROOT, "e").await.unwrap();
    eventually("the rename of the folder", || async {
        harness.objects().await.keys().eq(["e/before"])
    })
    .await;
    assert_eq!(faults.calls(Call::Write), tried);
    // The right was given.
    faults.heal();
    client.wait_persisted("/e/f", LONG).await.unwrap();
    assert_eq!(harness.objects().await["e/f"], "refused");
    assert_eq!(report(&client).await.stuck_count, 0);
    assert!(!attr().await.unwrap().persist_refused);
}

#[tokio::test]
async fn what_cannot_be_deleted_holds_up_nothing() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    client.write(&worker, ROOT, "f", "old").await;
    client.wait_persisted("/", LONG).await.unwrap();
    let faults = harness.ufs.faults();
    faults.fail_next(Call::Delete, u32::MAX, UfsErrorKind::Denied);
    client.unlink(ROOT, "f").await.unwrap();
    client.write(&worker, ROOT, "f", "new").await;
    let stuck = refused(&client).await;
    assert_eq!((stuck.what.as_str(), stuck.given_up), ("delete", false));
    assert_eq!(stuck.path, "memory://objects/f");
    client.wait_persisted("/f", LONG).await.unwrap();
    assert_eq!(harness.objects().await, BTreeMap::from([("f".into(), "new".into())]));
    // What was to be deleted is replaced: nothing is left to be told of.
    assert_eq!(report(&client).await.stuck_count, 0);
}

#[tokio::test]
async fn a_rename_that_is_refused_for_good_is_seen_and_tried_on_demand() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    client.write(&worker, ROOT, "a", "moves").await;
    client.wait_persisted("/", LONG).await.unwrap();
    let faults = harness.ufs.faults();
    faults.fail_next(Call::Rename, u32::MAX, UfsErrorKind::Denied);
    client.rename(ROOT, "a", ROOT, "b").await.unwrap();
    let stuck = refused(&client).await;
    assert_eq!(stuck.path, "memory://objects/a to memory://objects/b");
    client.write(&worker, ROOT, "c", "other").await;
    client.wait_persisted("/c", LONG).await.unwrap();
    let session = client.session;
    drop((client, worker));
    // It is known after a restart, too.
    let harness = harness.restart().await;
    let client = harness.client_of(session);
    assert!(refused(&client).await.path.contains("/a to "));
    let tried = faults.calls(Call::Rename);
    faults.heal();
    client.wait_persisted("/b", LONG).await.unwrap();
    assert_eq!(faults.calls(Call::Rename), tried + 1);
    let expected = BTreeMap::from([("b".into(), "moves".into()), ("c".into(), "other".into())]);
    assert_eq!(harness.objects().await, expected);
}

/// Settings with which what is refused is tried on.
fn patient() -> alluxio_common::config::Configuration {
    let mut conf = conf();
    conf.set(alluxio_common::config::keys::master::REFUSED_TIMEOUT.name, "1hour");
    conf
}

#[tokio::test]
async fn a_refusal_that_passes_costs_nothing_but_time() {
    let harness = Harness::with(patient()).await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    client.write(&worker, ROOT, "f", "x").await;
    client.wait_persisted("/", LONG).await.unwrap();
    let faults = harness.ufs.faults();
    // The store is listed all the while, as one that was mounted read-only is.
    for call in [Call::Delete, Call::Write] {
        faults.fail_next(call, u32::MAX, UfsErrorKind::Denied);
    }
    client.unlink(ROOT, "f").await.unwrap();
    client.write(&worker, ROOT, "g", "y").await;
    eventually("both are seen, with reasons", || async {
        let report = report(&client).await;
        let told = |what: &str| {
            let mut found = report.stuck.iter().filter(|stuck| stuck.what == what);
            found.any(|stuck| !stuck.given_up && stuck.attempts >= 5 && stuck.error.contains("fault on demand"))
        };
        report.stuck_count == 2 && told("delete") && told("upload")
    })
    .await;
    let refused_now = || harness.master.metrics().value("Master.UfsChangesRefusedNow");
    assert_eq!(refused_now(), Some(2));
    assert_eq!(harness.master.metrics().value("Master.UfsChangesRefused"), Some(2));
    faults.heal();
    // Nobody asks for it.
    eventually("both are made", || async {
        harness.objects().await == BTreeMap::from([("g".into(), "y".into())])
            && harness.master.state().pending_intents() == 0
    })
    .await;
    assert_eq!((refused_now(), report(&client).await.stuck_count), (Some(0), 0));
}

#[tokio::test]
async fn attributes_that_are_refused_do_not_hold_up_the_upload_that_brings_them() {
    let harness = Harness::on(patient(), Store::Folder).await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let file = client.write(&worker, ROOT, "f", "one").await;
    client.wait_persisted("/", LONG).await.unwrap();
    let faults = harness.ufs.faults();
    faults.fail_next(Call::SetAttributes, u32::MAX, UfsErrorKind::Denied);
    let set = SetAttr {
        inode: file,
        mode: Some(0o600),
        ..Default::default()
    };
    let _: alluxio_proto::types::Attr = client.ask(Op::SetAttr(set)).await.unwrap();
    let opened = client.open_file(file, true).await.unwrap();
    client.finish(&worker, &opened, "two").await;
    eventually("the upload", || async {
        harness.objects().await == BTreeMap::from([("f".into(), "two".into())])
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_does_not_starve_what_is_not() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let faults = harness.ufs.faults();
    faults.fail_next(Call::Write, u32::MAX, UfsErrorKind::Denied);
    let count = super::super::executor::QUEUE_MAX as u64 + 50;
    for file in 0..count {
        client.write(&worker, ROOT, &format!("f{file}"), "refused").await;
    }
    let refused_now = || harness.master.metrics().value("Master.UfsChangesRefusedNow").unwrap() as u64;
    eventually("all refusals", || async { refused_now() == count }).await;
    client.mkdir(ROOT, "d").await.unwrap();
    client.wait_persisted("/d", LONG).await.unwrap();
    // What is removed is refused no more.
    for file in 0..count {
        client.unlink(ROOT, &format!("f{file}")).await.unwrap();
    }
    assert_eq!((refused_now(), report(&client).await.stuck_count), (0, 0));
    assert_eq!(
        harness.master.metrics().value("Master.PersistFailuresPermanent"),
        Some(0)
    );
}

#[tokio::test]
async fn a_person_decides_on_what_is_refused() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    for name in ["gone", "old"] {
        client.write(&worker, ROOT, name, "x").await;
    }
    client.wait_persisted("/", LONG).await.unwrap();
    let faults = harness.ufs.faults();
    for call in [Call::Write, Call::Delete, Call::Rename] {
        faults.fail_next(call, u32::MAX, UfsErrorKind::Denied);
    }
    client.unlink(ROOT, "gone").await.unwrap();
    client.rename(ROOT, "old", ROOT, "new").await.unwrap();
    let file = client.write(&worker, ROOT, "f", "y").await;
    eventually("all refusals", || async { report(&client).await.stuck_count == 3 }).await;
    let stuck = report(&client).await.stuck;
    let id = |what: &str| stuck.iter().find(|stuck| stuck.what == what).unwrap().intent;
    let (upload, delete, rename) = (id("upload"), id("delete"), id("rename"));
    eventually("all of them wait for a person", || async {
        let state = harness.master.state();
        let is_parked = |id| state.intent(alluxio_proto::IntentId(id)).unwrap().unwrap().is_parked();
        [upload, delete, rename].into_iter().all(is_parked)
    })
    .await;
    let settle = |intents: &[u64], all, forget| SettleIntents {
        intents: intents.to_vec(),
        all,
        forget,
    };
    let ask = |op| client.ask::<Counted>(Op::SettleIntents(op));
    // Nobody but the superuser, and no names.
    let mut ann = client.clone();
    (ann.caller.user, ann.caller.groups) = ("ann".into(), Vec::new());
    let refused = ann
        .ask::<Counted>(Op::SettleIntents(settle(&[upload], false, true)))
        .await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::NotPermitted);
    assert_eq!(ask(settle(&[delete], false, false)).await.unwrap().files, 1);
    let tried = faults.calls(Call::Write);
    assert_eq!(ask(settle(&[upload], false, false)).await.unwrap().files, 1);
    eventually("another try", || async { faults.calls(Call::Write) > tried }).await;
    eventually("its refusal", || async {
        let state = harness.master.state();
        state
            .intent(alluxio_proto::IntentId(upload))
            .unwrap()
            .unwrap()
            .is_parked()
    })
    .await;
    // The rename stays.
    assert_eq!(ask(settle(&[], true, true)).await.unwrap().files, 2);
    let left: Vec<_> = report(&client).await.stuck.iter().map(|stuck| stuck.intent).collect();
    assert_eq!(left, [rename]);
    let attr: alluxio_proto::types::Attr = client.ask(Op::GetAttr(GetAttr { inode: file })).await.unwrap();
    assert_eq!(
        (attr.persist_state, attr.persist_refused),
        (PersistState::NotPersisted as i32, false)
    );
    faults.heal();
    assert_eq!(ask(settle(&[], true, false)).await.unwrap().files, 1);
    let wait = WaitPersisted {
        path: "/".into(),
        schedule: true,
        expedite: true,
        ..Default::default()
    };
    let _: Counted = client.ask(Op::WaitPersisted(wait)).await.unwrap();
    let names: Vec<_> = harness.objects().await.into_keys().collect();
    assert_eq!(names, ["f", "gone", "new"]);
}

/// Empty files are uploaded by the master itself. Between its look at such an upload and its start the file may be written and
/// committed again: the upload is that of the newer version then, and an empty object would be taken for its content.
#[tokio::test]
async fn an_empty_upload_that_got_content_is_a_workers() {
    let mut conf = conf();
    conf.set("alluxio.user.file.persistence.initial.wait.time", "1h");
    let harness = Harness::with(conf).await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let create = Create {
        parent: ROOT,
        name: "f".into(),
        mode: 0o644,
        ..Default::default()
    };
    let made: Opened = client.ask(Op::Create(create)).await.unwrap();
    let inode = made.attr.unwrap().inode;
    let core = &harness.master.core;
    let looked_at = core.state.intents_of(inode.into()).unwrap().remove(0);
    assert_eq!(looked_at.length, 0);
    let opened = client.open_file(inode, true).await.unwrap();
    client.finish(&worker, &opened, "content").await;
    core.execute(alluxio_proto::IntentId(looked_at.id), &looked_at).await;
    client.wait_persisted("/", LONG).await.unwrap();
    assert_eq!(
        harness.objects().await,
        BTreeMap::from([("f".into(), "content".into())])
    );
}

/// Who has a spilled file open needs its object when the name is gone, but not for ever if others want the path.
#[tokio::test]
async fn who_reads_a_removed_file_holds_up_its_path_for_a_while() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let now_ns = || crate::service::now_ns();
    for (name, age) in [("young", Duration::ZERO), ("old", Duration::from_secs(301))] {
        let opened = client.create(ROOT, name, WriteType::AsyncThrough).await.unwrap();
        let (inode, version) = (opened.attr.unwrap().inode, opened.write.unwrap().version);
        worker.keep(inode, version, "part");
        let spill = Spill {
            worker_id: worker.id,
            inode,
            version,
            length: 4,
            proof: Some(prove(&harness.master, worker.id).await),
            ..Default::default()
        };
        let _: Empty = client.ask(Op::Spill(spill)).await.unwrap();
        client.wait_persisted(&format!("/{name}"), LONG).await.unwrap();
        let unlink = crate::state::command::Unlink {
            parent: ROOT,
            name: Bytes::copy_from_slice(name.as_bytes()),
            ..Default::default()
        };
        let removed = Command::system(now_ns() - age.as_nanos() as i64, unlink);
        harness.master.core.commit(removed).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(harness.objects().await[name], "part", "nobody wants its path");
        client.write(&worker, ROOT, name, "new").await;
        let wait = Duration::from_secs(if age.is_zero() { 3 } else { 30 });
        let stored = client.wait_persisted(&format!("/{name}"), wait).await;
        let expected = if age.is_zero() { "part" } else { "new" };
        assert_eq!(harness.objects().await[name], expected, "{name}: {stored:?}");
    }
    // With the last close there is no need to wait.
    let _: Empty = client.ask(Op::CloseSession(CloseSession {})).await.unwrap();
    let is_stored = || async { harness.objects().await.get("young").is_some_and(|found| found == "new") };
    eventually("the new one is stored", is_stored).await;
}

/// As of a removed one: what takes its name by a rename, stored already or not, waits for those who have it open.
#[tokio::test]
async fn who_takes_the_name_of_a_spilled_file_leaves_its_object_to_those_who_have_it_open() {
    let harness = Harness::start().await;
    let (writer, worker) = (harness.client().await, harness.worker().await);
    let other = harness.client().await;
    let names = ["stored", "new"];
    for name in names {
        let opened = writer.create(ROOT, name, WriteType::AsyncThrough).await.unwrap();
        let (inode, version) = (opened.attr.unwrap().inode, opened.write.unwrap().version);
        worker.keep(inode, version, "part");
        let spill = Spill {
            worker_id: worker.id,
            inode,
            version,
            length: 4,
            proof: Some(prove(&harness.master, worker.id).await),
            ..Default::default()
        };
        let _: Empty = writer.ask(Op::Spill(spill)).await.unwrap();
        writer.wait_persisted(&format!("/{name}"), LONG).await.unwrap();
        let temporary = format!("{name}.tmp");
        other.write(&worker, ROOT, &temporary, "other").await;
        if name == "stored" {
            other.wait_persisted(&format!("/{temporary}"), LONG).await.unwrap();
        }
        other.rename(ROOT, &temporary, ROOT, name).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    for name in names {
        assert_eq!(
            harness.objects().await[name],
            "part",
            "{name}: who has it open reads it"
        );
    }
    let _: Empty = writer.ask(Op::CloseSession(CloseSession {})).await.unwrap();
    for name in names {
        other.wait_persisted(&format!("/{name}"), LONG).await.unwrap();
        assert_eq!(harness.objects().await[name], "other");
    }
    assert_eq!(harness.objects().await.len(), 2, "{:?}", harness.objects().await);
}
