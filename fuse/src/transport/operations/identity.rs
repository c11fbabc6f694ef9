//! Who a request comes from, in the names of the namespace.
//!
//! A request says user and group; the other groups are the name service's, which may be slow, so its answers are kept. A process
//! may have others (setgroups(2), setpriv(1), `docker --group-add`), which /proc tells. Reading that takes longer than most requests,
//! so it is read where the decision needs it: before something is refused, and where membership changes what is done. What the name
//! service adds to a process that has given groups up does no harm: the kernel has checked by the process's own before it asked us.

use super::Asker;
use alluxio_common::users::{self, Cache};
use alluxio_proto::types::Caller;
use alluxio_proto::{ErrorKind, FsError};
use std::sync::Arc;
use std::time::Duration;

/// How long an answer of the name service is believed. It may be slow, and a request may not wait for it each time.
const CALLER_KEPT_FOR: Duration = Duration::from_secs(60);

/// Callers by user and group.
#[derive(Debug)]
pub(super) struct Identities(Cache<(u32, u32), Arc<Caller>>);

impl Identities {
    pub fn new() -> Identities {
        Identities(Cache::new())
    }

    /// The caller with a user and primary group id: with all groups that the name service gives the user.
    pub fn known(&self, by: Asker) -> Arc<Caller> {
        self.0.get(&(by.uid, by.gid), CALLER_KEPT_FOR, |&(uid, gid)| {
            Arc::new(caller(uid, gid, users::groups_of(uid)))
        })
    }

    /// The caller with the groups of the calling process; without it where it cannot be seen, as in another namespace of processes.
    pub fn exact(&self, by: Asker) -> Arc<Caller> {
        match groups_of_process(by.pid) {
            Some(groups) => {
                let groups = groups.into_iter().map(users::gid_to_name).collect();
                Arc::new(caller(by.uid, by.gid, groups))
            }
            None => self.known(by),
        }
    }

    /// The caller with what the calling process has beyond `refused`, if anything: for one more try of what was refused to that.
    pub fn more_than(&self, by: Asker, refused: &Caller) -> Option<Arc<Caller>> {
        let groups = groups_of_process(by.pid)?;
        let names: Vec<String> = groups.into_iter().map(users::gid_to_name).collect();
        let is_more = names.iter().any(|name| !refused.groups.contains(name));
        is_more.then(|| Arc::new(caller(by.uid, by.gid, names)))
    }
}

/// Whether another group might have helped.
pub(super) fn is_refusal(error: &FsError) -> bool {
    matches!(error.kind, ErrorKind::AccessDenied | ErrorKind::NotPermitted)
}

fn caller(uid: u32, gid: u32, others: Vec<String>) -> Caller {
    let mut groups = vec![users::gid_to_name(gid)];
    for group in others {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let user = users::uid_to_name(uid);
    Caller { user, groups }
}

/// Supplementary groups of a thread. It waits for our answer, so its number is nobody else's.
fn groups_of_process(pid: u32) -> Option<Vec<u32>> {
    if pid == 0 {
        return None;
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    parse_groups(&status)
}

fn parse_groups(status: &str) -> Option<Vec<u32>> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"))?;
    line.split_whitespace().map(|gid| gid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_those_of_the_status() {
        let status = "Name:\tx\nUid:\t1\t1\t1\t1\nGroups:\t0 10 4000000 \nNStgid:\t7\n";
        assert_eq!(parse_groups(status), Some(vec![0, 10, 4_000_000]));
        assert_eq!(parse_groups("Groups:\t\n"), Some(vec![]));
        assert_eq!(parse_groups("Name:\tx\n"), None);
        assert_eq!(groups_of_process(0), None);
        assert!(groups_of_process(std::process::id()).is_some());
    }
}
