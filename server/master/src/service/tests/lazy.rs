//! Names of under-storages at first look, and looked at again.

use super::harness::*;
use alluxio_common::config::keys;
use alluxio_proto::ErrorKind;
use alluxio_proto::master::*;
use alluxio_ufs::UfsErrorKind;
use alluxio_ufs::fault::Call;
use futures::future::join_all;
use std::time::Duration;

fn always_look() -> alluxio_common::config::Configuration {
    let mut conf = conf();
    conf.set(keys::user::SYNC_INTERVAL.name, "0");
    conf
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_objects_are_listed_in_pages() {
    const COUNT: usize = 100_000;
    let harness = Harness::start().await;
    for first in (0..COUNT).step_by(1000) {
        let names: Vec<String> = (first..first + 1000).map(|n| format!("big/{n:06}")).collect();
        join_all(names.iter().map(|name| harness.put(name, ""))).await;
    }
    let client = harness.client().await;
    let big = client.lookup(ROOT, "big").await.unwrap().inode;
    let first = client.list_page(big, b"", 1000).await.unwrap();
    assert_eq!((first.entries.len(), first.eof), (1000, false));
    let names = client.names(big).await.unwrap();
    assert_eq!(names.len(), COUNT);
    assert!(names.is_sorted(), "in the order of bytes");
    // The store may say that there is more when there is just no more.
    let calls = harness.calls(Call::List);
    assert!(calls <= COUNT.div_ceil(1000) as u64 + 1, "{calls} calls");
    // Loaded once: the second listing asks nobody.
    client.names(big).await.unwrap();
    assert_eq!(harness.calls(Call::List), calls);
}

#[tokio::test]
async fn one_look_serves_all_who_wait() {
    let harness = Harness::start().await;
    harness.put("dir/file", "x").await;
    harness.put("dir/other", "y").await;
    let client = harness.client().await;
    harness.ufs.faults().delay(Call::Status, Duration::from_millis(30));
    harness.ufs.faults().delay(Call::List, Duration::from_millis(30));
    let before = harness.calls(Call::Status);
    let found = join_all((0..50).map(|_| client.lookup(ROOT, "dir"))).await;
    assert!(found.iter().all(|attr| {
        attr.as_ref()
            .is_ok_and(|attr| attr.inode == found[0].as_ref().unwrap().inode)
    }));
    assert_eq!(harness.calls(Call::Status), before + 1);
    let dir = found[0].as_ref().unwrap().inode;
    let before = harness.calls(Call::List);
    for names in join_all((0..50).map(|_| client.names(dir))).await {
        assert_eq!(names.unwrap(), ["file", "other"]);
    }
    assert_eq!(harness.calls(Call::List), before + 1);
}

#[tokio::test]
async fn absent_is_remembered_and_unknown_is_not_absent() {
    let harness = Harness::start().await;
    for dir in ["d0", "d1", "d2", "d3"] {
        harness.put(&format!("{dir}/a"), "x").await;
    }
    let client = harness.client().await;
    let before = harness.calls(Call::Status);
    for _ in 0..10 {
        assert_eq!(client.lookup(ROOT, "none").await.unwrap_err().kind, ErrorKind::NotFound);
    }
    assert_eq!(harness.calls(Call::Status), before + 1);
    let faults = [
        (UfsErrorKind::Unreachable, ErrorKind::Unavailable),
        (UfsErrorKind::Denied, ErrorKind::UfsDenied),
        (UfsErrorKind::StoreMissing, ErrorKind::Unavailable),
        (UfsErrorKind::Throttled, ErrorKind::Throttled),
    ];
    for (index, (fault, kind)) in faults.into_iter().enumerate() {
        let dir = client.lookup(ROOT, &format!("d{index}")).await.unwrap().inode;
        harness.ufs.faults().fail_next(Call::Status, 1, fault);
        let error = client.lookup(dir, "a").await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(
            error.message.contains(&format!("look up memory://objects/d{index}/a")),
            "{error}"
        );
        harness.ufs.faults().fail_next(Call::List, 1, fault);
        assert_eq!(client.names(dir).await.unwrap_err().kind, kind);
        assert_eq!(client.lookup(dir, "a").await.unwrap().size, 1);
        assert_eq!(client.names(dir).await.unwrap(), ["a"]);
    }
}

#[tokio::test]
async fn many_unknown_names_in_a_small_directory_cost_one_listing() {
    let harness = Harness::start().await;
    harness.put("d/a", "x").await;
    let client = harness.client().await;
    let dir = client.lookup(ROOT, "d").await.unwrap().inode;
    let before = (harness.calls(Call::Status), harness.calls(Call::List));
    for n in 0..100 {
        assert_eq!(
            client.lookup(dir, &format!("none{n}")).await.unwrap_err().kind,
            ErrorKind::NotFound
        );
    }
    assert!(harness.calls(Call::Status) - before.0 < 10);
    assert_eq!(harness.calls(Call::List) - before.1, 1);
    // A refresh looks at names that have come since, although nothing is ever due.
    harness.put("d/b", "y").await;
    assert_eq!(client.lookup(dir, "b").await.unwrap_err().kind, ErrorKind::NotFound);
    let refresh = ResolvePath {
        path: "/d/b".into(),
        refresh: true,
    };
    let found: alluxio_proto::types::Attr = client.ask(Op::ResolvePath(refresh)).await.unwrap();
    assert_eq!(found.size, 1);
}

#[tokio::test]
async fn trouble_hides_nothing_that_is_known() {
    let harness = Harness::with(always_look()).await;
    harness.put("d/a", "x").await;
    let client = harness.client().await;
    let dir = client.lookup(ROOT, "d").await.unwrap().inode;
    assert_eq!(client.names(dir).await.unwrap(), ["a"]);
    harness
        .ufs
        .faults()
        .fail_next(Call::List, u32::MAX, UfsErrorKind::Unreachable);
    harness
        .ufs
        .faults()
        .fail_next(Call::Status, u32::MAX, UfsErrorKind::Unreachable);
    assert_eq!(client.names(dir).await.unwrap(), ["a"]);
    let file = client.lookup(dir, "a").await.unwrap().inode;
    assert_eq!(client.open_file(file, false).await.unwrap().read.unwrap().length, 1);
    let refresh = ReadDir {
        inode: dir,
        refresh: true,
        ..Default::default()
    };
    let forced: Result<DirPage, _> = client.ask(Op::ReadDir(refresh)).await;
    assert_eq!(forced.unwrap_err().kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_store_that_hangs_holds_up_nothing_known_for_long() {
    let harness = Harness::with(always_look()).await;
    harness.put("d/a", "x").await;
    let client = harness.client().await;
    let dir = client.lookup(ROOT, "d").await.unwrap().inode;
    assert_eq!(client.names(dir).await.unwrap(), ["a"]);
    harness.ufs.faults().delay(Call::List, LONG);
    let started = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(client.lookup(dir, "a").await.unwrap().size, 1);
        assert_eq!(client.names(dir).await.unwrap(), ["a"]);
    }
    assert!(started.elapsed() < LONG / 2);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_reported() {
    let harness = Harness::with(always_look()).await;
    harness.put("d/a", "x").await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let dir = client.lookup(ROOT, "d").await.unwrap().inode;
    client.names(dir).await.unwrap();
    let report = || async {
        client
            .ask::<Report>(Op::GetReport(GetReport::default()))
            .await
            .unwrap()
            .away
    };
    assert_eq!(report().await, []);
    // The master's own calls.
    let faults = harness.ufs.faults();
    for call in [Call::List, Call::Status] {
        faults.fail_next(call, u32::MAX, UfsErrorKind::Unreachable);
    }
    eventually("a failed look", || async {
        client.names(dir).await.unwrap();
        !report().await.is_empty()
    })
    .await;
    let first = report().await.remove(0);
    assert_eq!((&first.path[..], first.uri.as_str()), (&b"/"[..], "memory://objects"));
    assert!(first.error.contains("fault on demand"), "{first:?}");
    client.names(dir).await.unwrap();
    assert_eq!(report().await[0].since_ms, first.since_ms, "since the first failure");
    assert_eq!(harness.master.stores_away().len(), 1);
    let table: MountTable = client.ask(Op::GetMounts(GetMounts::default())).await.unwrap();
    assert_eq!(table.mounts[0].away.as_ref().unwrap().uri, first.uri);
    assert!(table.mounts[0].answered_ms > 0);
    // A refusal is an answer.
    for call in [Call::List, Call::Status] {
        faults.fail_next(call, u32::MAX, UfsErrorKind::Denied);
    }
    eventually("an answer", || async {
        client.names(dir).await.unwrap();
        report().await.is_empty()
    })
    .await;
    // The uploads of workers.
    faults.heal();
    faults.fail_next(Call::Write, u32::MAX, UfsErrorKind::Unreachable);
    client.write(&worker, dir, "f", "y").await;
    eventually("a failed upload", || async { !report().await.is_empty() }).await;
    faults.heal();
    client.wait_persisted("/", LONG).await.unwrap();
    assert_eq!(report().await, []);
}

#[tokio::test]
async fn what_is_pending_is_counted() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let hold = worker.hold.write().await;
    client.mkdir(ROOT, "d").await.unwrap();
    client.wait_persisted("/d", LONG).await.unwrap();
    client.write(&worker, ROOT, "f", "1234").await;
    client.write(&worker, ROOT, "g", "12").await;
    let pending = harness.master.pending();
    assert_eq!((pending.changes, pending.files, pending.bytes), (2, 2, 6));
    drop(hold);
    client.wait_persisted("/", LONG).await.unwrap();
    assert_eq!(harness.master.pending(), Default::default());
}

#[tokio::test]
async fn others_additions_changes_and_removals_are_seen() {
    for store in [Store::Objects, Store::Folder] {
        let harness = Harness::on(always_look(), store).await;
        harness.put("d/keep", "1").await;
        harness.put("d/change", "1").await;
        harness.put("d/remove", "1").await;
        harness.put("d/sub/x", "1").await;
        let client = harness.client().await;
        let dir = client.lookup(ROOT, "d").await.unwrap().inode;
        assert_eq!(client.names(dir).await.unwrap(), ["change", "keep", "remove", "sub"]);
        let (kept, changed) = (
            client.lookup(dir, "keep").await.unwrap(),
            client.lookup(dir, "change").await.unwrap(),
        );
        harness.put("d/change", "two").await;
        harness.put("d/new", "3").await;
        harness.remove("d/remove").await;
        assert_eq!(client.names(dir).await.unwrap(), ["change", "keep", "new", "sub"]);
        let again = client.lookup(dir, "change").await.unwrap();
        assert_eq!((again.inode, again.size), (changed.inode, 3));
        assert!(again.version > changed.version);
        let still = client.lookup(dir, "keep").await.unwrap();
        assert_eq!((still.inode, still.version), (kept.inode, kept.version));
        assert_eq!(
            client.lookup(dir, "remove").await.unwrap_err().kind,
            ErrorKind::NotFound
        );
    }
}

#[tokio::test]
async fn a_file_that_became_a_folder_is_one() {
    let harness = Harness::with(always_look()).await;
    harness.put("d/x", "1").await;
    let client = harness.client().await;
    let dir = client.lookup(ROOT, "d").await.unwrap().inode;
    assert_eq!(client.names(dir).await.unwrap(), ["x"]);
    harness.remove("d/x").await;
    harness.put("d/x/y", "1").await;
    let folder = client.lookup(dir, "x").await.unwrap();
    assert_eq!(folder.kind, alluxio_proto::types::FileKind::Directory as i32);
    assert_eq!(client.names(folder.inode).await.unwrap(), ["y"]);
}

#[tokio::test]
async fn what_is_ours_is_not_taken_for_removed() {
    let harness = Harness::with(always_look()).await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    harness.put("d/a", "1").await;
    let dir = client.lookup(ROOT, "d").await.unwrap().inode;
    client.names(dir).await.unwrap();
    let hold = worker.hold.write().await;
    client.write(&worker, dir, "mine", "not uploaded yet").await;
    client.mkdir(dir, "empty").await.unwrap();
    client
        .create(dir, "open", alluxio_proto::types::WriteType::MustCache)
        .await
        .unwrap();
    for _ in 0..3 {
        assert_eq!(client.names(dir).await.unwrap(), ["a", "empty", "mine", "open"]);
    }
    drop(hold);
    client.wait_persisted("/", LONG).await.unwrap();
    assert_eq!(client.names(dir).await.unwrap(), ["a", "empty", "mine", "open"]);
    // The last object of a folder takes the folder along in an object store; not here.
    client.unlink(dir, "a").await.unwrap();
    client.unlink(dir, "mine").await.unwrap();
    client.wait_persisted("/", LONG).await.unwrap();
    assert_eq!(client.lookup(ROOT, "d").await.unwrap().inode, dir);
    assert_eq!(client.names(ROOT).await.unwrap(), ["d"]);
}

#[tokio::test]
async fn a_reader_that_met_another_object_gets_the_new_one() {
    let harness = Harness::start().await;
    harness.put("f", "old").await;
    let client = harness.client().await;
    let file = client.lookup(ROOT, "f").await.unwrap();
    harness.put("f", "newer").await;
    let changed = UfsChanged {
        inode: file.inode,
        version: file.version,
    };
    let opened: Opened = client.ask(Op::UfsChanged(changed)).await.unwrap();
    let read = opened.read.unwrap();
    assert_eq!(read.length, 5);
    assert!(read.version > file.version);
    assert_eq!(read.ufs.unwrap().length, 5);
    harness.remove("f").await;
    let gone: Result<Opened, _> = client
        .ask(Op::UfsChanged(UfsChanged {
            inode: file.inode,
            version: read.version,
        }))
        .await;
    assert_eq!(gone.unwrap_err().kind, ErrorKind::Gone);
    assert_eq!(client.lookup(ROOT, "f").await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn paths_are_searched_with_permission() {
    let harness = Harness::start().await;
    let mut client = harness.client().await;
    let dir = client.mkdir(ROOT, "private").await.unwrap().inode;
    client.mkdir(dir, "inner").await.unwrap();
    let chmod = SetAttr {
        inode: dir,
        mode: Some(0o700),
        ..Default::default()
    };
    let _: alluxio_proto::types::Attr = client.ask(Op::SetAttr(chmod)).await.unwrap();
    assert!(client.resolve("/private/inner").await.is_ok());
    client.caller.user = "somebody".into();
    client.caller.groups = vec!["users".into()];
    assert_eq!(
        client.resolve("/private/inner").await.unwrap_err().kind,
        ErrorKind::AccessDenied
    );
    assert!(client.resolve("/private").await.is_ok());
    for (path, kind) in [
        ("private", ErrorKind::InvalidArgument),
        ("/private/../x", ErrorKind::InvalidArgument),
        ("/none/x", ErrorKind::NotFound),
    ] {
        assert_eq!(client.resolve(path).await.unwrap_err().kind, kind, "{path}");
    }
}

#[tokio::test]
async fn counting_loads_what_is_unknown() {
    let harness = Harness::start().await;
    for path in ["a/1", "a/2", "a/b/3", "4"] {
        harness.put(path, "four").await;
    }
    let client = harness.client().await;
    let counted: Counted = client.ask(Op::Count(Count { path: "/".into() })).await.unwrap();
    assert_eq!((counted.files, counted.directories, counted.bytes), (4, 2, 16));
}
