//! A call that names an inode by its number hears whether the inode is gone, or only a name in it.

use super::harness::*;
use alluxio_proto::ErrorKind;
use alluxio_proto::master::*;
use alluxio_proto::types::{Attr, FileKind};
use bytes::Bytes;

/// Every call that a kernel may make by the number of a file or symbolic link.
fn by_file(inode: u64, dir: u64) -> Vec<Op> {
    let name = Bytes::from_static(b"user.x");
    vec![
        Op::GetAttr(GetAttr { inode }),
        Op::SetAttr(SetAttr {
            inode,
            mode: Some(0o600),
            ..Default::default()
        }),
        Op::ReadLink(ReadLink { inode }),
        Op::Open(Open {
            inode,
            read: true,
            ..Default::default()
        }),
        Op::Open(Open {
            inode,
            write: true,
            ..Default::default()
        }),
        Op::StatFs(StatFs { inode }),
        Op::GetPath(GetPath { inode }),
        Op::Link(Link {
            inode,
            parent: dir,
            name: "l".into(),
        }),
        Op::SetXattr(SetXattr {
            inode,
            name: name.clone(),
            value: name.clone(),
            ..Default::default()
        }),
        Op::GetXattr(GetXattr {
            inode,
            name: name.clone(),
        }),
        Op::ListXattrs(ListXattrs { inode }),
        Op::RemoveXattr(RemoveXattr { inode, name }),
        Op::GetAcl(GetAcl { inode }),
        Op::SetAcl(SetAcl {
            inode,
            ..Default::default()
        }),
    ]
}

/// Every call that a kernel may make by the number of a directory; `dir` and `file` are there.
fn by_dir(parent: u64, dir: u64, file: u64) -> Vec<Op> {
    let name = Bytes::from_static(b"n");
    let rename = |parent, new_parent| {
        Op::Rename(Rename {
            parent,
            name: name.clone(),
            new_parent,
            new_name: name.clone(),
            ..Default::default()
        })
    };
    vec![
        Op::Lookup(Lookup {
            parent,
            name: name.clone(),
        }),
        Op::ReadDir(ReadDir {
            inode: parent,
            ..Default::default()
        }),
        Op::Create(Create {
            parent,
            name: name.clone(),
            open: true,
            ..Default::default()
        }),
        Op::Mkdir(Mkdir {
            parent,
            name: name.clone(),
            ..Default::default()
        }),
        Op::Symlink(Symlink {
            parent,
            name: name.clone(),
            target: name.clone(),
        }),
        Op::Mknod(Mknod {
            parent,
            kind: FileKind::Fifo as i32,
            name: name.clone(),
            ..Default::default()
        }),
        Op::Unlink(Unlink {
            parent,
            name: name.clone(),
            ..Default::default()
        }),
        Op::Rmdir(Rmdir {
            parent,
            name: name.clone(),
            ..Default::default()
        }),
        rename(parent, dir),
        rename(dir, parent),
        Op::Link(Link {
            inode: file,
            parent,
            name: name.clone(),
        }),
        Op::Tmpfile(Tmpfile {
            parent,
            ..Default::default()
        }),
    ]
}

#[tokio::test]
async fn every_call_by_an_inode_that_went_is_told_so() {
    let harness = Harness::start().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let dir = client.mkdir(ROOT, "dir").await.unwrap().inode;
    let file = client.write(&worker, dir, "f", "x").await;
    client.unlink(dir, "f").await.unwrap();
    for op in by_file(file, dir) {
        let what = format!("{op:?}");
        let error = client.api.call(client.request(op)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Gone, "{what}: {error}");
    }
    let gone = client.mkdir(ROOT, "gone").await.unwrap().inode;
    let remove = Rmdir {
        parent: ROOT,
        name: "gone".into(),
        ..Default::default()
    };
    let _: Empty = client.ask(Op::Rmdir(remove)).await.unwrap();
    let file = client.write(&worker, dir, "n", "x").await;
    for op in by_dir(gone, dir, file) {
        let what = format!("{op:?}");
        let error = client.api.call(client.request(op)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Gone, "{what}: {error}");
    }
}

#[tokio::test]
async fn a_deleted_tree_is_gone_before_it_is_reclaimed() {
    let harness = Harness::start().await;
    let before = harness.client().await;
    let tree = before.mkdir(ROOT, "tree").await.unwrap().inode;
    drop(before);
    // Nothing is reclaimed until the session of before has said what it has open.
    let harness = harness.restart().await;
    let (client, worker) = (harness.client().await, harness.worker().await);
    let dir = client.mkdir(ROOT, "dir").await.unwrap().inode;
    let file = client.write(&worker, dir, "n", "x").await;
    let delete = Delete {
        path: "/tree".into(),
        recursive: true,
        ..Default::default()
    };
    let _: Counted = client.ask(Op::Delete(delete)).await.unwrap();
    // Who has it open still reads it, as any directory that was removed: empty.
    let calls = by_dir(tree, dir, file).into_iter();
    for op in calls.filter(|op| !matches!(op, Op::ReadDir(_))) {
        let what = format!("{op:?}");
        let error = client.api.call(client.request(op)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Gone, "{what}: {error}");
    }
    assert_eq!(harness.master.state().counters().detached, 1);
}

#[tokio::test]
async fn a_name_that_is_not_there_is_not_found() {
    let harness = Harness::start().await;
    let client = harness.client().await;
    let dir = client.mkdir(ROOT, "dir").await.unwrap().inode;
    for name in ["n", "m"] {
        assert_eq!(client.lookup(dir, name).await.unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(client.unlink(dir, name).await.unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(
            client.rename(dir, name, ROOT, name).await.unwrap_err().kind,
            ErrorKind::NotFound
        );
    }
    // Who keeps no numbers, as a command of a person, hears what it always did.
    let person = harness.client_of(0);
    let gone = person.ask::<Attr>(Op::GetAttr(GetAttr { inode: 999_999 })).await;
    assert_eq!(gone.unwrap_err().kind, ErrorKind::NotFound);
}
