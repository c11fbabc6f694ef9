//! Sessions end, streams tell, orphans stay.

use super::harness::*;
use alluxio_common::config::keys;
use alluxio_proto::master::*;
use alluxio_proto::types::WriteType;
use alluxio_proto::{ErrorKind, MasterApi, SessionId};
use alluxio_ufs::Semantics;
use futures::StreamExt;
use std::time::Duration;

fn short_sessions() -> alluxio_common::config::Configuration {
    let mut conf = conf();
    conf.set(keys::user::SESSION_TIMEOUT.name, "300ms");
    conf
}

#[tokio::test]
async fn an_unlinked_file_stays_until_its_last_close() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let other = harness.client().await;
    let file = client.write(&worker, ROOT, "f", "x").await;
    client.wait_persisted("/", LONG).await.unwrap();
    client.open_file(file, false).await.unwrap();
    client.open_file(file, false).await.unwrap();
    other.unlink(ROOT, "f").await.unwrap();
    assert_eq!(client.lookup(ROOT, "f").await.unwrap_err().kind, ErrorKind::NotFound);
    let get = || async {
        client
            .ask::<alluxio_proto::types::Attr>(Op::GetAttr(GetAttr { inode: file }))
            .await
    };
    assert_eq!(get().await.unwrap().nlink, 0);
    client.close(file, false).await.unwrap();
    assert_eq!(get().await.unwrap().nlink, 0);
    client.close(file, false).await.unwrap();
    assert_eq!(get().await.unwrap_err().kind, ErrorKind::NotFound);
    // Nobody had this one open.
    let file = client.write(&worker, ROOT, "g", "x").await;
    client.unlink(ROOT, "g").await.unwrap();
    let gone: Result<alluxio_proto::types::Attr, _> = client.ask(Op::GetAttr(GetAttr { inode: file })).await;
    assert_eq!(gone.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_rename_over_an_open_file_keeps_it() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let old = client.write(&worker, ROOT, "f", "old").await;
    client.open_file(old, false).await.unwrap();
    let new = client.write(&worker, ROOT, "t", "new").await;
    client.rename(ROOT, "t", ROOT, "f").await.unwrap();
    assert_eq!(client.lookup(ROOT, "f").await.unwrap().inode, new);
    let attr: alluxio_proto::types::Attr = client.ask(Op::GetAttr(GetAttr { inode: old })).await.unwrap();
    assert_eq!((attr.nlink, attr.size), (0, 3));
}

