//! Times of a file that is written here, out of two clocks.
//!
//! The master stamps changes of attributes with the clock that programs read. The kernel stamps the local file with a clock of
//! its own, which ticks every few milliseconds and is behind. So a write may bear an earlier time than the chmod before
//! it, and the later of the two times would not show that the data changed. What is shown is therefore kept: each change,
//! of whichever side, moves ctime on from what was shown before it, and a write does not move mtime back.

use super::local::Stamp;

/// How far the kernel's clock for files may be behind: a tick is 10 ms at most, and may come late where the machine is busy.
const BEHIND_MAX_NS: i64 = 100_000_000;

/// How long ago a look at the local file may be of which we hear only now. One that is older by more is of a clock that was set.
const OVERTAKEN_MAX_NS: i64 = 2_000_000_000;

/// What is shown of a file that is written here.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShownTimes {
    /// The newest ctime that the master is known to have, which never goes back there.
    master_ctime_ns: i64,
    /// The local file as of the last look. `None`: its change by the opening was not seen yet.
    local: Option<Stamp>,
    /// The local file's own ctime then.
    local_ctime_ns: i64,
    mtime_ns: i64,
    ctime_ns: i64,
}

impl ShownTimes {
    /// As the master has them at the opening. `local` as it is then; `None` if the opening truncates it.
    pub fn new(mtime_ns: i64, ctime_ns: i64, local: Option<Stamp>) -> Self {
        ShownTimes {
            master_ctime_ns: ctime_ns,
            local,
            local_ctime_ns: 0,
            mtime_ns,
            ctime_ns,
        }
    }

    /// mtime and ctime.
    pub fn shown(&self) -> (i64, i64) {
        (self.mtime_ns, self.ctime_ns)
    }

    /// The master says so. An answer that was overtaken by a newer one says nothing.
    pub fn see_master(&mut self, ctime_ns: i64) {
        if ctime_ns <= self.master_ctime_ns {
            return;
        }
        self.master_ctime_ns = ctime_ns;
        // It has what is shown from a commit.
        if ctime_ns != self.ctime_ns {
            self.ctime_ns = ctime_ns.max(self.ctime_ns + 1);
        }
    }

    /// Whether it is of before the last look: several look at a time, and what they saw comes in any order.
    fn is_overtaken(&self, ctime_ns: i64) -> bool {
        let older_ns = self.local_ctime_ns.saturating_sub(ctime_ns);
        (1..=OVERTAKEN_MAX_NS).contains(&older_ns)
    }

    /// The local file says so; anything but what it said last is a change.
    pub fn see_local(&mut self, now: Stamp, ctime_ns: i64) {
        if self.local == Some(now) || self.is_overtaken(ctime_ns) {
            return;
        }
        self.ctime_ns = ctime_ns.max(self.ctime_ns + 1);
        if self.local.map(|local| local.mtime_ns) != Some(now.mtime_ns) {
            let behind_ns = self.mtime_ns.saturating_sub(now.mtime_ns);
            self.mtime_ns = match (1..=BEHIND_MAX_NS).contains(&behind_ns) {
                true => self.mtime_ns + 1,
                false => now.mtime_ns,
            };
        }
        (self.local, self.local_ctime_ns) = (Some(now), ctime_ns);
    }

    /// The local file is what the master has as committed, with mtime and ctime of `master`: its own times are those of the
    /// download, or of the opening.
    pub fn see_committed(&mut self, now: Stamp, local_ctime_ns: i64, master: (i64, i64)) {
        let (mtime_ns, ctime_ns) = master;
        self.see_master(ctime_ns);
        if !self.is_overtaken(local_ctime_ns) {
            (self.local, self.local_ctime_ns) = (Some(now), local_ctime_ns);
            self.mtime_ns = mtime_ns;
        }
    }

