//! What workers say they hold.

use super::*;
use crate::state::inode::CachedAt;
use alluxio_proto::master::CachedFile;

/// The worker reported that it holds nothing of version 1 any more when that was opened for writing, and version 2 was
/// committed before the report came: who lost the holder by that found the file nowhere.
#[test]
fn a_report_that_is_slower_than_a_commit_takes_nothing_from_it() {
    let state = formatted(false);
    let worker = run(&state, Command::system(2, RegisterWorker::default())).unwrap().id;
    let session = session(&state);
    let new = CreateFile {
        home_worker: worker,
        ..create(1, "f", true)
    };
    let file = run(&state, as_user("ann", session, 1, new))
        .unwrap()
        .attr
        .unwrap()
        .inode;
    let inode = || state.inode(file.into()).unwrap();
    let first = inode().open.as_ref().unwrap().version;
    for (version, keep_open) in [(first, true), (first + 1, false)] {
        let commit = Commit {
            inode: file,
            version,
            length: 4,
            keep_open,
            ..Default::default()
        };
        run(&state, as_user("ann", session, version + 1, commit)).unwrap();
    }
    let report = |version, bytes| {
        let cached = CachedFile {
            inode: file,
            version,
            bytes,
        };
        let report = ReportCached {
            worker_id: worker,
            files: vec![cached],
        };
        let freed = run(&state, Command::system(6, report)).unwrap().freed;
        (freed.len(), inode().locations.clone())
    };
    let holder = CachedAt {
        worker,
        version: first + 1,
        bytes: 4,
    };
    assert_eq!(report(first, 0), (0, vec![holder]));
    // What it holds of the old version it need not keep, and what it holds of the new one stays known.
    assert_eq!(report(first, 4), (1, vec![holder]));
    assert_eq!(report(first + 1, 0), (0, Vec::new()));
}
