//! Folders that move or go: what their copies are known by, and what of them the store refuses.

use super::harness::*;
use alluxio_proto::master::*;
use alluxio_ufs::fault::Call;
use alluxio_ufs::{UfsErrorKind, UnderFileSystem};
use std::collections::BTreeSet;
use std::time::Duration;

/// Looks at a directory now.
async fn look(client: &Client, inode: u64) -> Vec<String> {
    let refresh = ReadDir {
        inode,
        refresh: true,
        ..Default::default()
    };
    let page: DirPage = client.ask(Op::ReadDir(refresh)).await.unwrap();
    let names = page.entries.into_iter();
    names
        .map(|entry| String::from_utf8(entry.name.to_vec()).unwrap())
        .collect()
}

async fn report(client: &Client, page: GetReport) -> Report {
    client.ask(Op::GetReport(page)).await.unwrap()
}

/// Each copy has another fingerprint here, as that of an object in parts has on S3; the objects are others', and bear no name of ours.
#[tokio::test]
async fn what_a_folder_copied_is_known_by_its_new_fingerprint() {
    let harness = Harness::start().await;
    for name in ["d/kept", "d/removed", "d/renamed", "d/replaced", "d/sub/deep"] {
        harness.put(name, name).await;
    }
    let (client, worker) = (harness.client().await, harness.worker().await);
    let dir = client.lookup(ROOT, "d").await.unwrap().inode;
    client.names(dir).await.unwrap();
    let sub = client.lookup(dir, "sub").await.unwrap().inode;
    let files = [
        ("e/kept", client.lookup(dir, "kept").await.unwrap().inode),
        ("e/other", client.lookup(dir, "renamed").await.unwrap().inode),
        ("e/sub/deep", client.lookup(sub, "deep").await.unwrap().inode),
    ];
    let mut versions = Vec::new();
    for (_, inode) in files {
        versions.push(client.open_file(inode, false).await.unwrap().read.unwrap().version);
    }
    harness.ufs.faults().delay(Call::Rename, Duration::from_millis(300));
    client.rename(ROOT, "d", ROOT, "e").await.unwrap();
    // What comes after it knows what was there before it.
    client.unlink(dir, "removed").await.unwrap();
    client.rename(dir, "renamed", dir, "other").await.unwrap();
    client.write(&worker, dir, "new", "written").await;
    client.rename(dir, "new", dir, "replaced").await.unwrap();
    client.wait_persisted("/", LONG).await.unwrap();
    let objects = harness.objects().await;
    let names: Vec<&str> = objects.keys().map(String::as_str).collect();
    assert_eq!(names, ["e/kept", "e/other", "e/replaced", "e/sub/deep"]);
    assert_eq!(objects["e/replaced"], "written");
    look(&client, dir).await;
    look(&client, sub).await;
    for ((path, inode), version) in files.into_iter().zip(versions) {
        let read = client.open_file(inode, false).await.unwrap().read.unwrap();
        let there = harness.ufs.status(path.as_bytes()).await.unwrap();
        assert_eq!(read.version, version, "{path} is what it was");
        assert_eq!(read.ufs.unwrap().fingerprint, there.fingerprint, "{path}");
    }
}

