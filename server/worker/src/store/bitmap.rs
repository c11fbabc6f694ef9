//! One bit per chunk, grown on demand; bits beyond the end are 0.

use std::ops::Range;

/// A set of chunk numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bitmap(Vec<u64>);

impl Bitmap {
    /// Whether `at` is in it.
    pub fn get(&self, at: u64) -> bool {
        let word = usize::try_from(at / 64).ok().and_then(|index| self.0.get(index));
        word.is_some_and(|word| word & (1 << (at % 64)) != 0)
    }
    /// Puts `at` in; says whether it was not.
    pub fn set(&mut self, at: u64) -> bool {
        let index = (at / 64) as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, 0);
        }
        let was = self.0[index];
        self.0[index] |= 1 << (at % 64);
        was != self.0[index]
    }
    /// Takes `at` out; says whether it was in.
    pub fn clear(&mut self, at: u64) -> bool {
        match self.0.get_mut((at / 64) as usize) {
            Some(word) => {
                let was = *word;
                *word &= !(1 << (at % 64));
                was != *word
            }
            None => false,
        }
    }
    /// Takes out all from `at` on.
    pub fn clear_from(&mut self, at: u64) {
        let index = (at / 64) as usize;
        if let Some(word) = self.0.get_mut(index) {
            *word &= (1u64 << (at % 64)) - 1;
            self.0.truncate(index + 1);
        }
    }
    /// Takes out all.
    pub fn clear_all(&mut self) {
        self.0.clear();
    }
    /// How many are in.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
    /// The first of `range` that is not in, whole words at a time.
    pub fn first_unset(&self, range: Range<u64>) -> Option<u64> {
        let mut at = range.start;
        while at < range.end {
            let word = self.0.get((at / 64) as usize).copied().unwrap_or(0);
            let missing = !word >> (at % 64);
            if missing != 0 {
                let found = at + u64::from(missing.trailing_zeros());
                return (found < range.end).then_some(found);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_set(ops in proptest::collection::vec((0u8..4, 0u64..300), 0..80), from in 0u64..300, len in 0u64..300) {
            let (mut bits, mut set) = (Bitmap::default(), BTreeSet::new());
            for (op, at) in ops {
                match op {
                    0 | 1 => prop_assert_eq!(bits.set(at), set.insert(at)),
                    2 => prop_assert_eq!(bits.clear(at), set.remove(&at)),
                    _ => { bits.clear_from(at); set.retain(|x| *x < at); }
                }
            }
            prop_assert_eq!(bits.count(), set.len() as u64);
            let range = from..from + len;
            prop_assert_eq!(bits.first_unset(range.clone()), range.clone().find(|x| !set.contains(x)));
            prop_assert!(range.clone().all(|x| bits.get(x) == set.contains(&x)));
        }
    }
}
