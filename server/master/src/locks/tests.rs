//! The table against a naive model: an array with the mode of each byte for each owner, and a list of who waits.

use super::*;
use LockMode::{Read, Unlocked, Write};
use proptest::prelude::*;

const BYTES: u64 = 8;
const SESSIONS: u64 = 3;
const OWNERS: u64 = 2;
const FILES: u64 = 2;

fn owner(session: u64, id: u64) -> Owner {
    Owner {
        session: SessionId(session),
        id,
    }
}

fn wanted(kind: LockKind, owner: Owner, mode: LockMode, start: u64, last: u64) -> Wanted {
    Wanted {
        place: (7, kind),
        owner,
        mode,
        range: ByteRange::new(start, last).unwrap(),
        pid: owner.id as u32,
        keep_stronger: false,
    }
}

fn range(owner: Owner, mode: LockMode, start: u64, last: u64) -> Wanted {
    wanted(LockKind::Range, owner, mode, start, last)
}

fn flock(owner: Owner, mode: LockMode) -> Wanted {
    wanted(LockKind::Flock, owner, mode, 0, ByteRange::ALL.last)
}

const HELD: Result<(Answer, Vec<Granted>), Refusal> = Ok((Answer::Held, Vec::new()));
const QUEUED: Result<(Answer, Vec<Granted>), Refusal> = Ok((Answer::Queued, Vec::new()));

fn granted(of: &[(u64, u64)]) -> Vec<Granted> {
    of.iter()
        .map(|(session, wait_id)| Granted {
            session: SessionId(*session),
            wait_id: *wait_id,
        })
        .collect()
}

#[test]
fn readers_share_a_writer_waits_its_turn() {
    let mut table = LockTable::default();
    let (a, b, c) = (owner(1, 1), owner(2, 1), owner(3, 1));
    assert_eq!(table.set(range(a, Read, 0, 9), 0), HELD);
    assert_eq!(table.set(range(b, Read, 5, 20), 0), HELD);
    assert_eq!(table.set(range(c, Write, 8, 8), 0), Err(Refusal::Conflict));
    assert_eq!(table.set(range(c, Write, 8, 8), 5), QUEUED);
    assert_eq!(table.set(range(c, Write, 8, 8), 5), QUEUED, "keeps its place");
    assert_eq!((table.held_count(), table.waiting_count()), (2, 1));
    assert_eq!(
        table.set(range(a, Unlocked, 0, 9), 0),
        HELD,
        "the other is still in the way"
    );
    let seen = table.conflict(&range(c, Write, 0, 30)).unwrap();
    assert_eq!((seen.owner, seen.locked.range.start, seen.pid), (b, 5, 1));
    assert_eq!(table.end_session(b.session), granted(&[(3, 5)]));
    assert!(!table.cancel(c.session, 5), "it does not wait any more");
    assert_eq!(table.conflict(&range(a, Read, 0, 30)).unwrap().owner, c);
    assert_eq!(table.end_session(c.session), []);
    assert!(table.places.is_empty() && table.sessions.is_empty() && table.waiting.is_empty());
}

#[test]
fn weaker_locks_let_others_in() {
    let mut table = LockTable::default();
    let (a, b) = (owner(1, 1), owner(2, 1));
    assert_eq!(table.set(range(a, Write, 0, 9), 0), HELD);
    assert_eq!(table.set(range(b, Read, 3, 4), 1), QUEUED);
    // Extended and kept: nobody gets in. Then weakened.
    let kept = Wanted {
        keep_stronger: true,
        ..range(a, Read, 0, 19)
    };
    assert_eq!(table.set(kept, 0), HELD);
    assert_eq!(
        table.set(range(a, Read, 0, 19), 0),
        Ok((Answer::Held, granted(&[(2, 1)])))
    );
    assert_eq!(table.set(range(a, Write, 0, 0), 0), HELD);
    assert_eq!(table.set(range(a, Write, 0, 3), 0), Err(Refusal::Conflict));
}

#[test]
fn a_cycle_of_waits_is_refused_over_any_distance() {
    let mut table = LockTable::default();
    for session in 1..=4 {
        assert_eq!(table.set(range(owner(session, 9), Write, session, session), 0), HELD);
    }
    for session in 1..=3 {
        assert_eq!(
            table.set(range(owner(session, 9), Write, session + 1, session + 1), 1),
            QUEUED
        );
    }
    assert_eq!(table.set(range(owner(4, 9), Read, 1, 1), 1), Err(Refusal::Deadlock));
    assert_eq!(
        table.set(range(owner(4, 8), Read, 1, 1), 1),
        QUEUED,
        "another process may wait"
    );
    // When the cycle opens, the same request may wait.
    assert!(table.cancel(SessionId(2), 1));
    assert_eq!(table.set(range(owner(4, 9), Read, 1, 1), 2), QUEUED);
}

