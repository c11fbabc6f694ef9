//! The nodes that the kernel knows, and the names that it found them by.
//!
//! One entry for each inode that the kernel caches, which may be millions, so it is as small as it can be: a slot of
//! [`Slot`]'s 32 bytes in one array, and 5 to 10 bytes of a hash table that leads from nodes to slots. Names of up to 14 bytes
//! are in the slot. What is rare (further names of a file with hard links) is in a table beside.
//!
//! **Promises:** a node is known from its first look-up until as many were forgotten as there were; the last
//! [`NAMES_MAX`] names of it are known as long, each as long as its directory is. Memory goes back when most is forgotten.

use super::Node;
use alluxio_common::sync::Mutex;
use hashbrown::HashTable;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Names of one inode that are remembered. Of one with more hard links the kernel hears of the last that it looked up.
pub(super) const NAMES_MAX: usize = 64;
/// Fewer slots are not worth to be given back.
const SHRINK_SLOTS_MIN: usize = 4096;
/// What is given back once no more than one slot in this many is in use: so each removal pays for a constant number of moves.
const SHRINK_PART: usize = 4;
/// Bytes of a name within its slot, and of one that takes the smallest allocation that is worth one.
const SHORT_BYTES: usize = 14;
const MEDIUM_BYTES: usize = 40;

/// No slot.
const NOWHERE: u32 = u32::MAX;
/// The mounted folder, which the kernel knows without a look-up.
const ROOT: u32 = u32::MAX - 1;

/// A name in a directory.
pub(super) type FullName = (Node, Box<[u8]>);

/// Nodes that the kernel knows, by its count of look-ups, and under which names: what has to be invalidated when changes were
/// missed, or a name is to lead to another node. About 45 bytes each, where the kernel has 1,000.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<Table>>);

impl Known {
    /// Counts a look-up of a node, by a name if it has one.
    pub fn remember(&self, node: Node, name: Option<(Node, &[u8])>) {
        let mut table = self.0.lock();
        let Some(at) = table.count(node) else { return };
        if let Some((parent, name)) = name {
            table.add(at, parent, name);
        }
    }

    /// Takes look-ups back; true if the kernel does not know the node any more.
    pub fn forget(&self, node: Node, lookups: u64) -> bool {
        self.0.lock().forget(node, lookups)
    }

    /// Whether the kernel knows a node.
    pub(super) fn has(&self, node: Node) -> bool {
        self.0.lock().find(node).is_some()
    }

    pub(super) fn all(&self) -> Vec<Node> {
        let table = self.0.lock();
        let used = table.slots.iter().filter(|slot| slot.is_used());
        used.map(|slot| slot.node).collect()
    }

    pub(super) fn names_of(&self, node: Node) -> Vec<FullName> {
        let table = self.0.lock();
        let Some(at) = table.find(node) else {
            return Vec::new();
        };
        let further = table.further.get(&at).into_iter().flatten().cloned();
        table.main_name(at).into_iter().chain(further).collect()
    }
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    /// Slots that are free; [`Slot::parent`] of each is the next one.
    free: Option<u32>,
    by_node: HashTable<u32>,
    /// Names of before the last one, by slot, the oldest first.
    further: HashMap<u32, Vec<FullName>>,
    hasher: RandomState,
}

/// What is known of a node.
///
/// The directory of its name is a slot, not a node, to save 4 bytes. A directory that the kernel forgot has no names in it that the
/// kernel has: a name holds its directory. So if that slot is free, the name is gone; and if another node took it, the name is one
/// that there never was: telling the kernel that it is stale makes it look it up again at most.
#[derive(Debug)]
struct Slot {
    node: Node,
    parent: u32,
    /// 0: the slot is free. The greatest number: there were more, and the node is remembered to the end.
    lookups: u32,
    /// The last name that it was found by.
    name: Name,
}

const _: () = assert!(size_of::<Slot>() == 32, "a slot holds what a million times is much");

impl Slot {
    fn is_used(&self) -> bool {
        self.lookups > 0
    }
}

#[derive(Debug)]
enum Name {
    None,
    Short(u8, [u8; SHORT_BYTES]),
    Medium(u8, Box<[u8; MEDIUM_BYTES]>),
    // Twice, because a fat pointer would make all slots larger.
    Long(Box<Box<[u8]>>),
}

