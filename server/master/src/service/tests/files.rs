//! Opening and committing, sharing, attributes.

use super::harness::*;
use alluxio_common::config::keys;
use alluxio_proto::ErrorKind;
use alluxio_proto::master::*;
use alluxio_proto::types::{Attr, WriteType};

#[tokio::test]
async fn everybody_reads_where_it_is_being_written() {
    let harness = Harness::start().await;
    let (writer, worker) = (harness.client().await, harness.worker().await);
    let reader = harness.client().await;
    let opened = writer.create(ROOT, "f", WriteType::AsyncThrough).await.unwrap();
    let inode = opened.attr.clone().unwrap().inode;
    let seen = reader.open_file(inode, false).await.unwrap();
    assert_eq!(seen.write.unwrap().version, opened.write.clone().unwrap().version);
    assert!(seen.read.is_none() && seen.attr.unwrap().open_for_write);
    writer.finish(&worker, &opened, "abc").await;
    let seen = reader.open_file(inode, false).await.unwrap();
    assert_eq!((seen.read.unwrap().length, seen.write), (3, None));
}

#[tokio::test]
async fn content_that_is_nowhere_else_is_changed_where_it_is() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let far = FakeWorker::start(harness.master.clone(), harness.ufs.clone(), "elsewhere", 0).await;
    let opened = client.create(ROOT, "f", WriteType::MustCache).await.unwrap();
    assert_eq!(
        opened.write.as_ref().unwrap().home.as_ref().unwrap().worker_id,
        worker.id
    );
    let file = client.finish(&worker, &opened, "abc").await;
    let mut visitor = harness.client().await;
    let open = OpenSession {
        client: "far".into(),
        host: "elsewhere".into(),
        ..Default::default()
    };
    visitor.session = visitor.ask::<SessionInfo>(Op::OpenSession(open)).await.unwrap().session;
    let again = visitor.open_file(file, true).await.unwrap().write.unwrap();
    assert_eq!(again.home.unwrap().worker_id, worker.id);
    let fresh = visitor
        .create(ROOT, "g", WriteType::MustCache)
        .await
        .unwrap()
        .write
        .unwrap();
    assert_eq!(fresh.home.unwrap().worker_id, far.id);
}

#[tokio::test]
async fn reading_needs_permission() {
    let harness = Harness::start().await;
    let (mut client, worker) = (harness.client().await, harness.worker().await);
    let file = client.write(&worker, ROOT, "f", "secret").await;
    let chmod = SetAttr {
        inode: file,
        mode: Some(0o600),
        ..Default::default()
    };
    let _: Attr = client.ask(Op::SetAttr(chmod)).await.unwrap();
    client.caller.user = "somebody".into();
    client.caller.groups = vec![];
    assert_eq!(
        client.open_file(file, false).await.unwrap_err().kind,
        ErrorKind::AccessDenied
    );
    assert_eq!(
        client.open_file(file, true).await.unwrap_err().kind,
        ErrorKind::AccessDenied
    );
    client.caller.groups = vec!["supergroup".into()];
    assert!(client.open_file(file, false).await.is_ok());
}

#[tokio::test]
async fn cache_times_follow_the_sync_interval() {
    for (interval, backed_ms) in [("-1", 3_600_000), ("0", 0), ("10ms", 1000), ("30s", 30_000)] {
        let mut conf = conf();
        conf.set(keys::user::SYNC_INTERVAL.name, interval);
        let harness = Harness::with(conf).await;
        let (client, worker) = (harness.client().await, harness.worker().await);
        harness.put("theirs", "x").await;
        assert_eq!(
            client.lookup(ROOT, "theirs").await.unwrap().cache_ms,
            backed_ms,
            "{interval}"
        );
        let hold = worker.hold.write().await;
        client.write(&worker, ROOT, "ours", "x").await;
        assert_eq!(
            client.lookup(ROOT, "ours").await.unwrap().cache_ms,
            3_600_000,
            "{interval}"
        );
        drop(hold);
    }
}

#[tokio::test]
async fn links_and_special_files() {
    let harness = Harness::start().await;
    let client = harness.client().await;
    let link = Symlink {
        parent: ROOT,
        name: "l".into(),
        target: "no/where".into(),
    };
    let made: Attr = client.ask(Op::Symlink(link)).await.unwrap();
    let read: LinkTarget = client.ask(Op::ReadLink(ReadLink { inode: made.inode })).await.unwrap();
    assert_eq!(read.target, "no/where");
    let fifo = Mknod {
        parent: ROOT,
        name: "p".into(),
        kind: 3,
        mode: 0o600,
        rdev: 0,
        umask: 0,
    };
    let made: Attr = client.ask(Op::Mknod(fifo)).await.unwrap();
    assert_eq!(
        client.open_file(made.inode, false).await.unwrap_err().kind,
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        client.open_file(ROOT, false).await.unwrap_err().kind,
        ErrorKind::IsADirectory
    );
}