#[test]
fn flock_lets_go_before_it_waits() {
    let mut table = LockTable::default();
    let (a, b) = (owner(1, 1), owner(2, 1));
    assert_eq!(table.set(flock(a, Read), 0), HELD);
    assert_eq!(table.set(flock(b, Read), 0), HELD);
    assert_eq!(table.set(range(b, Write, 0, 0), 0), HELD, "the kinds do not meet");
    assert_eq!(
        table.set(flock(a, Write), 0),
        Err(Refusal::Conflict),
        "and keeps what it has"
    );
    assert_eq!(table.set(flock(a, Write), 1), QUEUED);
    // Both want it alone: the first has let go, so the second gets it.
    assert_eq!(table.set(flock(b, Write), 1), HELD);
    assert_eq!(table.set(flock(b, Unlocked), 0), Ok((Answer::Held, granted(&[(1, 1)]))));
}

#[test]
fn bounds_refuse_one_session_only() {
    let mut table = LockTable::default();
    let (a, b) = (owner(1, 1), owner(2, 1));
    for piece in 0..SESSION_LOCKS_MAX as u64 {
        assert_eq!(table.set(range(a, Write, piece * 2, piece * 2), 0), HELD);
    }
    assert_eq!(table.set(range(a, Read, 1 << 40, 1 << 40), 0), Err(Refusal::TooMany));
    for wait in 1..=SESSION_WAITS_MAX as u64 {
        assert_eq!(table.set(range(b, Read, 0, 0), wait), QUEUED);
    }
    assert_eq!(table.set(range(b, Read, 0, 0), u64::MAX), Err(Refusal::TooMany));
    assert_eq!(table.set(range(b, Write, 1, 1), 0), HELD);
    assert_eq!(table.end_session(a.session).len(), SESSION_WAITS_MAX);
    assert_eq!((table.held_count(), table.waiting_count()), (2, 0));
}

/// The same, by bytes.
#[derive(Default)]
struct Model {
    bytes: BTreeMap<(Place, Owner), [u8; BYTES as usize]>,
    queue: Vec<(u64, Wanted)>,
}

fn mode_of(byte: u8) -> LockMode {
    LockMode::try_from(i32::from(byte)).unwrap()
}

impl Model {
    fn in_the_way(&self, wanted: &Wanted) -> Vec<Owner> {
        let mut found = Vec::new();
        for ((place, owner), bytes) in &self.bytes {
            let mut touched =
                (wanted.range.start..=wanted.range.last.min(BYTES - 1)).map(|at| mode_of(bytes[at as usize]));
            let conflicts = touched.any(|mode| mode == Write || (mode == Read && wanted.mode == Write));
            if *place == wanted.place && *owner != wanted.owner && conflicts {
                found.push(*owner);
            }
        }
        found
    }

    fn put(&mut self, wanted: &Wanted) {
        let bytes = self.bytes.entry((wanted.place, wanted.owner)).or_default();
        for byte in &mut bytes[wanted.range.start as usize..=wanted.range.last.min(BYTES - 1) as usize] {
            let mode = wanted.mode as u8;
            *byte = if wanted.keep_stronger { mode.max(*byte) } else { mode };
        }
    }

    fn is_deadlock(&self, wanted: &Wanted) -> bool {
        let mut reached: HashSet<Owner> = self.in_the_way(wanted).into_iter().collect();
        loop {
            let before = reached.len();
            for (_, waits_for) in &self.queue {
                if waits_for.place.1 == LockKind::Range && reached.contains(&waits_for.owner) {
                    reached.extend(self.in_the_way(waits_for));
                }
            }
            if reached.len() == before {
                return reached.contains(&wanted.owner);
            }
        }
    }

    fn grant(&mut self) -> Vec<Granted> {
        let mut granted = Vec::new();
        while let Some(at) = self
            .queue
            .iter()
            .position(|(_, wanted)| self.in_the_way(wanted).is_empty())
        {
            let (wait_id, wanted) = self.queue.remove(at);
            self.put(&wanted);
            granted.push(Granted {
                session: wanted.owner.session,
                wait_id,
            });
        }
        granted
    }

    fn set(&mut self, wanted: Wanted, wait_id: u64) -> Result<(Answer, Vec<Granted>), Refusal> {
        if wanted.mode == Unlocked || self.in_the_way(&wanted).is_empty() {
            self.put(&wanted);
            return Ok((Answer::Held, self.grant()));
        }
        if wait_id == 0 {
            return Err(Refusal::Conflict);
        }
        if wanted.place.1 == LockKind::Range && self.is_deadlock(&wanted) {
            return Err(Refusal::Deadlock);
        }
        self.queue.push((wait_id, wanted));
        if wanted.place.1 == LockKind::Flock {
            self.bytes.remove(&(wanted.place, wanted.owner));
        }
        Ok((Answer::Queued, self.grant()))
    }

