//! Sessions end, streams tell, orphans stay.

use super::harness::*;
use alluxio_common::config::keys;
use alluxio_proto::master::*;
use alluxio_proto::types::WriteType;
use alluxio_proto::{ErrorKind, MasterApi, SessionId};
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
    assert_eq!(get().await.unwrap_err().kind, ErrorKind::Gone);
    // Nobody had this one open.
    let file = client.write(&worker, ROOT, "g", "x").await;
    client.unlink(ROOT, "g").await.unwrap();
    let gone: Result<alluxio_proto::types::Attr, _> = client.ask(Op::GetAttr(GetAttr { inode: file })).await;
    assert_eq!(gone.unwrap_err().kind, ErrorKind::Gone);
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
    let harness = Harness::with(short_sessions()).await;
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
        let _: Empty = client.ask(Op::KeepAlive(KeepAlive {})).await.unwrap();
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
        assert_eq!(gone.unwrap_err().kind, ErrorKind::Gone);
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
    assert_eq!(attr(a).await.unwrap_err().kind, ErrorKind::Gone);
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
    let _: Empty = author.ask(Op::CloseSession(CloseSession {})).await.unwrap();
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

/// Attributes of an inode, by its id.
async fn attr_of(client: &Client, inode: u64) -> alluxio_proto::FsResult<alluxio_proto::types::Attr> {
    client.ask(Op::GetAttr(GetAttr { inode })).await
}

#[tokio::test]
async fn what_was_read_before_a_restart_stays_until_its_reader_has_spoken() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let mut files = Vec::new();
    for name in ["read", "closed", "over"] {
        files.push(client.write(&worker, ROOT, name, "x").await);
        client.open_file(*files.last().unwrap(), false).await.unwrap();
    }
    let dir = client.mkdir(ROOT, "tree").await.unwrap().inode;
    let in_tree = client.write(&worker, dir, "f", "x").await;
    client.open_file(in_tree, false).await.unwrap();
    drop(worker);
    let session = client.session;
    drop(client);
    let harness = harness.restart().await;
    let other = harness.client().await;
    other.unlink(ROOT, "read").await.unwrap();
    other.unlink(ROOT, "closed").await.unwrap();
    other.mkdir(ROOT, "d").await.unwrap();
    let new = other.create(ROOT, "new", WriteType::MustCache).await.unwrap_err();
    assert_eq!(new.kind, ErrorKind::Unavailable, "no worker is there");
    let _: Counted = other
        .ask(Op::Delete(Delete {
            path: "/tree".into(),
            recursive: true,
            ..Default::default()
        }))
        .await
        .unwrap();
    // It has not said yet what it has open: all of it may be.
    let client = harness.client_of(session);
    for inode in [files[0], files[1], in_tree] {
        assert!(attr_of(&client, inode).await.is_ok(), "inode {inode} went");
    }
    let info = client.open_session(session, &[files[0], files[2], in_tree]).await;
    assert!(info.resumed);
    assert_eq!(attr_of(&client, files[1]).await.unwrap_err().kind, ErrorKind::Gone);
    eventually("the end of the tree", || async {
        harness.master.state().counters().detached == 0
    })
    .await;
    for inode in [files[0], in_tree] {
        assert_eq!(attr_of(&client, inode).await.unwrap().nlink, 0);
        client.close(inode, false).await.unwrap();
        assert_eq!(attr_of(&client, inode).await.unwrap_err().kind, ErrorKind::Gone);
    }
}

#[tokio::test]
async fn an_opening_on_its_way_survives_a_resume() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let file = client.write(&worker, ROOT, "f", "x").await;
    let open = || {
        let open = Open {
            inode: file,
            read: true,
            open_id: 5,
            ..Default::default()
        };
        client.ask::<Opened>(Op::Open(open))
    };
    open().await.unwrap();
    // Its answer has not arrived when the session resumes, and it is asked for again after that.
    let resume = OpenSession {
        host: HOST.into(),
        resume: client.session,
        opens: vec![OpenForReading {
            inode: file,
            open_id: 5,
        }],
        ..Default::default()
    };
    let info: SessionInfo = client.ask(Op::OpenSession(resume)).await.unwrap();
    assert!(info.resumed);
    open().await.unwrap();
    client.unlink(ROOT, "f").await.unwrap();
    assert_eq!(attr_of(&client, file).await.unwrap().nlink, 0);
    let close = Close {
        inode: file,
        open_id: 5,
        ..Default::default()
    };
    let _: Empty = client.ask(Op::Close(close)).await.unwrap();
    assert_eq!(attr_of(&client, file).await.unwrap_err().kind, ErrorKind::Gone);
}

