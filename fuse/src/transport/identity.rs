//! Who asks, and whom a file belongs to: ids of this host and names of the namespace (DESIGN D14).
//!
//! Look-ups are kept for a while: a name service may be slow, and a request may not wait for it each time.

use alluxio_common::sync::Mutex;
use alluxio_proto::types::Caller;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an answer of the name service is believed.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Answers kept at once; past it all are asked for anew.
const ANSWERS_MAX: usize = 10_000;

/// Cached answers of the name service.
#[derive(Default)]
pub struct Identity {
    callers: Cached<(u32, u32), Arc<Caller>>,
    users: Cached<String, u32>,
    groups: Cached<String, u32>,
}

impl Identity {
    /// The caller with a user and primary group id: with all groups of the user, as a server of files sees it.
    pub fn caller(&self, uid: u32, gid: u32) -> Arc<Caller> {
        self.callers.get_or((uid, gid), || Arc::new(look_up_caller(uid, gid)))
    }

    /// User id of an owner; one that this host does not know is nobody.
    pub fn uid(&self, owner: &str) -> u32 {
        self.users.get_or(owner.to_owned(), || {
            let known = User::from_name(owner).ok().flatten().map(|user| user.uid.as_raw());
            known.or_else(|| owner.parse().ok()).unwrap_or(NOBODY)
        })
    }

    /// Group id of a group; one that this host does not know is nobody's.
    pub fn gid(&self, group: &str) -> u32 {
        self.groups.get_or(group.to_owned(), || {
            let known = Group::from_name(group).ok().flatten().map(|group| group.gid.as_raw());
            known.or_else(|| group.parse().ok()).unwrap_or(NOBODY)
        })
    }
}

/// What Linux calls the overflow id.
const NOBODY: u32 = 65534;

/// Name of a user id; decimal if it has none.
pub fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid))
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name)
}

/// Name of a group id; decimal if it has none.
pub fn group_name(gid: u32) -> String {
    Group::from_gid(Gid::from_raw(gid))
        .ok()
        .flatten()
        .map_or_else(|| gid.to_string(), |group| group.name)
}

fn look_up_caller(uid: u32, gid: u32) -> Caller {
    let mut groups = vec![group_name(gid)];
    if let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) {
        let name = std::ffi::CString::new(user.name.clone()).unwrap_or_default();
        for group in getgrouplist(&name, user.gid).unwrap_or_default() {
            let group = group_name(group.as_raw());
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        return Caller {
            user: user.name,
            groups,
        };
    }
    Caller {
        user: uid.to_string(),
        groups,
    }
}

struct Cached<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Cached<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq, V: Clone> Cached<K, V> {
    fn get_or(&self, key: K, look_up: impl FnOnce() -> V) -> V {
        if let Some((when, value)) = self.0.lock().get(&key)
            && when.elapsed() < KEPT_FOR
        {
            return value.clone();
        }
        let value = look_up();
        let mut kept = self.0.lock();
        if kept.len() >= ANSWERS_MAX {
            kept.clear();
        }
        kept.insert(key, (Instant::now(), value.clone()));
        value
    }
}