    fn end(&mut self, session: SessionId) -> Vec<Granted> {
        self.bytes.retain(|(_, owner), _| owner.session != session);
        self.queue.retain(|(_, wanted)| wanted.owner.session != session);
        self.grant()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set { wanted: Wanted, wait: bool },
    Cancel(prop::sample::Index),
    End(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = (1..=SESSIONS, 1..=OWNERS, 1..=FILES, any::<bool>());
    let what = (0..3i32, 0..BYTES, 0..BYTES);
    let set = (who, what, any::<bool>(), any::<bool>()).prop_map(
        |((session, id, file, is_flock), (mode, a, b), wait, keep_stronger)| {
            let (kind, range) = if is_flock {
                (LockKind::Flock, ByteRange::ALL)
            } else {
                (LockKind::Range, ByteRange::new(a.min(b), a.max(b)).unwrap())
            };
            let wanted = Wanted {
                place: (file, kind),
                owner: owner(session, id),
                mode: LockMode::try_from(mode).unwrap(),
                range,
                pid: 1,
                keep_stronger,
            };
            Step::Set { wanted, wait }
        },
    );
    let step = prop_oneof![
        20 => set,
        2 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        1 => (1..=SESSIONS).prop_map(Step::End),
    ];
    prop::collection::vec(step, 1..120)
}

/// Grants of different places may come in any order.
fn sorted(mut granted: Vec<Granted>) -> Vec<Granted> {
    granted.sort_by_key(|granted| (granted.session, granted.wait_id));
    granted
}

fn assert_same(table: &LockTable, model: &Model) {
    let mut seen = BTreeMap::new();
    for (place, locks) in &table.places {
        assert!(
            !locks.held.is_empty() || !locks.queue.is_empty(),
            "an empty place is kept"
        );
        for (owner, held) in &locks.held {
            let mut bytes = [0u8; BYTES as usize];
            for locked in held.ranges.iter() {
                let last = locked.range.last.min(BYTES - 1);
                bytes[locked.range.start as usize..=last as usize].fill(locked.mode as u8);
            }
            seen.insert((*place, *owner), bytes);
        }
    }
    let mut expected = model.bytes.clone();
    expected.retain(|_, bytes| bytes.iter().any(|byte| *byte != 0));
    assert_eq!(seen, expected);
    let mut waiting: Vec<_> = table
        .places
        .values()
        .flat_map(|locks| &locks.queue)
        .map(|w| w.wait_id)
        .collect();
    waiting.sort_unstable();
    let mut expected: Vec<_> = model.queue.iter().map(|(wait_id, _)| *wait_id).collect();
    expected.sort_unstable();
    assert_eq!(waiting, expected);
    assert_eq!(table.waiting_count(), expected.len());
    let pieces: usize = table
        .places
        .values()
        .flat_map(|locks| locks.held.values())
        .map(|held| held.ranges.len())
        .sum();
    assert_eq!(table.held_count(), pieces);
    for (session, mine) in &table.sessions {
        let places: HashSet<Place> = table
            .places
            .iter()
            .filter(|(_, locks)| locks.held.keys().any(|owner| owner.session == *session))
            .map(|(place, _)| *place)
            .collect();
        assert_eq!(mine.places, places);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_model(steps in steps()) {
        let (mut table, mut model) = (LockTable::default(), Model::default());
        let mut next_wait = 0;
        for step in steps {
            match step {
                Step::Set { wanted, wait } => {
                    next_wait += 1;
                    let wait_id = if wait { next_wait } else { 0 };
                    if wanted.mode != Unlocked {
                        let seen = table.conflict(&wanted).is_some();
                        prop_assert_eq!(seen, !model.in_the_way(&wanted).is_empty());
                    }
                    let ours = table.set(wanted, wait_id).map(|(answer, granted)| (answer, sorted(granted)));
                    let theirs = model.set(wanted, wait_id).map(|(answer, granted)| (answer, sorted(granted)));
                    prop_assert_eq!(ours, theirs);
                }
                Step::Cancel(which) => {
                    if model.queue.is_empty() {
                        continue;
                    }
                    let (wait_id, wanted) = model.queue.remove(which.index(model.queue.len()));
                    prop_assert!(table.cancel(wanted.owner.session, wait_id));
                    prop_assert!(!table.cancel(wanted.owner.session, wait_id));
                }
                Step::End(session) => {
                    let session = SessionId(session);
                    prop_assert_eq!(sorted(table.end_session(session)), sorted(model.end(session)));
                }
            }
            assert_same(&table, &model);
        }
    }
}
