//! Which parts an upload has, and which of them the store copies from an object that it holds.
//!
//! No IO. Every part but the last has at least [`Sizes::part_min`] bytes, so what changed is widened to that, and clean
//! runs that are too short to be a part of their own go with what is around them. Windows are not aligned: an aligned one
//! around a change at its edge would have to be two.

use std::ops::Range;

/// What parts may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Least bytes of a part that is not the last.
    pub part_min: u64,
    /// Bytes of an uploaded part, about: it is held in memory.
    pub part: u64,
    /// Most bytes of a part that is copied.
    pub copied_max: u64,
    /// Most parts.
    pub parts_max: u64,
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub range: Range<u64>,
    /// By the store, from the base; not uploaded.
    pub copied: bool,
}

impl Part {
    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Parts of an object of `length` bytes that is uploaded whole. They grow only where `parts_max` of them would not do.
pub(super) fn whole(length: u64, sizes: Sizes) -> Vec<Part> {
    let part = sizes.part.max(length.div_ceil(sizes.parts_max)).max(1);
    let starts = (0..length).step_by(usize::try_from(part).unwrap_or(usize::MAX));
    let uploaded = |start| Part {
        range: start..length.min(start + part),
        copied: false,
    };
    starts.map(uploaded).collect()
}

/// Parts of an object of `length` bytes of which `dirty` (in order, apart from each other, not empty) is not in the base.
pub(super) fn over(length: u64, dirty: &[Range<u64>], sizes: Sizes) -> Vec<Part> {
    let mut sizes = sizes;
    loop {
        let runs = runs(length, dirty, sizes.part_min);
        // With far more runs than parts it is not worth looking: what is widened takes its neighbours along one by one.
        if runs.len() as u64 <= sizes.parts_max.saturating_mul(3) {
            let parts = widened(runs, sizes);
            if parts.len() as u64 <= sizes.parts_max {
                return parts;
            }
        }
        // Too finely cut: coarser, which ends, at the latest, with all in one part.
        sizes.part_min = sizes.part_min.saturating_mul(2);
        sizes.part = sizes.part.max(sizes.part_min);
    }
}

fn widened(mut runs: Vec<Part>, sizes: Sizes) -> Vec<Part> {
    let mut at = 0;
    while at + 1 < runs.len() {
        if runs[at].len() >= sizes.part_min {
            at += 1;
        } else {
            at = widen(&mut runs, at, sizes.part_min);
        }
    }
    runs.into_iter().flat_map(|run| cut(run, sizes)).collect()
}

/// Dirty and clean runs in turn; a clean one that is too short for a part goes with its neighbours at once, so that the
/// rest has no more to do than there are parts.
fn runs(length: u64, dirty: &[Range<u64>], part_min: u64) -> Vec<Part> {
    let mut runs: Vec<Part> = Vec::new();
    let mut at = 0;
    for range in dirty {
        let gap = range.start - at;
        match runs.last_mut() {
            Some(last) if gap < part_min => last.range.end = range.end,
            _ => {
                if gap > 0 {
                    runs.push(Part {
                        range: at..range.start,
                        copied: true,
                    });
                }
                runs.push(Part {
                    range: range.clone(),
                    copied: false,
                });
            }
        }
        at = range.end;
    }
    if at < length {
        runs.push(Part {
            range: at..length,
            copied: true,
        });
    }
    runs
}

/// Makes the run at `at`, which is not the last, long enough. Returns where to go on: at a run that may be too short.
fn widen(runs: &mut Vec<Part>, at: usize, part_min: u64) -> usize {
    if runs[at].copied {
        // Only the first can be: all others were made with this length at least, and give away no more than leaves it.
        return absorb(runs, at, at + 1);
    }
    let missing = part_min - runs[at].len();
    let is_last = at + 2 == runs.len();
    let right = &mut runs[at + 1];
    if right.len() >= missing + part_min {
        right.range.start += missing;
        runs[at].range.end += missing;
        return at + 1;
    }
    if is_last {
        // The last part may be short, so its neighbour takes what it needs, or all of it.
        if right.len() <= missing {
            return absorb(runs, at, at + 1);
        }
        right.range.start += missing;
        runs[at].range.end += missing;
        return at + 1;
    }
    if at > 0 && runs[at - 1].len() >= missing + part_min {
        runs[at - 1].range.end -= missing;
        runs[at].range.start -= missing;
        return at + 1;
    }
    absorb(runs, at, at + 1)
}

/// Makes one dirty run of two neighbours, and of a dirty one behind them.
fn absorb(runs: &mut Vec<Part>, first: usize, second: usize) -> usize {
    runs[first].copied = false;
    runs[first].range.end = runs[second].range.end;
    runs.remove(second);
    if runs.get(second).is_some_and(|next| !next.copied) {
        runs[first].range.end = runs[second].range.end;
        runs.remove(second);
    }
    first
}

/// Cuts a run into equal parts that are neither too long nor too short.
fn cut(run: Part, sizes: Sizes) -> Vec<Part> {
    let length = run.len();
    let wanted = length.div_ceil(if run.copied { sizes.copied_max } else { sizes.part });
    let count = wanted.min(length / sizes.part_min).max(1);
    // Not by a size: rounded up it would leave a last part that is too short.
    let edge = |index: u64| run.range.start + (u128::from(length) * u128::from(index) / u128::from(count)) as u64;
    (0..count)
        .map(|index| Part {
            range: edge(index)..edge(index + 1),
            copied: run.copied,
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const S3: Sizes = Sizes {
        part_min: 5 * MIB,
        part: 8 * MIB,
        copied_max: 1024 * MIB,
        parts_max: 10_000,
    };

    fn uploaded(parts: &[Part]) -> u64 {
        parts.iter().filter(|part| !part.copied).map(Part::len).sum()
    }

    #[test]
    fn a_change_in_the_middle_of_a_gigabyte_uploads_one_part() {
        for at in [6 * MIB, 512 * MIB, 513 * MIB - 4096, 1018 * MIB - 4096] {
            let parts = over(1024 * MIB, &[at..at + 4096], S3);
            assert_eq!(parts.len(), 3, "{parts:?}");
            assert_eq!(uploaded(&parts), 5 * MIB, "{parts:?}");
        }
        // At the edges, where a clean run is too short to be a part.
        assert_eq!(uploaded(&over(1024 * MIB, &[0..1], S3)), 5 * MIB);
        assert!(uploaded(&over(1024 * MIB, &[3 * MIB..3 * MIB + 1], S3)) <= 8 * MIB + 1);
        assert_eq!(uploaded(&over(1024 * MIB, &[1024 * MIB - 1..1024 * MIB], S3)), 1);
        // A tail that was appended, however short, is the last part.
        assert_eq!(uploaded(&over(1024 * MIB + 10, &[1024 * MIB..1024 * MIB + 10], S3)), 10);
        assert_eq!(uploaded(&over(1024 * MIB, &[1022 * MIB..1022 * MIB + 1], S3)), 2 * MIB);
    }

    #[test]
    fn nothing_changed_is_all_copied_and_all_changed_all_uploaded() {
        assert!(over(1500 * MIB, &[], S3).iter().all(|part| part.copied));
        assert_eq!(uploaded(&over(100 * MIB, &[0..100 * MIB], S3)), 100 * MIB);
        assert_eq!(over(0, &[], S3), []);
        assert_eq!(over(3, &[1..2], S3).len(), 1);
    }

    #[test]
    fn ten_thousand_parts_at_most() {
        // Every 12 MiB something changed in 600 GiB.
        let dirty: Vec<_> = (0..50_000u64).map(|at| at * 12 * MIB..at * 12 * MIB + 1).collect();
        let parts = over(600_000 * MIB, &dirty, S3);
        assert!(parts.len() <= 10_000, "{}", parts.len());
        assert_eq!(parts.last().unwrap().range.end, 600_000 * MIB);
        assert!(whole(600_000 * MIB, S3).len() <= 10_000);
    }

    #[test]
    fn five_tebibytes_are_planned_for() {
        const LARGEST: u64 = 5 << 40;
        for length in [1, 80 << 30, (80 << 30) + 1, 1 << 40, LARGEST] {
            let parts = whole(length, S3);
            assert!(parts.len() <= 10_000, "{length}: {} parts", parts.len());
            assert_eq!(parts.last().unwrap().range.end, length);
            assert!(parts.iter().all(|part| part.len() <= 5 << 30));
        }
        // A part grows only where there would be too many.
        assert_eq!(whole(64 << 30, S3)[0].len(), 8 * MIB);
        assert!(whole(LARGEST, S3)[0].len() > 512 * MIB);
        // A change of it uploads a part, and copies the rest.
        let parts = over(LARGEST, &[1 << 40..(1 << 40) + 4096], S3);
        assert!(
            parts.len() <= 10_000 && uploaded(&parts) <= 10 * MIB,
            "{}",
            uploaded(&parts)
        );
    }

    proptest! {
        #[test]
        fn parts_are_the_object_and_keep_the_limits(
            length in 0u64..400,
            edges in proptest::collection::btree_set(0u64..400, 0..12),
        ) {
            let sizes = Sizes { part_min: 5, part: 8, copied_max: 50, parts_max: 1000 };
            let edges: Vec<u64> = edges.into_iter().filter(|edge| *edge <= length).collect();
            let dirty: Vec<_> = edges.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
            let parts = over(length, &dirty, sizes);
            let mut at = 0;
            for (index, part) in parts.iter().enumerate() {
                prop_assert_eq!(part.range.start, at);
                prop_assert!(part.len() > 0);
                prop_assert!(part.len() >= 5 || index + 1 == parts.len(), "{:?}", parts);
                prop_assert!(part.len() <= if part.copied { 50 } else { 9 }, "{:?}", parts);
                if part.copied {
                    prop_assert!(dirty.iter().all(|range| range.end <= part.range.start || range.start >= part.range.end));
                }
                at = part.range.end;
            }
            prop_assert_eq!(at, length);
            // Each change costs its own bytes and less than two parts on each side.
            let changed: u64 = dirty.iter().map(|range| range.end - range.start).sum();
            prop_assert!(uploaded(&parts) <= changed + dirty.len() as u64 * 15, "{:?} {:?}", dirty, parts);
        }
    }
}
