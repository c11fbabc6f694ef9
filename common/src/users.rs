//! Names of users and groups and their numbers, as this host knows them (DESIGN D14).
//!
//! Owners are stored by name. A number without a name is its decimal text, and such text is its number again, so that
//! nothing is lost on a host that knows fewer people. The system is asked (files, LDAP, whatever it uses) at most once
//! per minute and name; a look-up may block, so a caller on an async thread that sees many users does it elsewhere.

use crate::sync::Mutex;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::ffi::CString;
use std::hash::Hash;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// How long an answer is kept, unless [`Users::new`] is told otherwise: Alluxio's `group.mapping.cache.timeout`.
const KEEP: Duration = Duration::from_secs(60);
/// Answers kept per kind; beyond it the whole kind is forgotten, which costs one look-up each.
const CACHE_ENTRIES_MAX: usize = 10_000;

/// Users and groups of this host, with a cache.
#[derive(Debug)]
pub struct Users {
    keep: Duration,
    user_names: Cache<u32, String>,
    group_names: Cache<u32, String>,
    user_ids: Cache<String, Option<u32>>,
    group_ids: Cache<String, Option<u32>>,
    groups: Cache<u32, Vec<String>>,
}

/// Answers of a name service, kept for a time.
#[derive(Debug)]
pub struct Cache<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K: Eq + Hash, V: Clone> Default for Cache<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// Empty.
    pub fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// The answer that is kept, if it is younger than `keep`; else `ask` gives it. The lock is not held meanwhile.
    pub fn get<Q>(&self, key: &Q, keep: Duration, ask: impl FnOnce(&Q) -> V) -> V
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if let Some((asked, value)) = self.0.lock().get(key)
            && asked.elapsed() < keep
        {
            return value.clone();
        }
        let value = ask(key);
        let mut kept = self.0.lock();
        if kept.len() >= CACHE_ENTRIES_MAX {
            kept.clear();
        }
        kept.insert(key.to_owned(), (Instant::now(), value.clone()));
        value
    }
}

impl Users {
    /// With a time that answers are kept.
    pub fn new(keep: Duration) -> Self {
        Self {
            keep,
            user_names: Cache::new(),
            group_names: Cache::new(),
            user_ids: Cache::new(),
            group_ids: Cache::new(),
            groups: Cache::new(),
        }
    }

    /// Name of a user, or the number as text.
    pub fn uid_to_name(&self, uid: u32) -> String {
        self.user_names
            .get(&uid, self.keep, |uid| match User::from_uid(Uid::from_raw(*uid)) {
                Ok(Some(user)) => user.name,
                Ok(None) => uid.to_string(),
                Err(error) => {
                    tracing::warn!(uid, %error, "look up a user; going on with the number");
                    uid.to_string()
                }
            })
    }

    /// Name of a group, or the number as text.
    pub fn gid_to_name(&self, gid: u32) -> String {
        self.group_names
            .get(&gid, self.keep, |gid| match Group::from_gid(Gid::from_raw(*gid)) {
                Ok(Some(group)) => group.name,
                Ok(None) => gid.to_string(),
                Err(error) => {
                    tracing::warn!(gid, %error, "look up a group; going on with the number");
                    gid.to_string()
                }
            })
    }

    /// Number of a user; of decimal text, that number.
    pub fn name_to_uid(&self, name: &str) -> Option<u32> {
        self.user_ids.get(name, self.keep, |name| match User::from_name(name) {
            Ok(Some(user)) => Some(user.uid.as_raw()),
            _ => name.parse().ok(),
        })
    }

    /// Number of a group; of decimal text, that number.
    pub fn name_to_gid(&self, name: &str) -> Option<u32> {
        self.group_ids
            .get(name, self.keep, |name| match Group::from_name(name) {
                Ok(Some(group)) => Some(group.gid.as_raw()),
                _ => name.parse().ok(),
            })
    }

    /// Names of all groups of a user, the primary first; none for a user whom this host does not know.
    pub fn groups_of(&self, uid: u32) -> Vec<String> {
        let ask = |uid: &u32| {
            let Ok(Some(user)) = User::from_uid(Uid::from_raw(*uid)) else {
                return Vec::new();
            };
            let listed = CString::new(user.name.as_str()).map(|name| getgrouplist(&name, user.gid));
            let gids = match listed {
                Ok(Ok(gids)) => gids,
                Ok(Err(_)) | Err(_) => vec![user.gid],
            };
            let mut names = vec![self.gid_to_name(user.gid.as_raw())];
            for gid in gids {
                let name = self.gid_to_name(gid.as_raw());
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            names
        };
        self.groups.get(&uid, self.keep, ask)
    }
}

static HOST: LazyLock<Users> = LazyLock::new(|| Users::new(KEEP));

/// [`Users::uid_to_name`] of this process.
pub fn uid_to_name(uid: u32) -> String {
    HOST.uid_to_name(uid)
}
/// [`Users::gid_to_name`] of this process.
pub fn gid_to_name(gid: u32) -> String {
    HOST.gid_to_name(gid)
}
/// [`Users::name_to_uid`] of this process.
pub fn name_to_uid(name: &str) -> Option<u32> {
    HOST.name_to_uid(name)
}
/// [`Users::name_to_gid`] of this process.
pub fn name_to_gid(name: &str) -> Option<u32> {
    HOST.name_to_gid(name)
}
/// [`Users::groups_of`] of this process.
pub fn groups_of(uid: u32) -> Vec<String> {
    HOST.groups_of(uid)
}
/// The user that this process runs as.
pub fn current_user() -> String {
    uid_to_name(Uid::effective().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that no host gives to anybody.
    const NOBODYS: u32 = 3_999_999_999;

    #[test]
    fn root_is_everywhere() {
        assert_eq!(uid_to_name(0), "root");
        assert_eq!(gid_to_name(0), "root");
        assert_eq!(name_to_uid("root"), Some(0));
        assert_eq!(name_to_gid("root"), Some(0));
        assert_eq!(groups_of(0)[0], "root");
        assert_eq!(current_user(), uid_to_name(Uid::effective().as_raw()));
    }

    #[test]
    fn numbers_without_a_name_survive() {
        assert_eq!(uid_to_name(NOBODYS), NOBODYS.to_string());
        assert_eq!(gid_to_name(NOBODYS), NOBODYS.to_string());
        assert_eq!(name_to_uid(&NOBODYS.to_string()), Some(NOBODYS));
        assert_eq!(name_to_gid(&NOBODYS.to_string()), Some(NOBODYS));
        assert_eq!(groups_of(NOBODYS), [] as [String; 0]);
        assert_eq!(name_to_uid("no such user"), None);
        assert_eq!(name_to_uid("nul\0inside"), None);
        assert_eq!(name_to_gid("-1"), None);
    }

    #[test]
    fn answers_are_kept_for_their_time_and_bounded() {
        let cache = Cache::new();
        let keep = Duration::from_secs(3600);
        assert_eq!(cache.get(&1, keep, |_| "first"), "first");
        assert_eq!(cache.get(&1, keep, |_| "second"), "first");
        assert_eq!(cache.get(&1, Duration::ZERO, |_| "third"), "third");
        for key in 0..2 * CACHE_ENTRIES_MAX as u32 {
            cache.get(&key, keep, |_| "x");
        }
        assert!(cache.0.lock().len() <= CACHE_ENTRIES_MAX);
    }
}