impl Name {
    fn new(name: &[u8]) -> Name {
        // Of those within an array, it fits.
        let length = name.len() as u8;
        match name.len() {
            count if count <= SHORT_BYTES => {
                let mut bytes = [0; SHORT_BYTES];
                bytes[..name.len()].copy_from_slice(name);
                Name::Short(length, bytes)
            }
            count if count <= MEDIUM_BYTES => {
                let mut bytes = Box::new([0; MEDIUM_BYTES]);
                bytes[..name.len()].copy_from_slice(name);
                Name::Medium(length, bytes)
            }
            _ => Name::Long(Box::new(name.into())),
        }
    }

    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Name::None => None,
            Name::Short(length, bytes) => Some(&bytes[..usize::from(*length)]),
            Name::Medium(length, bytes) => Some(&bytes[..usize::from(*length)]),
            Name::Long(bytes) => Some(bytes),
        }
    }
}

impl Table {
    fn find(&self, node: Node) -> Option<u32> {
        let hash = self.hasher.hash_one(node);
        let found = self.by_node.find(hash, |at| self.slots[*at as usize].node == node);
        found.copied()
    }

    /// Counts a look-up. Answers the node's slot; `None`: there are no numbers for slots any more.
    fn count(&mut self, node: Node) -> Option<u32> {
        if let Some(at) = self.find(node) {
            let slot = &mut self.slots[at as usize];
            slot.lookups = slot.lookups.saturating_add(1);
            return Some(at);
        }
        let new = Slot {
            node,
            parent: NOWHERE,
            lookups: 1,
            name: Name::None,
        };
        let at = match self.free {
            Some(at) => {
                let slot = &mut self.slots[at as usize];
                self.free = Some(slot.parent).filter(|next| *next != NOWHERE);
                *slot = new;
                at
            }
            None => {
                let at = u32::try_from(self.slots.len()).ok().filter(|at| *at < ROOT)?;
                self.slots.push(new);
                at
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.by_node.insert_unique(hasher.hash_one(node), at, |at| {
            hasher.hash_one(slots[*at as usize].node)
        });
        Some(at)
    }

    fn add(&mut self, at: u32, parent: Node, name: &[u8]) {
        let place = match parent {
            Node::ROOT => Some(ROOT),
            _ => self.find(parent),
        };
        let slot = &self.slots[at as usize];
        if place == Some(slot.parent) && slot.name.bytes() == Some(name) {
            return;
        }
        let is = |known: &FullName| known.0 == parent && *known.1 == *name;
        if self.further.get(&at).is_some_and(|names| names.iter().any(is)) {
            return;
        }
        // Of a directory that the kernel is not known to know.
        let Some(place) = place else {
            return self.push_further(at, (parent, name.into()));
        };
        let before = self.main_name(at);
        let slot = &mut self.slots[at as usize];
        (slot.parent, slot.name) = (place, Name::new(name));
        if let Some(before) = before {
            self.push_further(at, before);
        }
    }

    fn push_further(&mut self, at: u32, name: FullName) {
        let names = self.further.entry(at).or_default();
        if names.len() + 1 >= NAMES_MAX {
            names.remove(0);
        }
        names.push(name);
    }

    /// The name in the slot, if its directory is known still.
    fn main_name(&self, at: u32) -> Option<FullName> {
        let slot = &self.slots[at as usize];
        let name = slot.name.bytes()?;
        let parent = match slot.parent {
            ROOT => Node::ROOT,
            place => {
                let parent = self.slots.get(place as usize)?;
                parent.is_used().then_some(parent.node)?
            }
        };
        Some((parent, name.into()))
    }

    fn forget(&mut self, node: Node, lookups: u64) -> bool {
        let Some(at) = self.find(node) else { return true };
        let slot = &mut self.slots[at as usize];
        if slot.lookups == u32::MAX {
            return false;
        }
        // No more than there were, which fits.
        slot.lookups = u64::from(slot.lookups).saturating_sub(lookups) as u32;
        if slot.is_used() {
            return false;
        }
        self.remove(node, at);
        true
    }

    fn remove(&mut self, node: Node, at: u32) {
        let hash = self.hasher.hash_one(node);
        if let Ok(found) = self.by_node.find_entry(hash, |other| *other == at) {
            found.remove();
        }
        self.further.remove(&at);
        self.slots[at as usize] = Slot {
            node: Node::default(),
            parent: self.free.unwrap_or(NOWHERE),
            lookups: 0,
            name: Name::None,
        };
        self.free = Some(at);
        if self.slots.len() >= SHRINK_SLOTS_MIN && self.by_node.len() <= self.slots.len() / SHRINK_PART {
            self.shrink();
        }
    }

    /// Moves what is known together, and gives the rest of the memory back.
    fn shrink(&mut self) {
        let mut moved = vec![NOWHERE; self.slots.len()];
        let mut kept = Vec::with_capacity(self.by_node.len());
        for (at, slot) in std::mem::take(&mut self.slots).into_iter().enumerate() {
            if slot.is_used() {
                // As many as there were, whose numbers fit.
                moved[at] = kept.len() as u32;
                kept.push(slot);
            }
        }
        let hasher = &self.hasher;
        self.by_node = HashTable::with_capacity(kept.len());
        for (at, slot) in kept.iter_mut().enumerate() {
            if let Some(to) = moved.get(slot.parent as usize) {
                slot.parent = *to;
            }
            self.by_node
                .insert_unique(hasher.hash_one(slot.node), at as u32, |_| unreachable!("it has room"));
        }
        let further = std::mem::take(&mut self.further);
        self.further = further
            .into_iter()
            .map(|(at, names)| (moved[at as usize], names))
            .collect();
        (self.slots, self.free) = (kept, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    impl Known {
        /// Without what long names and further names take.
        fn bytes(&self) -> usize {
            let table = self.0.lock();
            table.slots.capacity() * size_of::<Slot>() + table.by_node.allocation_size()
        }
    }

    #[test]
    fn names_are_known_until_the_inode_is_forgotten() {
        let (known, dir, file) = (Known::default(), Node(2), Node(3));
        known.remember(dir, Some((Node::ROOT, b"dir")));
        for name in [&b"a"[..], b"b", b"a"] {
            known.remember(file, Some((dir, name)));
        }
        known.remember(file, None);
        let mut names = known.names_of(file);
        names.sort_by(|one, other| one.1.cmp(&other.1));
        assert_eq!(names, [(dir, Box::from(&b"a"[..])), (dir, Box::from(&b"b"[..]))]);
        assert!(!known.forget(file, 3));
        assert!(known.forget(file, 1) && known.names_of(file).is_empty());
        for number in 0..200_u64 {
            known.remember(file, Some((dir, &number.to_ne_bytes())));
        }
        let names = known.names_of(file);
        assert_eq!(names.len(), NAMES_MAX);
        assert!(names.contains(&(dir, Box::from(&199_u64.to_ne_bytes()[..]))));
        assert_eq!(known.names_of(dir), [(Node::ROOT, Box::from(&b"dir"[..]))]);
    }

    #[test]
    fn names_of_any_length_are_kept_whole() {
        let known = Known::default();
        for length in [0, 1, 13, 14, 15, 39, 40, 41, 255, 256, 1024] {
            let name: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let node = Node(100 + length);
            known.remember(node, Some((Node::ROOT, &name)));
            assert_eq!(known.names_of(node), [(Node::ROOT, name.into())]);
        }
    }

    /// Also if nobody is known to know the folder; and nothing is known in a folder that went.
    #[test]
    fn a_name_is_known_as_long_as_its_folder() {
        let (known, dir, file) = (Known::default(), Node(2), Node(3));
        known.remember(file, Some((dir, b"f")));
        assert_eq!(known.names_of(file), [(dir, Box::from(&b"f"[..]))]);
        known.remember(dir, None);
        known.remember(file, Some((dir, b"g")));
        assert_eq!(known.names_of(file).len(), 2);
        assert!(known.forget(dir, 1));
        assert_eq!(known.names_of(file), [(dir, Box::from(&b"f"[..]))]);
    }

    #[test]
    fn what_was_looked_up_more_often_than_is_counted_is_never_forgotten() {
        let (known, node) = (Known::default(), Node(2));
        known.remember(node, None);
        known.0.lock().slots[0].lookups = u32::MAX - 1;
        known.remember(node, None);
        assert!(!known.forget(node, 1) && !known.forget(node, u64::MAX));
        assert!(known.has(node));
        known.remember(Node(3), None);
        assert!(known.forget(Node(3), u64::MAX));
    }

    /// The kernel has some 1,000 bytes of each.
    #[test]
    fn a_million_nodes_take_little_and_give_it_back() {
        const FILES: u64 = 1_000_000;
        let known = Known::default();
        let file = |number: u64| Node(FILES + number);
        for number in 0..FILES {
            let dir = Node(2 + number / 1000);
            if number.is_multiple_of(1000) {
                known.remember(dir, Some((Node::ROOT, format!("d{number}").as_bytes())));
            }
            known.remember(file(number), Some((dir, format!("f{:04}", number % 1000).as_bytes())));
        }
        let bytes = known.bytes() as u64;
        assert!(bytes <= 48 * FILES, "{bytes} bytes of a million nodes");
        for number in (0..FILES).filter(|number| number % 1000 != 7) {
            assert!(known.forget(file(number), 1));
        }
        let bytes = known.bytes();
        assert!(bytes < 1 << 20, "{bytes} bytes are left of 2,000 nodes");
        assert_eq!(known.all().len(), 2000);
        for number in (0..FILES).filter(|number| number % 1000 == 7) {
            let names = known.names_of(file(number));
            assert_eq!(names, [(Node(2 + number / 1000), Box::from(&b"f0007"[..]))]);
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Remember(u64, Option<(u64, u8)>),
        Forget(u64, u64),
        Shrink,
    }

    fn op() -> impl Strategy<Value = Op> {
        let name = proptest::option::weighted(0.8, (1..12u64, 0..3u8));
        prop_oneof![
            6 => (2..12u64, name).prop_map(|(node, name)| Op::Remember(node, name)),
            4 => (2..12u64, 1..4u64).prop_map(|(node, lookups)| Op::Forget(node, lookups)),
            1 => Just(Op::Shrink),
        ]
    }

    /// Of lengths that are kept in different ways.
    fn name_of(which: u8) -> Vec<u8> {
        vec![b'a' + which; [3, 20, 60][usize::from(which)]]
    }

    /// What is known of a node, said plainly: look-ups, and names with what the folder was by then.
    #[derive(Default)]
    struct Plain {
        life: u64,
        lookups: u64,
        names: HashSet<(u64, u64, u8)>,
    }

    proptest! {
        #[test]
        fn it_knows_what_a_plain_table_knows(ops in proptest::collection::vec(op(), 0..200)) {
            let known = Known::default();
            let mut model: HashMap<u64, Plain> = HashMap::new();
            let mut lives = 0;
            for op in ops {
                match op {
                    Op::Remember(node, name) => {
                        let full = name.map(|(parent, which)| (Node(parent), name_of(which)));
                        known.remember(Node(node), full.as_ref().map(|(parent, name)| (*parent, &**name)));
                        lives += 1;
                        let plain = model.entry(node).or_insert_with(|| Plain { life: lives, ..Plain::default() });
                        plain.lookups += 1;
                        if let Some((parent, which)) = name {
                            let life = model.get(&parent).map_or(0, |parent| parent.life);
                            model.entry(node).or_default().names.insert((parent, life, which));
                        }
                    }
                    Op::Forget(node, lookups) => {
                        let left = model.get(&node).map_or(0, |plain| plain.lookups.saturating_sub(lookups));
                        prop_assert_eq!(known.forget(Node(node), lookups), left == 0);
                        match model.get_mut(&node) {
                            Some(plain) if left > 0 => plain.lookups = left,
                            _ => drop(model.remove(&node)),
                        }
                    }
                    Op::Shrink => known.0.lock().shrink(),
                }
                let mut all = known.all();
                all.sort_unstable();
                let mut nodes: Vec<Node> = model.keys().copied().map(Node).collect();
                nodes.sort_unstable();
                prop_assert_eq!(all, nodes);
                for (node, plain) in &model {
                    let names = known.names_of(Node(*node));
                    for (parent, life, which) in &plain.names {
                        // A folder that was forgotten takes its names along.
                        let is_there = model.get(parent).map_or(0, |parent| parent.life) == *life;
                        prop_assert!(!is_there || names.contains(&(Node(*parent), name_of(*which).into())));
                    }
                    for (_, name) in names {
                        prop_assert!(plain.names.iter().any(|(_, _, which)| name_of(*which) == *name));
                    }
                }
            }
        }
    }
}