#[tokio::test]
async fn a_tree_with_many_hard_links_goes_name_by_name() {
    let harness = Harness::start().await;
    let client = harness.client().await;
    let _worker = harness.worker().await;
    let dir = client.mkdir(ROOT, "d").await.unwrap().inode;
    let sub = client.mkdir(dir, "s").await.unwrap().inode;
    let file = client.create(dir, "f", WriteType::MustCache).await.unwrap();
    let file = file.attr.unwrap().inode;
    let link = |parent, name: String| {
        Op::Link(Link {
            inode: file,
            parent,
            name: name.into(),
        })
    };
    let _: Attr = client.ask(link(ROOT, "kept".into())).await.unwrap();
    for n in 0..101 {
        let linked: Attr = client
            .ask(link(if n % 2 == 0 { dir } else { sub }, format!("n{n}")))
            .await
            .unwrap();
        assert_eq!(linked.nlink, n + 3);
    }
    let delete = Delete {
        path: "/d".into(),
        recursive: true,
        alluxio_only: false,
    };
    let counted: Counted = client.ask(Op::Delete(delete)).await.unwrap();
    assert_eq!(counted.files, 104);
    assert_eq!(client.names(ROOT).await.unwrap(), ["kept"]);
    let attr: Attr = client.ask(Op::GetAttr(GetAttr { inode: file })).await.unwrap();
    assert_eq!((attr.nlink, attr.parent), (1, ROOT));
}

#[tokio::test]
async fn attributes_are_shown_to_whom_they_concern() {
    let harness = Harness::start().await;
    let client = harness.client().await;
    let dir = client.mkdir(ROOT, "d").await.unwrap().inode;
    for name in ["user.a", "trusted.b"] {
        let set = SetXattr {
            inode: dir,
            name: name.into(),
            value: name.into(),
            flags: 0,
        };
        let attr: Attr = client.ask(Op::SetXattr(set)).await.unwrap();
        assert_eq!(attr.xattr_flags, alluxio_proto::types::XATTRS);
    }
    let get = |name: &'static str| {
        Op::GetXattr(GetXattr {
            inode: dir,
            name: name.into(),
        })
    };
    let value: XattrValue = client.ask(get("trusted.b")).await.unwrap();
    assert_eq!(value.value, "trusted.b");
    let names: XattrNames = client.ask(Op::ListXattrs(ListXattrs { inode: dir })).await.unwrap();
    assert_eq!(names.names, ["trusted.b", "user.a"]);
    for name in ["user.none", "trusted.none"] {
        let missing: Result<XattrValue, _> = client.ask(get(name)).await;
        assert_eq!(missing.unwrap_err().kind, ErrorKind::NoAttribute, "{name}");
    }
    let acls: Acls = client.ask(Op::GetAcl(GetAcl { inode: dir })).await.unwrap();
    assert_eq!(acls, Acls::default());
}

#[tokio::test]
async fn names_that_the_store_cannot_hold_are_refused_at_once() {
    let harness = Harness::start().await;
    let client = harness.client().await;
    let _worker = harness.worker().await;
    let name = bytes::Bytes::from_static(b"\xff\xfe");
    let create = Create {
        parent: ROOT,
        name: name.clone(),
        mode: 0o644,
        open: true,
        ..Default::default()
    };
    let refused: Result<Opened, _> = client.ask(Op::Create(create.clone())).await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::InvalidArgument);
    let cached = Create {
        write_type: WriteType::MustCache as i32,
        ..create
    };
    assert!(client.ask::<Opened>(Op::Create(cached)).await.is_ok());
    let long = client.mkdir(ROOT, &"x".repeat(256)).await.unwrap_err();
    assert_eq!(long.kind, ErrorKind::NameTooLong);
}

#[tokio::test]
async fn a_folder_is_not_moved_to_where_what_is_in_it_would_be_too_long() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let mut at = client.mkdir(ROOT, "d").await.unwrap().inode;
    for _ in 0..4 {
        at = client.mkdir(at, &"n".repeat(200)).await.unwrap().inode;
    }
    // 1 + 4 * 201 + 1 + 200 bytes of the 1,024 that a key may have.
    client.write(&worker, at, &"f".repeat(200), "x").await;
    let too_long = client
        .create(at, &"g".repeat(255), WriteType::AsyncThrough)
        .await
        .unwrap_err();
    assert_eq!(too_long.kind, ErrorKind::NameTooLong, "{too_long}");
    let error = client.rename(ROOT, "d", ROOT, &"e".repeat(40)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NameTooLong, "{error}");
    client.rename(ROOT, "d", ROOT, &"e".repeat(5)).await.unwrap();
    client.rename(ROOT, &"e".repeat(5), ROOT, "f").await.unwrap();
    client.wait_persisted("/", LONG).await.unwrap();
}