#[tokio::test]
async fn silence_ends_a_session_and_recovers_what_it_wrote() {
    let harness = Harness::with(short_sessions(), Semantics::Object).await;
    let worker = harness.worker().await;
    let dead = harness.client().await;
    let lost = dead
        .create(ROOT, "nothing-promised", WriteType::AsyncThrough)
        .await
        .unwrap()
        .attr
        .unwrap()
        .inode;
    let synced = dead.create(ROOT, "synced", WriteType::AsyncThrough).await.unwrap();
    let (inode, version) = (synced.attr.unwrap().inode, synced.write.unwrap().version);
    worker.keep(inode, version, "promised");
    let durable = MarkDurable {
        inode,
        version,
        length: 8,
        mtime_ns: 1,
    };
    let _: Empty = dead.ask(Op::MarkDurable(durable)).await.unwrap();
    let held = dead.write(&worker, ROOT, "held", "x").await;
    dead.open_file(held, false).await.unwrap();
    dead.unlink(ROOT, "held").await.unwrap();
    let client = harness.client().await;
    eventually("the end of the silent session", || async {
        // Keeps this one alive.
        let _: Empty = client.ask(Op::KeepAlive(Empty {})).await.unwrap();
        client
            .lookup(ROOT, "synced")
            .await
            .is_ok_and(|attr| attr.size == 8 && !attr.open_for_write)
    })
    .await;
    assert_eq!(
        client.lookup(ROOT, "nothing-promised").await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    for inode in [lost, held] {
        let gone: Result<alluxio_proto::types::Attr, _> = client.ask(Op::GetAttr(GetAttr { inode })).await;
        assert_eq!(gone.unwrap_err().kind, ErrorKind::NotFound);
    }
    assert_eq!(dead.lookup(ROOT, "synced").await.unwrap_err().kind, ErrorKind::Stale);
    client.wait_persisted("/", LONG).await.unwrap();
    assert_eq!(
        harness.objects().await.get("synced").map(String::as_str),
        Some("promised")
    );
}

#[tokio::test]
async fn a_resumed_session_names_what_it_has_open() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let (a, b) = (
        client.write(&worker, ROOT, "a", "x").await,
        client.write(&worker, ROOT, "b", "x").await,
    );
    for file in [a, b] {
        client.open_file(file, false).await.unwrap();
    }
    client.unlink(ROOT, "a").await.unwrap();
    client.unlink(ROOT, "b").await.unwrap();
    let info = client.open_session(client.session, &[b]).await;
    assert!(info.resumed && info.session == client.session);
    // `a` was closed while the connection was down; `b` is still there.
    let attr = |inode| client.ask::<alluxio_proto::types::Attr>(Op::GetAttr(GetAttr { inode }));
    assert_eq!(attr(a).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(attr(b).await.unwrap().nlink, 0);
    let fresh = client.open_session(99_999, &[]).await;
    assert!(!fresh.resumed && fresh.session != 99_999);
}

#[tokio::test]
async fn others_hear_of_changes() {
    let harness = Harness::start().await;
    let (author, reader) = (harness.client().await, harness.client().await);
    let mut stream = reader.watch().await;
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.items[0].event, Some(WatchEvent::Reset(Empty {})));
    let dir = author.mkdir(ROOT, "d").await.unwrap().inode;
    author.rename(ROOT, "d", ROOT, "e").await.unwrap();
    let mut entries = Vec::new();
    while entries.len() < 3 {
        let batch = stream.next().await.unwrap().unwrap();
        for item in batch.items {
            if let Some(WatchEvent::Entry(entry)) = item.event {
                entries.push((entry.parent, entry.name));
            }
        }
    }
    assert_eq!(entries, [(ROOT, "d".into()), (ROOT, "d".into()), (ROOT, "e".into())]);
    // What is gone is told with what it was.
    let gone = author.mkdir(ROOT, "gone").await.unwrap();
    let rmdir = Rmdir {
        parent: ROOT,
        name: "gone".into(),
        tell_removed: true,
    };
    let removed: Removed = author.ask(Op::Rmdir(rmdir)).await.unwrap();
    assert_eq!(removed.attr.map(|attr| attr.inode), Some(gone.inode));
    let heard = loop {
        let items = stream.next().await.unwrap().unwrap().items;
        let events = items.into_iter().filter_map(|item| item.event);
        let removed = events.filter_map(|event| match event {
            WatchEvent::Entry(entry) => entry.removed,
            _ => None,
        });
        if let Some(attr) = removed.last() {
            break attr;
        }
    };
    assert_eq!((heard.inode, heard.mode), (gone.inode, gone.mode));
    // The author hears of others only.
    let mut own = author.watch().await;
    own.next().await.unwrap().unwrap();
    author.mkdir(dir, "x").await.unwrap();
    assert_eq!(
        own.next().await.unwrap().unwrap().items.len(),
        0,
        "a heartbeat, nothing else"
    );
    let _: Empty = author.ask(Op::CloseSession(Empty {})).await.unwrap();
    assert_eq!(own.next().await.unwrap().unwrap_err().kind, ErrorKind::Stale);
    assert!(harness.master.watch(SessionId(author.session)).await.is_err());
}

#[tokio::test]
async fn a_retry_gets_the_same_answer() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    client.write(&worker, ROOT, "f", "x").await;
    let request = client.request(Op::Unlink(Unlink {
        parent: ROOT,
        name: "f".into(),
        tell_removed: true,
    }));
    let Reply::Removed(removed) = harness.master.call(request.clone()).await.unwrap() else {
        panic!("it was asked what was removed")
    };
    assert_eq!(removed.attr.map(|attr| attr.size), Some(1));
    assert!(harness.master.call(request).await.is_ok(), "done once, answered twice");
    let create = Create {
        parent: ROOT,
        name: "g".into(),
        mode: 0o600,
        open: true,
        ..Default::default()
    };
    let request = client.request(Op::Create(create));
    let Reply::Opened(first) = harness.master.call(request.clone()).await.unwrap() else {
        panic!("another answer")
    };
    let Reply::Opened(again) = harness.master.call(request).await.unwrap() else {
        panic!("another answer")
    };
    assert_eq!(
        (first.attr.unwrap().inode, first.write),
        (again.attr.unwrap().inode, again.write)
    );
    tokio::time::timeout(Duration::from_secs(5), client.close(ROOT, false))
        .await
        .unwrap()
        .unwrap();
}
