use super::*;
use crate::protocol::golden::{lines, tag_of};
use prost::Message;

/// Tags of operations. A line is never changed nor taken out: other versions of clients and servers have it.
const OPERATIONS: &str = "
    10 OpenSession
    11 CloseSession
    12 KeepAlive
    13 Lookup
    14 GetAttr
    15 ResolvePath
    16 ReadDir
    17 Create
    18 Mkdir
    19 Symlink
    20 Mknod
    21 ReadLink
    22 Unlink
    23 Rmdir
    24 Rename
    25 Delete
    26 SetAttr
    27 Open
    28 Commit
    29 MarkDurable
    30 Close
    31 StatFs
    32 WaitPersisted
    33 Free
    34 Count
    35 Locate
    36 GetPath
    37 Mount
    38 Unmount
    39 GetMounts
    40 GetReport
    41 RegisterWorker
    42 WorkerHeartbeat
    43 PersistDone
    44 Recovered
    45 UfsChanged
    60 SetLock
    61 GetLock
    62 CancelLock
    70 Link
    71 Tmpfile
    72 SetXattr
    73 GetXattr
    74 ListXattrs
    75 RemoveXattr
    76 SetAcl
    77 GetAcl
    78 TouchAtimes
    90 Challenge
    91 SettleIntents
    92 Spill
    98 CopyDone
";

/// Tags of replies; as [`OPERATIONS`].
const REPLIES: &str = "
    10 SessionInfo
    11 Empty
    12 Attr
    13 DirPage
    14 Opened
    15 LinkTarget
    16 Counted
    17 FsStat
    18 Locations
    19 PathReply
    20 MountInfo
    21 MountTable
    22 Report
    23 Registered
    24 WorkerTasks
    40 LockReply
    50 XattrValue
    51 XattrNames
    52 Acls
    53 Removed
    90 Challenged
";

#[test]
fn tags_are_for_ever() {
    let mut operations = Vec::new();
    for op in Op::samples() {
        let name = op.name();
        assert_eq!(Op::NAMES[op.number()], name);
        let request = MasterRequest {
            op: Some(op),
            ..Default::default()
        };
        let bytes = request.encode_to_vec();
        assert_eq!(MasterRequest::decode(&bytes[..]), Ok(request));
        operations.push(format!("{} {name}", tag_of(&bytes)));
    }
    operations.sort();
    assert_eq!(operations, lines(OPERATIONS));
    let mut replies = Vec::new();
    for (name, reply) in Reply::samples() {
        let message = reply.into_message();
        let bytes = message.encode_to_vec();
        assert_eq!(MasterReply::decode(&bytes[..]), Ok(message));
        replies.push(format!("{} {name}", tag_of(&bytes)));
    }
    replies.sort();
    assert_eq!(replies, lines(REPLIES));
}

/// Bytes of a client of before: what is asked, who asks, and as what.
#[test]
fn bytes_of_before_are_understood() {
    let bytes = b"\x08\x07\x10\x09\x1a\x06\x0a\x04anna\x20\x05\xc2\x01\x0b\x08\x01\x12\x01a\x18\x02\x22\x02bc";
    let rename = Rename {
        parent: 1,
        name: "a".into(),
        new_parent: 2,
        new_name: "bc".into(),
        ..Default::default()
    };
    let caller = Caller {
        user: "anna".to_owned(),
        ..Default::default()
    };
    let request = MasterRequest {
        session: 7,
        op_id: 9,
        caller: Some(caller),
        lowest_op: 5,
        op: Some(rename.into()),
    };
    assert_eq!(request.encode_to_vec(), bytes);
    assert_eq!(MasterRequest::decode(&bytes[..]), Ok(request));
}

#[test]
fn an_operation_knows_its_reply_and_what_it_is_about() {
    let removed = Removed {
        attr: Some(Attr::default()),
    };
    assert_eq!(Unlink::answered_by(removed.clone().into()), Ok(removed));
    assert_eq!(
        Unlink::answered_by(Empty {}.into()),
        Ok(Removed::default()),
        "a master of before"
    );
    let error = GetAttr::answered_by(Empty {}.into()).expect_err("not an Attr");
    assert_eq!(error.kind, crate::ErrorKind::Internal);
    assert!(error.to_string().contains("GetAttr"), "{error}");
    let link: Op = Link {
        inode: 3,
        parent: 4,
        ..Default::default()
    }
    .into();
    assert_eq!((link.named_inodes(), link.about_inode()), ([3, 4], 3));
    let close: Op = Close {
        inode: 3,
        ..Default::default()
    }
    .into();
    assert_eq!((close.named_inodes(), close.about_inode()), ([0, 0], 3));
    let lock = FileLock {
        inode: 6,
        ..Default::default()
    };
    let lock: Op = SetLock {
        lock: Some(lock),
        ..Default::default()
    }
    .into();
    assert_eq!((lock.named_inodes(), lock.about_inode()), ([6, 0], 6));
    let walking = Op::samples();
    let walking: Vec<_> = walking.iter().filter(|op| op.walks()).map(Op::name).collect();
    assert_eq!(walking, ["Delete", "Free", "Count", "Mount", "Unmount"]);
    let droppable = Op::samples();
    let droppable: Vec<_> = droppable.iter().filter(|op| op.is_droppable()).map(Op::name).collect();
    assert_eq!(droppable, ["WaitPersisted", "Count"]);
}
