//! One bit per chunk, grown on demand; bits beyond the end are 0.
//!
//! Files may be far longer than what is in them: bits far from the start are kept in pages, those that there are.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bits from here on are in pages: those of a file's first 64 GiB are not.
const NEAR: u64 = 1 << 20;
/// Words of a page.
const PAGE_WORDS: u64 = 64;
/// Bits of a page.
const PAGE: u64 = PAGE_WORDS * 64;

/// A set of chunk numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bitmap {
    near: Vec<u64>,
    /// By number of the page; none is empty.
    far: BTreeMap<u64, Box<[u64; PAGE_WORDS as usize]>>,
}

impl Bitmap {
    /// Bits of `at` and its 63 neighbours.
    fn word(&self, at: u64) -> u64 {
        if at < NEAR {
            return self.near.get((at / 64) as usize).copied().unwrap_or(0);
        }
        let page = self.far.get(&(at / PAGE));
        page.map_or(0, |page| page[(at % PAGE / 64) as usize])
    }
    /// Whether `at` is in it.
    pub fn get(&self, at: u64) -> bool {
        self.word(at) & (1 << (at % 64)) != 0
    }
    /// Puts `at` in; says whether it was not.
    pub fn set(&mut self, at: u64) -> bool {
        let word = if at < NEAR {
            let index = (at / 64) as usize;
            if index >= self.near.len() {
                self.near.resize(index + 1, 0);
            }
            &mut self.near[index]
        } else {
            let page = self.far.entry(at / PAGE);
            let page = page.or_insert_with(|| Box::new([0; PAGE_WORDS as usize]));
            &mut page[(at % PAGE / 64) as usize]
        };
        let was = *word;
        *word |= 1 << (at % 64);
        was != *word
    }
    /// Takes `at` out; says whether it was in.
    pub fn clear(&mut self, at: u64) -> bool {
        if !self.get(at) {
            return false;
        }
        if at < NEAR {
            self.near[(at / 64) as usize] &= !(1 << (at % 64));
        } else if let Some(page) = self.far.get_mut(&(at / PAGE)) {
            page[(at % PAGE / 64) as usize] &= !(1 << (at % 64));
            self.drop_empty(at / PAGE);
        }
        true
    }
    fn drop_empty(&mut self, page: u64) {
        if self
            .far
            .get(&page)
            .is_some_and(|words| words.iter().all(|word| *word == 0))
        {
            self.far.remove(&page);
        }
    }
    /// Takes out all from `at` on.
    pub fn clear_from(&mut self, at: u64) {
        if at < NEAR {
            let index = (at / 64) as usize;
            if let Some(word) = self.near.get_mut(index) {
                *word &= (1u64 << (at % 64)) - 1;
                self.near.truncate(index + 1);
            }
        }
        let cut = at.max(NEAR);
        self.far.split_off(&cut.div_ceil(PAGE));
        if let Some(page) = self.far.get_mut(&(cut / PAGE)) {
            let from = (cut % PAGE / 64) as usize;
            page[from] &= (1u64 << (cut % 64)) - 1;
            page[from + 1..].fill(0);
            self.drop_empty(cut / PAGE);
        }
    }
    /// Takes out all.
    pub fn clear_all(&mut self) {
        self.near.clear();
        self.far.clear();
    }
    /// How many are in.
    pub fn count(&self) -> u64 {
        let words = self.near.iter().chain(self.far.values().flat_map(|page| page.iter()));
        words.map(|word| u64::from(word.count_ones())).sum()
    }
    /// The first of `range` that is not in, whole words at a time.
    pub fn first_unset(&self, range: Range<u64>) -> Option<u64> {
        let mut at = range.start;
        while at < range.end {
            let missing = !self.word(at) >> (at % 64);
            if missing != 0 {
                let found = at + u64::from(missing.trailing_zeros());
                return (found < range.end).then_some(found);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
    /// The first from `from` on that is in this and in none of `others`, whole words at a time and only where there are any.
    pub fn first_beside(&self, others: [&Bitmap; 2], from: u64) -> Option<u64> {
        self.words(from).find_map(|(start, word)| {
            let below = if start < from { (1u64 << (from - start)) - 1 } else { 0 };
            let left = others
                .iter()
                .fold(word & !below, |left, other| left & !other.word(start));
            (left != 0).then(|| start + u64::from(left.trailing_zeros()))
        })
    }
    /// Words, with the number of their first bit, from that of `from` on.
    fn words(&self, from: u64) -> impl Iterator<Item = (u64, u64)> {
        let first = from / 64 * 64;
        let near = self
            .near
            .iter()
            .copied()
            .skip(usize::try_from(from / 64).unwrap_or(usize::MAX));
        let near = (first..).step_by(64).zip(near);
        let far = self
            .far
            .range(from / PAGE..)
            .flat_map(|(page, words)| (page * PAGE..).step_by(64).zip(**words));
        near.chain(far.filter(move |(start, _)| *start >= first))
    }
    /// All that are in.
    pub fn all(&self) -> impl Iterator<Item = u64> {
        let bits = |(start, word): (u64, u64)| {
            (0..64)
                .filter(move |bit| word & (1 << bit) != 0)
                .map(move |bit| start + bit)
        };
        self.words(0).flat_map(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_set(ops in proptest::collection::vec((0u8..4, 0u64..300), 0..80), from in 0u64..300, len in 0u64..300, far in 0u8..3) {
            let (mut bits, mut set) = (Bitmap::default(), BTreeSet::new());
            // Near, across the border, and from page to page.
            let base = [0, NEAR - 150, NEAR + 5 * PAGE - 100][far as usize];
            let from = base + from;
            for (op, at) in ops {
                let at = base + at;
                match op {
                    0 | 1 => prop_assert_eq!(bits.set(at), set.insert(at)),
                    2 => prop_assert_eq!(bits.clear(at), set.remove(&at)),
                    _ => { bits.clear_from(at); set.retain(|x| *x < at); }
                }
            }
            prop_assert_eq!(bits.count(), set.len() as u64);
            prop_assert_eq!(bits.all().collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
            let range = from..from + len;
            prop_assert_eq!(bits.first_unset(range.clone()), range.clone().find(|x| !set.contains(x)));
            prop_assert!(range.clone().all(|x| bits.get(x) == set.contains(&x)));
            let (mut odd, mut third) = (Bitmap::default(), Bitmap::default());
            set.iter().for_each(|x| { x.is_multiple_of(2).then(|| odd.set(*x)); x.is_multiple_of(3).then(|| third.set(*x)); });
            let beside = set.iter().copied().find(|x| *x >= from && !x.is_multiple_of(2) && !x.is_multiple_of(3));
            prop_assert_eq!(bits.first_beside([&odd, &third], from), beside);
        }
    }
}
