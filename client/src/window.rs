//! Ids of changes, and which of them wait for an answer.
//!
//! The master keeps the answer of a change so that a repeated request gets it again. The client says with each change which
//! id is the lowest that it waits for, and the master keeps all answers from there on. That is bounded: a change that others
//! have left [`OPS_OUTSTANDING_MAX`] behind (a store hangs while programs go on elsewhere) holds up nobody; should its answer
//! be lost, it is not asked for again, and its caller hears that nobody knows whether it was done.

use alluxio_common::sync::Mutex;
use alluxio_proto::master::OPS_OUTSTANDING_MAX;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug)]
struct State {
    next: u64,
    /// Ids whose requests are under way, with how many wait for each.
    outstanding: BTreeMap<u64, u32>,
}

/// The ids of one session. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Window(Arc<Mutex<State>>);

/// A change under way, until dropped.
pub(crate) struct Outstanding {
    window: Window,
    pub op_id: u64,
}

impl Window {
    pub fn starting_at(first: u64) -> Self {
        let next = first.max(1);
        let outstanding = BTreeMap::new();
        Window(Arc::new(Mutex::new(State { next, outstanding })))
    }

    /// An id that [`Window::take_up`] is asked for later.
    pub fn next_id(&self) -> u64 {
        let mut state = self.0.lock();
        state.next += 1;
        state.next - 1
    }

    /// A change with an id of its own is under way from now on.
    pub fn begin(&self) -> Outstanding {
        let mut state = self.0.lock();
        let op_id = state.next;
        state.next += 1;
        state.outstanding.insert(op_id, 1);
        self.outstanding(op_id)
    }

    /// A change with an id of before is.
    pub fn take_up(&self, op_id: u64) -> Outstanding {
        *self.0.lock().outstanding.entry(op_id).or_default() += 1;
        self.outstanding(op_id)
    }

    fn outstanding(&self, op_id: u64) -> Outstanding {
        Outstanding {
            window: self.clone(),
            op_id,
        }
    }
}

impl State {
    /// Answers from here on are kept.
    fn lowest(&self) -> u64 {
        let kept = (self.next - 1).saturating_sub(OPS_OUTSTANDING_MAX - 1).max(1);
        let first = self.outstanding.keys().next();
        first.map_or(kept, |first| *first.max(&kept))
    }
}

impl Outstanding {
    /// The lowest id that somebody waits for.
    pub fn lowest(&self) -> u64 {
        self.window.0.lock().lowest()
    }

    /// The master would recognise a second request.
    pub fn is_remembered(&self) -> bool {
        self.op_id >= self.lowest()
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        let mut state = self.window.0.lock();
        if let Some(count) = state.outstanding.get_mut(&self.op_id) {
            *count -= 1;
            if *count == 0 {
                state.outstanding.remove(&self.op_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_is_what_somebody_waits_for() {
        let window = Window::starting_at(5);
        let (first, second) = (window.begin(), window.begin());
        assert_eq!((first.op_id, second.op_id, second.lowest()), (5, 6, 5));
        drop(first);
        assert_eq!(second.lowest(), 6);
        let again = (window.take_up(6), window.take_up(6));
        drop(second);
        assert_eq!(again.0.lowest(), 6);
    }

    #[test]
    fn what_hangs_holds_up_nobody_and_is_not_repeated() {
        let window = Window::starting_at(1);
        let hangs = window.begin();
        let mut last = window.begin();
        while last.op_id < OPS_OUTSTANDING_MAX {
            last = window.begin();
        }
        assert!(hangs.is_remembered());
        let beyond = window.begin();
        assert!(!hangs.is_remembered() && beyond.is_remembered());
        assert_eq!(beyond.op_id - beyond.lowest(), OPS_OUTSTANDING_MAX - 1);
    }
}
