//! Whether waiting can end: a walk from the one who asks along "waits for a lock of".

use super::{LockTable, Owner, Place, Wanted};
use std::collections::HashSet;

/// Owners that one walk looks at; past it a deadlock goes unseen. Linux follows ten.
const WALK_OWNERS_MAX: usize = 10_000;

impl LockTable {
    /// Whether an owner that is in the way waits, over any number of others, for one who asks.
    pub(super) fn would_deadlock(&self, wanted: &Wanted) -> bool {
        let mut seen: HashSet<Owner> = HashSet::new();
        let mut next: Vec<Owner> = self.owners_in_the_way(wanted).collect();
        while let Some(owner) = next.pop() {
            if owner == wanted.owner {
                return true;
            }
            if !seen.insert(owner) || seen.len() > WALK_OWNERS_MAX {
                continue;
            }
            for (place, wait_id) in self.waiting.get(&owner).into_iter().flatten() {
                if let Some(waits_for) = self.waiter(*place, owner, *wait_id) {
                    next.extend(self.owners_in_the_way(waits_for));
                }
            }
        }
        false
    }

    fn owners_in_the_way<'a>(&'a self, wanted: &'a Wanted) -> impl Iterator<Item = Owner> + 'a {
        let locks = self.places.get(&wanted.place).into_iter();
        locks.flat_map(|locks| locks.conflicts(wanted).map(|conflict| conflict.owner))
    }

    fn waiter(&self, place: Place, owner: Owner, wait_id: u64) -> Option<&Wanted> {
        let mut queue = self.places.get(&place)?.queue.iter();
        let found = queue.find(|waiter| waiter.wait_id == wait_id && waiter.wanted.owner == owner);
        found.map(|waiter| &waiter.wanted)
    }
}
