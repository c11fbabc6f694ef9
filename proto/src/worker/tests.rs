use super::*;
use crate::protocol::golden::{lines, tag_of};
use prost::Message;

/// Tags of operations. A line is never changed nor taken out: other versions of clients and servers have it.
const OPERATIONS: &str = "
    10 OpenRead
    11 Read
    12 OpenWrite
    13 Write
    14 SetLength
    15 Allocate
    16 SetTimes
    17 StatOpen
    18 SyncOpen
    19 Seal
    20 Drop
    21 Load
    22 SeekRange
    23 CopyRange
    24 PassAgain
    90 Identify
";

/// Tags of replies; as [`OPERATIONS`].
const REPLIES: &str = "
    10 OpenedFile
    11 Empty
    12 Written
    13 OpenStat
    14 Sought
    90 Identity
";

#[test]
fn tags_are_for_ever() {
    let mut operations = Vec::new();
    for op in WorkerOp::samples() {
        let name = op.name();
        assert_eq!(WorkerOp::NAMES[op.number()], name);
        let request = WorkerRequest {
            op: Some(op),
            ..Default::default()
        };
        let bytes = request.encode_to_vec();
        assert_eq!(WorkerRequest::decode(&bytes[..]), Ok(request));
        operations.push(format!("{} {name}", tag_of(&bytes)));
    }
    operations.sort();
    assert_eq!(operations, lines(OPERATIONS));
    let mut replies = Vec::new();
    for (name, reply) in WorkerReplyBody::samples() {
        let message = WorkerReply {
            reply: Some(reply),
            ..Default::default()
        };
        let bytes = message.encode_to_vec();
        assert_eq!(WorkerReply::decode(&bytes[..]), Ok(message));
        replies.push(format!("{} {name}", tag_of(&bytes)));
    }
    replies.sort();
    assert_eq!(replies, lines(REPLIES));
}

#[test]
fn only_what_can_be_asked_again_is_droppable() {
    let droppable = WorkerOp::samples();
    let droppable: Vec<_> = droppable
        .iter()
        .filter(|op| op.is_droppable())
        .map(WorkerOp::name)
        .collect();
    assert_eq!(droppable, ["Read", "StatOpen"]);
}
