//! How far to read ahead: nothing for random reads, a window that doubles with each step of a sequential one.
//!
//! No IO: it is told of reads and says which range to fetch next.

use alluxio_proto::CHUNK_BYTES;
use std::ops::Range;

/// Sequences of reads followed in one file; the one unused longest goes first.
const STREAMS_MAX: usize = 32;
/// Kernels read ahead themselves and send several requests at once, which arrive out of order; within so many bytes, or
/// so many requests of the same size, it is still one sequence.
const SLACK_BYTES: u64 = 1024 * 1024;
const SLACK_REQUESTS: u64 = 8;

/// The settings that matter here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub min_bytes: u64,
    pub max_bytes: u64,
    pub part_bytes: u64,
}

/// Readers of one file.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    streams: Vec<Stream>,
    clock: u64,
}

#[derive(Debug)]
struct Stream {
    id: u64,
    /// Where the next sequential read would start.
    next: u64,
    /// 0: random so far.
    window_bytes: u64,
    /// All before it was asked for.
    ahead_to: u64,
    used: u64,
}

impl Streams {
    /// A read of `range` (not empty) by `id` in a file of `length` bytes. Returns what to fetch beyond it.
    pub fn note(&mut self, id: u64, range: &Range<u64>, length: u64, policy: Policy) -> Option<Range<u64>> {
        self.clock += 1;
        let Some(at) = self.streams.iter().position(|stream| stream.id == id) else {
            self.begin(id, range.end);
            return None;
        };
        let stream = &mut self.streams[at];
        stream.used = self.clock;
        let slack = SLACK_BYTES.max((range.end - range.start) * SLACK_REQUESTS);
        let near = range.start.abs_diff(stream.next) <= slack;
        if !near {
            stream.next = range.end;
            stream.window_bytes = 0;
            stream.ahead_to = 0;
            return None;
        }
        if range.end <= stream.next {
            return None;
        }
        stream.next = range.end;
        let at_least = policy.min_bytes.max(range.end - range.start).min(policy.max_bytes);
        stream.window_bytes = (stream.window_bytes * 2).clamp(at_least, policy.max_bytes);
        let start = stream.ahead_to.max(stream.next);
        // Whole parts once the window holds some: each request costs the store the same, whatever it is for.
        let unit = match stream.window_bytes >= 2 * policy.part_bytes {
            true => policy.part_bytes,
            false => CHUNK_BYTES,
        };
        let reach = stream.next + stream.window_bytes;
        let target = match reach >= length {
            true => length,
            false => reach.next_multiple_of(CHUNK_BYTES) / unit * unit,
        };
        // Small steps would become small requests: wait until a part, or half a window, has come together.
        let step = policy.part_bytes.min(stream.window_bytes / 2);
        if target <= start || (target < length && target - start < step) {
            return None;
        }
        stream.ahead_to = target;
        Some(start..target)
    }

    fn begin(&mut self, id: u64, next: u64) {
        if self.streams.len() >= STREAMS_MAX
            && let Some(oldest) = self
                .streams
                .iter()
                .enumerate()
                .min_by_key(|(_, s)| s.used)
                .map(|(at, _)| at)
        {
            self.streams.swap_remove(oldest);
        }
        self.streams.push(Stream {
            id,
            next,
            window_bytes: 0,
            ahead_to: 0,
            used: self.clock,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1024 * 1024;
    const POLICY: Policy = Policy {
        min_bytes: MB / 4,
        max_bytes: 32 * MB,
        part_bytes: 4 * MB,
    };

    #[test]
    fn sequential_reads_grow_a_window_without_gap_or_overlap() {
        let mut streams = Streams::default();
        let (length, step) = (1024 * MB, MB / 8);
        let mut ahead_to = 2 * step;
        let mut largest = 0;
        for at in 0..length / step {
            let read = at * step..(at + 1) * step;
            if let Some(ahead) = streams.note(1, &read, length, POLICY) {
                assert_eq!(ahead.start, ahead_to.max(read.end));
                assert!(ahead.end <= length && ahead.end - read.end <= 32 * MB + CHUNK_BYTES);
                largest = largest.max(ahead.end - read.end);
                ahead_to = ahead.end;
            }
        }
        assert_eq!(ahead_to, length);
        assert!(largest >= 32 * MB);
    }

    #[test]
    fn random_reads_fetch_nothing_ahead() {
        let mut streams = Streams::default();
        for at in [0u64, 700, 3, 500, 90, 1000].map(|at| at * MB) {
            assert_eq!(streams.note(1, &(at..at + 4096), 2048 * MB, POLICY), None);
        }
    }

    #[test]
    fn two_readers_do_not_disturb_each_other_and_order_may_be_loose() {
        let mut streams = Streams::default();
        let mut ahead = 0;
        for at in 0..16u64 {
            // Pairs arrive swapped.
            let at = at ^ 1;
            let read = at * MB / 8..(at + 1) * MB / 8;
            ahead += u64::from(streams.note(1, &read, 1024 * MB, POLICY).is_some());
            let far = 512 * MB + read.start..512 * MB + read.end;
            ahead += u64::from(streams.note(2, &far, 1024 * MB, POLICY).is_some());
        }
        assert!(ahead >= 6, "{ahead}");
    }

    #[test]
    fn streams_are_bounded() {
        let mut streams = Streams::default();
        for id in 0..1000 {
            streams.note(id, &(0..1), MB, POLICY);
        }
        assert_eq!(streams.streams.len(), STREAMS_MAX);
    }
}