#[tokio::test]
async fn a_new_session_names_what_is_still_open() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let file = client.write(&worker, ROOT, "f", "x").await;
    let info = client.open_session(99_999, &[file]).await;
    assert!(!info.resumed);
    let again = harness.client_of(info.session);
    client.unlink(ROOT, "f").await.unwrap();
    assert_eq!(attr_of(&again, file).await.unwrap().nlink, 0);
}

#[tokio::test]
async fn an_answer_is_kept_while_its_client_waits() {
    let harness = Harness::start().await;
    let mut client = harness.client().await;
    client.lowest_op = 1;
    let mkdir = |name: String| {
        client.request(Op::Mkdir(Mkdir {
            parent: ROOT,
            name: name.into(),
            mode: 0o755,
            ..Default::default()
        }))
    };
    let waited_for = mkdir("first".into());
    let answer = harness.master.call(waited_for.clone()).await.unwrap();
    let others: Vec<_> = (0..600).map(|n| harness.master.call(mkdir(n.to_string()))).collect();
    for made in futures::future::join_all(others).await {
        made.unwrap();
    }
    let again = harness.master.call(waited_for).await;
    assert_eq!(again.unwrap(), answer, "made once, answered twice");
}

/// Who opens what is unlinked already, since others still have it open, keeps it as they do.
#[tokio::test]
async fn an_unlinked_file_that_is_opened_once_more_stays() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let other = harness.client().await;
    let file = client.write(&worker, ROOT, "f", "x").await;
    client.wait_persisted("/", LONG).await.unwrap();
    client.open_file(file, true).await.unwrap();
    other.unlink(ROOT, "f").await.unwrap();
    other.open_file(file, false).await.unwrap();
    client.close(file, true).await.unwrap();
    let get = |client: Client| async move {
        let attr = client.ask::<alluxio_proto::types::Attr>(Op::GetAttr(GetAttr { inode: file }));
        attr.await.map(|attr| attr.nlink).map_err(|error| error.kind)
    };
    assert_eq!(get(other.clone()).await, Ok(0));
    // The same of a session that wrote it, and reads it now.
    other.open_file(file, true).await.unwrap();
    other.close(file, false).await.unwrap();
    assert_eq!(get(other.clone()).await, Ok(0));
    other.open_file(file, false).await.unwrap();
    other.close(file, true).await.unwrap();
    assert_eq!(get(client.clone()).await, Ok(0));
    other.close(file, false).await.unwrap();
    assert_eq!(get(other).await, Err(ErrorKind::Gone));
}

/// A file that was made and given up goes; who has it open for reading keeps it until the close, as any that is removed.
#[tokio::test]
async fn a_file_that_its_writer_gives_up_stays_for_who_reads_it() {
    let harness = Harness::start().await;
    let (client, _worker) = (harness.client().await, harness.worker().await);
    let other = harness.client().await;
    let create = Create {
        parent: ROOT,
        name: "f".into(),
        mode: 0o644,
        open: true,
        ..Default::default()
    };
    let opened: Opened = client.ask(Op::Create(create)).await.unwrap();
    let file = opened.attr.unwrap().inode;
    other.open_file(file, false).await.unwrap();
    let close = Close {
        inode: file,
        write: true,
        abandon: true,
        ..Default::default()
    };
    let _: Empty = client.ask(Op::Close(close)).await.unwrap();
    let get = |client: Client| async move {
        let attr = client.ask::<alluxio_proto::types::Attr>(Op::GetAttr(GetAttr { inode: file }));
        attr.await.map(|attr| attr.nlink).map_err(|error| error.kind)
    };
    assert_eq!(get(other.clone()).await, Ok(0));
    other.close(file, false).await.unwrap();
    assert_eq!(get(other).await, Err(ErrorKind::Gone));
}
