//! Users and groups by name, remembered for a minute: a listing asks for the same few again and again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use alluxio_common::sync::Mutex;
use nix::unistd::{Gid, Group, Uid, User};

/// How long a name is believed.
const TTL: Duration = Duration::from_secs(60);
/// Most names of each kind that are remembered.
const NAMES_MAX: usize = 4096;

#[derive(Debug)]
struct Known {
    since: Instant,
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

/// The cache.
#[derive(Debug)]
pub(super) struct Names(Mutex<Known>);

impl Default for Names {
    fn default() -> Self {
        Self(Mutex::new(Known {
            since: Instant::now(),
            users: HashMap::new(),
            groups: HashMap::new(),
        }))
    }
}

impl Names {
    /// Name of a user, or the number if it has none.
    pub fn user(&self, uid: u32) -> String {
        let look_up = || Some(User::from_uid(Uid::from_raw(uid)).ok()??.name);
        self.remember(|known| &mut known.users, uid, look_up)
    }

    /// Name of a group, or the number if it has none.
    pub fn group(&self, gid: u32) -> String {
        let look_up = || Some(Group::from_gid(Gid::from_raw(gid)).ok()??.name);
        self.remember(|known| &mut known.groups, gid, look_up)
    }

    fn remember(
        &self,
        map: impl Fn(&mut Known) -> &mut HashMap<u32, String>,
        id: u32,
        look_up: impl FnOnce() -> Option<String>,
    ) -> String {
        {
            let mut known = self.0.lock();
            if known.since.elapsed() > TTL {
                known.users.clear();
                known.groups.clear();
                known.since = Instant::now();
            }
            if let Some(name) = map(&mut known).get(&id) {
                return name.clone();
            }
        }
        // Not under the lock: it may ask a directory service.
        let name = look_up().unwrap_or_else(|| id.to_string());
        let mut known = self.0.lock();
        let names = map(&mut known);
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        names.insert(id, name.clone());
        name
    }
}

/// Number of a user; unknown names that are no number have none.
pub(super) fn uid_of(name: &str) -> Option<Uid> {
    match User::from_name(name) {
        Ok(Some(user)) => Some(user.uid),
        _ => name.parse().ok().map(Uid::from_raw),
    }
}

/// Number of a group; unknown names that are no number have none.
pub(super) fn gid_of(name: &str) -> Option<Gid> {
    match Group::from_name(name) {
        Ok(Some(group)) => Some(group.gid),
        _ => name.parse().ok().map(Gid::from_raw),
    }
}