#[tokio::test]
async fn what_is_left_of_a_tree_costs_a_listing_nothing() {
    const COUNT: usize = 30;
    let harness = Harness::start().await;
    let client = harness.client().await;
    // A folder of ours: what is in it may carry attributes.
    let dir = client.mkdir(ROOT, "d").await.unwrap().inode;
    client.wait_persisted("/", LONG).await.unwrap();
    for file in 0..COUNT {
        harness.put(&format!("d/f{file}"), "x").await;
    }
    assert_eq!(look(&client, dir).await.len(), COUNT);
    harness
        .ufs
        .faults()
        .fail_next(Call::Delete, u32::MAX, UfsErrorKind::Denied);
    for file in 0..COUNT {
        client.unlink(dir, &format!("f{file}")).await.unwrap();
    }
    let refused = || async { report(&client, GetReport::default()).await.stuck.len() };
    eventually("all refusals", || async { refused().await == COUNT }).await;
    harness.put("d/theirs", "y").await;
    let asked = || harness.master.metrics().value("Master.UfsStatusCalls").unwrap();
    let before = asked();
    assert_eq!(look(&client, dir).await, ["theirs"]);
    assert_eq!(asked() - before, 1, "for the new one alone");
    assert_eq!(look(&client, dir).await, ["theirs"]);
    assert_eq!(asked() - before, 1);
    // One that somebody puts in the place of another is noticed, and shown once that is known.
    harness.put("d/f0", "another").await;
    eventually("what came in its place", || async {
        look(&client, dir).await == ["f0", "theirs"]
    })
    .await;
}

#[tokio::test]
async fn all_that_is_refused_is_told_page_by_page() {
    const COUNT: usize = 150;
    let harness = Harness::start().await;
    let client = harness.client().await;
    for file in 0..COUNT {
        harness.put(&format!("d/f{file}"), "x").await;
    }
    let dir = client.lookup(ROOT, "d").await.unwrap().inode;
    client.names(dir).await.unwrap();
    harness
        .ufs
        .faults()
        .fail_next(Call::Delete, u32::MAX, UfsErrorKind::Denied);
    for file in 0..COUNT {
        client.unlink(dir, &format!("f{file}")).await.unwrap();
    }
    let first = || report(&client, GetReport::default());
    eventually("all refusals", || async { first().await.stuck_count == COUNT as u64 }).await;
    assert_eq!(first().await.stuck.len(), 100, "as many as a person reads");
    let (mut seen, mut pages) = (BTreeSet::new(), 0);
    let mut page = GetReport {
        stuck_after: 0,
        stuck_max: 40,
    };
    loop {
        let report = report(&client, page).await;
        let expected = (COUNT - seen.len(), 40.min(COUNT - seen.len()));
        assert_eq!((report.stuck_count as usize, report.stuck.len()), expected);
        let Some(last) = report.stuck.last() else { break };
        page.stuck_after = last.intent;
        seen.extend(report.stuck.into_iter().map(|stuck| stuck.name));
        pages += 1;
    }
    assert_eq!((seen.len(), pages), (COUNT, 4));
}

/// More than are told of at once: they are left in several attempts, and what is not refused goes all the same.
#[tokio::test]
async fn however_much_is_refused_holds_up_nothing() {
    const FOLDERS: usize = 4;
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    for folder in 0..FOLDERS {
        for file in 0..4 {
            harness.put(&format!("d/s{folder}/f{file}"), "x").await;
        }
    }
    client.lookup(ROOT, "d").await.unwrap();
    harness
        .ufs
        .faults()
        .fail_next(Call::Delete, u32::MAX, UfsErrorKind::Denied);
    let delete = Delete {
        path: "/d".into(),
        recursive: true,
        alluxio_only: false,
    };
    let _: Counted = client.ask(Op::Delete(delete)).await.unwrap();
    let refused = || async { report(&client, GetReport::default()).await };
    eventually("all refusals", || async { refused().await.stuck_count == 16 }).await;
    assert!(refused().await.stuck.iter().all(|stuck| stuck.what == "delete"));
    let dir = client.mkdir(ROOT, "d").await.unwrap().inode;
    client.write(&worker, dir, "new", "y").await;
    client.wait_persisted("/d", LONG).await.unwrap();
    harness.ufs.faults().heal();
    let all = SettleIntents {
        all: true,
        ..Default::default()
    };
    let _: Counted = client.ask(Op::SettleIntents(all)).await.unwrap();
    eventually("what is deleted then", || async {
        harness.objects().await.keys().eq(["d/new"])
    })
    .await;
}