    /// mtime was set, to whatever time, and the local file is as it is now.
    pub fn set_mtime(&mut self, now: Stamp, ctime_ns: i64) {
        if !self.is_overtaken(ctime_ns) {
            self.see_local(now, ctime_ns);
            self.mtime_ns = now.mtime_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    /// Some time of day.
    const NOON: i64 = 1_800_000_000_000 * MS;

    fn stamp(mtime_ns: i64) -> Stamp {
        Stamp { length: 1, mtime_ns }
    }

    #[test]
    fn a_write_moves_ctime_though_its_clock_is_behind_that_of_the_chmod_before_it() {
        let mut times = ShownTimes::new(NOON - 9 * MS, NOON - 9 * MS, Some(stamp(NOON - 9 * MS)));
        times.see_master(NOON);
        assert_eq!(times.shown(), (NOON - 9 * MS, NOON));
        times.see_local(stamp(NOON - 3 * MS), NOON - 3 * MS);
        assert_eq!(times.shown(), (NOON - 3 * MS, NOON + 1));
        // Nothing has happened.
        times.see_local(stamp(NOON - 3 * MS), NOON - 3 * MS);
        times.see_master(NOON);
        assert_eq!(times.shown(), (NOON - 3 * MS, NOON + 1));
        // The next write, by the same tick's clock.
        times.see_local(stamp(NOON - 2 * MS), NOON - 2 * MS);
        assert_eq!(times.shown(), (NOON - 2 * MS, NOON + 2));
        // A commit takes to the master what was shown; an older answer of it is still on its way.
        times.see_master(NOON + 2);
        times.see_master(NOON);
        assert_eq!(times.shown(), (NOON - 2 * MS, NOON + 2));
        times.see_master(NOON + MS);
        assert_eq!(times.shown(), (NOON - 2 * MS, NOON + MS));
    }

    #[test]
    fn every_order_of_changes_moves_ctime_at_each() {
        // Bit by bit, 1: by the master, whose clock is a tick ahead; 0: by the local file.
        for order in 0..1_u32 << 8 {
            let mut times = ShownTimes::new(NOON, NOON, None);
            for at in 0..8 {
                let before = times.shown();
                let now = NOON + i64::from(at) * MS / 2;
                if order >> at & 1 == 1 {
                    times.see_master(now + 4 * MS);
                } else {
                    times.see_local(stamp(now), now);
                    assert!(times.shown().0 >= before.0, "{order:b} {at}");
                }
                assert!(times.shown().1 > before.1, "{order:b} {at}");
            }
        }
    }

    #[test]
    fn a_home_whose_clock_is_ahead_does_not_hide_a_chmod() {
        let mut times = ShownTimes::new(NOON, NOON, Some(stamp(NOON)));
        times.see_local(stamp(NOON + 5_000 * MS), NOON + 5_000 * MS);
        times.see_master(NOON + MS);
        assert_eq!(times.shown().1, NOON + 5_000 * MS + 1);
    }

    #[test]
    fn mtime_goes_back_when_it_is_set_and_not_by_a_clock_that_is_behind() {
        let mut times = ShownTimes::new(NOON, NOON, Some(stamp(NOON - MS)));
        times.see_local(stamp(NOON - 4 * MS), NOON - 4 * MS);
        assert_eq!(times.shown(), (NOON + 1, NOON + 1));
        times.set_mtime(stamp(NOON - 2 * MS), NOON + MS);
        assert_eq!(times.shown(), (NOON - 2 * MS, NOON + MS));
        times.set_mtime(stamp(NOON + 3_600_000 * MS), NOON + 2 * MS);
        // A write after touch -d tomorrow.
        times.see_local(stamp(NOON + 3 * MS), NOON + 3 * MS);
        assert_eq!(times.shown(), (NOON + 3 * MS, NOON + 3 * MS));
    }

    #[test]
    fn a_look_of_which_is_heard_late_changes_nothing() {
        let mut times = ShownTimes::new(NOON, NOON, Some(stamp(NOON)));
        times.see_local(stamp(NOON + 4 * MS), NOON + 4 * MS);
        times.see_local(stamp(NOON + 8 * MS), NOON + 8 * MS);
        let shown = times.shown();
        times.see_local(stamp(NOON + 4 * MS), NOON + 4 * MS);
        times.see_committed(stamp(NOON), NOON, (NOON, NOON));
        times.see_local(stamp(NOON + 8 * MS), NOON + 8 * MS);
        assert_eq!(times.shown(), shown);
        // A clock that is set back by an hour is followed, but for ctime.
        let hour_ago = NOON - 3_600_000 * MS;
        times.see_local(stamp(hour_ago), hour_ago);
        assert_eq!(times.shown(), (hour_ago, shown.1 + 1));
    }

    #[test]
    fn what_the_opening_truncates_is_changed() {
        let mut times = ShownTimes::new(NOON, NOON, None);
        times.see_local(stamp(NOON - MS), NOON - MS);
        assert_eq!(times.shown(), (NOON + 1, NOON + 1));
    }
}
