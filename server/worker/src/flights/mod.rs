//! Ranges of one file that are being fetched: each chunk by one flight at a time, whoever waits for it.

mod readahead;

pub(crate) use readahead::{Policy, Streams};

use alluxio_common::sync::Mutex;
use alluxio_proto::FsError;
use alluxio_proto::types::UfsSource;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Notify, Semaphore};

/// Fetches under way for one file, and its readers' sequences.
#[derive(Debug, Default)]
pub(crate) struct Fills {
    flights: Mutex<Vec<Arc<Flight>>>,
    /// Bytes were kept, a flight ended, or an upload ended.
    pub progress: Notify,
    pub streams: Mutex<Streams>,
    /// Permits of read-ahead in flight.
    pub read_ahead_permits: OnceLock<Arc<Semaphore>>,
    /// Another location of the same version, as a caller knew it: tried when the known one fails.
    offered: Mutex<Option<UfsSource>>,
    /// More of this file is not kept until then, on the filler's clock.
    pub full_until_ms: AtomicU64,
    /// The object became another one: nothing more of this version comes from the under-storage.
    pub overtaken: AtomicBool,
}

/// One range being fetched.
#[derive(Debug)]
pub(crate) struct Flight {
    pub chunks: Range<u64>,
    pub purpose: Purpose,
    failure: OnceLock<FillError>,
}

/// Why chunks did not come here.
#[derive(Clone, Debug)]
pub(crate) enum FillError {
    /// The under-storage.
    Source(FsError),
    /// The bytes cannot be kept here; they can still be had from the under-storage.
    NotKept(FsError),
}

impl FillError {
    pub fn into_error(self) -> FsError {
        match self {
            FillError::Source(error) | FillError::NotKept(error) => error,
        }
    }
}

/// What a range is fetched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Somebody may come for it.
    ReadAhead,
    /// Somebody waits for it, and can read it past the store if it cannot be kept.
    Read,
    /// It becomes part of what a program writes, and has to be kept whatever the quota says.
    Write,
}

impl Flight {
    pub fn fail(&self, failure: FillError) {
        // The first one counts.
        let _ = self.failure.set(failure);
    }
    pub fn failure(&self) -> Option<&FillError> {
        self.failure.get()
    }
    pub fn overlaps(&self, chunks: &Range<u64>) -> bool {
        self.chunks.start < chunks.end && chunks.start < self.chunks.end
    }
}

impl Fills {
    /// Claims what of `missing` nobody fetches yet, in flights of `part` chunks at most. Returns all flights that fetch
    /// some of `missing` now, and those that are new.
    pub fn claim(&self, missing: &[Range<u64>], part: u64, purpose: Purpose) -> (Vec<Arc<Flight>>, Vec<Arc<Flight>>) {
        let mut flights = self.flights.lock();
        let mut new = Vec::new();
        for run in missing {
            let mut at = run.start;
            while at < run.end {
                if let Some(flight) = flights.iter().find(|flight| flight.chunks.contains(&at)) {
                    at = flight.chunks.end;
                    continue;
                }
                let taken = flights
                    .iter()
                    .map(|flight| flight.chunks.start)
                    .filter(|start| *start > at)
                    .min();
                let end = run.end.min(at + part).min(taken.unwrap_or(u64::MAX));
                let flight = Arc::new(Flight {
                    chunks: at..end,
                    purpose,
                    failure: OnceLock::new(),
                });
                flights.push(Arc::clone(&flight));
                new.push(flight);
                at = end;
            }
        }
        let joined = flights
            .iter()
            .filter(|flight| missing.iter().any(|run| flight.overlaps(run)));
        (joined.cloned().collect(), new)
    }

    /// A flight ended, well or not.
    pub fn end(&self, flight: &Arc<Flight>) {
        self.flights.lock().retain(|other| !Arc::ptr_eq(other, flight));
        self.progress.notify_waiters();
    }

    /// A caller knows this location.
    pub fn offer(&self, source: UfsSource) {
        *self.offered.lock() = Some(source);
    }
    /// Another location than `tried`.
    pub fn take_offered(&self, tried: &UfsSource) -> Option<UfsSource> {
        self.offered.lock().take().filter(|offered| offered != tried)
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
mod tests {
    use super::*;

    #[test]
    fn each_chunk_is_claimed_once() {
        let fills = Fills::default();
        let ranges = |flights: &[Arc<Flight>]| flights.iter().map(|flight| flight.chunks.clone()).collect::<Vec<_>>();
        let (_, first) = fills.claim(&[2..4], 10, Purpose::Read);
        assert_eq!(ranges(&first), [2..4]);
        let (joined, new) = fills.claim(&[0..9], 4, Purpose::Read);
        assert_eq!(ranges(&new), [0..2, 4..8, 8..9]);
        assert_eq!(joined.len(), 4);
        let (joined, new) = fills.claim(&[1..2, 8..9], 4, Purpose::Read);
        assert_eq!((ranges(&joined), new.len()), (vec![0..2, 8..9], 0));
        for flight in joined {
            fills.end(&flight);
        }
        assert_eq!(ranges(&fills.claim(&[0..9], 99, Purpose::Read).1), [0..2, 8..9]);
    }
}
