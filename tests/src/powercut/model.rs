//! What one thread of the load has been promised, and what else may be found.
//!
//! A file is a row of lines. [`FileModel::durable`] is what was acknowledged by a close, an fsync, an msync or a write with
//! `O_SYNC`; `FileModel::pending` are changes after that, each of which may or may not be there. Names are durable when their
//! call was acknowledged; the one call that was under way may have happened or not.

use super::content::LINE_BYTES;
use super::log::{Entry, Step};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Lines of a page.
const PAGE_LINES: usize = 4096 / LINE_BYTES;

/// A line: the change that made it what it is, and whether it is zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct State {
    /// Number of the change; 0 is none.
    pub version: u32,
    /// Zeros, of a hole or of a file made longer.
    pub zero: bool,
    /// A part of it is as it was before that change: the kernel wrote the page out while the line was being stored.
    pub torn: bool,
}

/// What a change does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Change {
    Write { from: u32, lines: u32, version: u32 },
    Cut { lines: u32, version: u32 },
}

impl Change {
    fn apply(self, lines: &mut Vec<State>) {
        match self {
            Change::Write {
                from,
                lines: count,
                version,
            } => {
                let (from, end) = (from as usize, (from + count) as usize);
                if lines.len() < end {
                    lines.resize(
                        end,
                        State {
                            version,
                            zero: true,
                            torn: false,
                        },
                    );
                }
                lines[from..end].fill(State {
                    version,
                    zero: false,
                    torn: false,
                });
            }
            Change::Cut { lines: count, version } => lines.resize(
                count as usize,
                State {
                    version,
                    zero: true,
                    torn: false,
                },
            ),
        }
    }
}

/// One file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FileModel {
    /// What its writer sees.
    #[serde(with = "runs")]
    pub current: Vec<State>,
    /// What must be there.
    #[serde(with = "runs")]
    pub durable: Vec<State>,
    /// What was changed since, in order.
    pending: Vec<Change>,
    /// Of lines behind the end within its page: what was written there and may come back when the file grows, as on ext4 when a
    /// cut kept the page but not the length. The cluster clears them when it recovers a file.
    ghosts: Vec<(usize, State)>,
    /// Its name must be there: something of it was made durable.
    pub firm: bool,
    next: u32,
}

/// What may be found of a file.
#[derive(Debug)]
pub struct Allowed {
    /// Shortest and longest, in lines.
    pub lengths: (usize, usize),
    /// For each line.
    pub states: Vec<Vec<State>>,
}

impl Change {
    /// Whether it makes a page dirty.
    fn touches(self, page: usize) -> bool {
        match self {
            Change::Write { from, lines, .. } => {
                let (from, end) = (from as usize, (from + lines) as usize);
                (from / PAGE_LINES..end.div_ceil(PAGE_LINES)).contains(&page)
            }
            Change::Cut { lines, .. } => lines as usize / PAGE_LINES <= page,
        }
    }
}

impl FileModel {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
        let (Change::Write { version, .. } | Change::Cut { version, .. }) = change;
        self.next = self.next.max(version + 1);
    }

    /// A number for the next change.
    pub fn next_version(&self) -> u32 {
        self.next.max(1)
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.current);
        // A page that is written has zeros behind the end.
        let pending = std::mem::take(&mut self.pending);
        let is_written = |line: usize| pending.iter().any(|change| change.touches(line / PAGE_LINES));
        self.ghosts.retain(|(line, _)| !is_written(*line));
        self.firm = true;
    }

    fn sync_lines(&mut self, from: u32, lines: u32) {
        let end = ((from + lines) as usize).min(self.current.len());
        if self.durable.len() < end {
            self.durable.resize(
                end,
                State {
                    version: 0,
                    zero: true,
                    torn: false,
                },
            );
        }
        let from = (from as usize).min(end);
        self.durable[from..end].copy_from_slice(&self.current[from..end]);
        self.firm = true;
    }

    /// Whether exactly one content may be found.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// What may be found.
    pub fn allowed(&self) -> Allowed {
        let mut lengths = (self.durable.len(), self.durable.len());
        let mut states: Vec<Vec<State>> = self.durable.iter().map(|state| vec![*state]).collect();
        for (line, state) in &self.ghosts {
            // The file grew over them, and nobody wrote that page.
            if self.durable.get(*line).is_some_and(|durable| durable.zero) {
                states[*line].push(*state);
            }
        }
        let mut seen = self.durable.clone();
        for change in &self.pending {
            let before = seen.clone();
            change.apply(&mut seen);
            lengths = (lengths.0.min(seen.len()), lengths.1.max(seen.len()));
            if states.len() < seen.len() {
                // The length may be on the disk before the bytes are.
                let from = states.len();
                states.resize(
                    seen.len(),
                    vec![State {
                        version: 0,
                        zero: true,
                        torn: false,
                    }],
                );
                for (line, state) in &self.ghosts {
                    if let Some(line) = states.get_mut(*line).filter(|_| *line >= from) {
                        line.push(*state);
                    }
                }
            }
            if let Change::Cut { lines, .. } = change {
                // What is cut off is zeros if the length is not on the disk yet, or again longer by a later write.
                for line in states.iter_mut().skip(*lines as usize) {
                    line.push(State {
                        version: 0,
                        zero: true,
                        torn: false,
                    });
                }
            }
            for (line, state) in seen.iter().enumerate() {
                let newer = self
                    .durable
                    .get(line)
                    .is_none_or(|durable| state.version > durable.version);
                if newer && before.get(line) != Some(state) {
                    states[line].push(*state);
                }
            }
        }
        if !self.firm {
            lengths.0 = 0;
        }
        Allowed { lengths, states }
    }

    /// What was found is what is there from now on. `keeps_ghosts`: nobody cleared what lies behind the end.
    pub fn adopt(&mut self, found: Vec<State>, keeps_ghosts: bool) {
        let end = found.len();
        let allowed = self.allowed().states;
        let behind = allowed
            .iter()
            .enumerate()
            .take(end.next_multiple_of(PAGE_LINES))
            .skip(end);
        let behind = behind.flat_map(|(line, states)| states.iter().map(move |state| (line, *state)));
        self.ghosts = match keeps_ghosts {
            // What was there before may be there still.
            true => self
                .ghosts
                .drain(..)
                .filter(|(line, _)| *line >= end)
                .chain(behind)
                .collect(),
            false => Vec::new(),
        };
        self.current.clone_from(&found);
        self.durable = found;
        self.pending.clear();
        self.firm = true;
    }
}

/// All files of one thread.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Model {
    /// Names and whose they are.
    pub names: BTreeMap<String, u32>,
    /// Files by number, also removed ones that are still open.
    pub files: BTreeMap<u32, FileModel>,
    /// What has begun and was not acknowledged.
    pub begun: Option<Step>,
    /// A file system that nobody recovers files on: what a cut left behind their ends stays.
    pub keeps_ghosts: bool,
    next_uid: u32,
}

impl Model {
    /// A number for a new file.
    pub fn new_uid(&self) -> u32 {
        self.next_uid.max(1)
    }

    fn file(&mut self, uid: u32) -> &mut FileModel {
        self.files.entry(uid).or_default()
    }

    /// A step begins: from now on it may have happened.
    pub fn begin(&mut self, step: &Step) {
        match *step {
            Step::Create { uid, .. } => {
                self.next_uid = uid + 1;
                self.files.insert(uid, FileModel::default());
            }
            Step::Write {
                uid,
                version,
                from,
                lines,
                ..
            } => {
                self.file(uid).change(Change::Write { from, lines, version });
            }
            Step::Truncate { uid, version, lines } => self.file(uid).change(Change::Cut { lines, version }),
            _ => {}
        }
        self.begun = Some(step.clone());
    }

    /// It was acknowledged.
    pub fn done(&mut self) {
        match self.begun.take() {
            Some(Step::Create { uid, name }) => {
                self.names.insert(name, uid);
            }
            Some(Step::Write {
                uid,
                from,
                lines,
                synced,
                ..
            }) if synced => self.file(uid).sync_lines(from, lines),
            Some(Step::Sync { uid } | Step::Close { uid }) => self.file(uid).sync(),
            Some(Step::MapSync { uid, from, lines }) => self.file(uid).sync_lines(from, lines),
            Some(step @ (Step::Rename { .. } | Step::Unlink { .. })) => self.apply_name(&step),
            _ => {}
        }
    }

    /// A change of names, as done.
    pub fn apply_name(&mut self, step: &Step) {
        match step {
            Step::Create { uid, name } => {
                self.names.insert(name.clone(), *uid);
            }
            Step::Rename { from, to } => {
                if let Some(uid) = self.names.remove(from) {
                    self.names.insert(to.clone(), uid);
                }
            }
            Step::Unlink { name } => {
                self.names.remove(name);
            }
            _ => {}
        }
    }

    /// Follows a log. Answers failures in it.
    pub fn follow(&mut self, entries: &[Entry]) -> Vec<String> {
        let mut failures = Vec::new();
        for entry in entries {
            match entry {
                Entry::Begin(step) => self.begin(step),
                Entry::Done => self.done(),
                Entry::Failed(why) => failures.push(format!("{:?}: {why}", self.begun)),
            }
        }
        failures
    }

    /// Forgets files without a name.
    pub fn forget_nameless(&mut self) {
        let named: Vec<u32> = self.names.values().copied().collect();
        self.files.retain(|uid, _| named.contains(uid));
        self.begun = None;
    }
}

/// Rows of equal states as (count, state): a file of thousands of lines has few.
mod runs {
    use super::State;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(lines: &[State], serializer: S) -> Result<S::Ok, S::Error> {
        let mut runs: Vec<(u32, State)> = Vec::new();
        for state in lines {
            match runs.last_mut() {
                Some((count, last)) if last == state => *count += 1,
                _ => runs.push((1, *state)),
            }
        }
        runs.serialize(serializer)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Vec<State>, D::Error> {
        let runs = Vec::<(u32, State)>::deserialize(deserializer)?;
        let lines = runs
            .into_iter()
            .flat_map(|(count, state)| std::iter::repeat_n(state, count as usize));
        Ok(lines.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(model: &mut Model, step: Step) {
        model.begin(&step);
        model.done();
    }

    fn write(version: u32, from: u32, lines: u32) -> Step {
        Step::Write {
            uid: 1,
            version,
            from,
            lines,
            synced: false,
        }
    }

    #[test]
    fn what_was_synced_is_demanded_and_what_came_after_is_allowed() {
        let mut model = Model::default();
        let name = "a".to_owned();
        run(
            &mut model,
            Step::Create {
                uid: 1,
                name: name.clone(),
            },
        );
        run(&mut model, write(1, 0, 4));
        assert!(!model.files[&1].firm);
        run(&mut model, Step::Sync { uid: 1 });
        run(&mut model, write(2, 2, 4));
        let allowed = model.files[&1].allowed();
        assert_eq!(allowed.lengths, (4, 6));
        let state = |version| State {
            version,
            zero: false,
            torn: false,
        };
        assert_eq!(allowed.states[1], [state(1)]);
        assert_eq!(allowed.states[3], [state(1), state(2)]);
        assert_eq!(
            allowed.states[5],
            [
                State {
                    version: 0,
                    zero: true,
                    torn: false
                },
                state(2)
            ]
        );
        run(
            &mut model,
            Step::MapSync {
                uid: 1,
                from: 3,
                lines: 1,
            },
        );
        assert_eq!(model.files[&1].allowed().states[3], [state(2)]);
        run(&mut model, Step::Close { uid: 1 });
        assert!(model.files[&1].is_settled());
        model.begin(&Step::Rename {
            from: name,
            to: "b".into(),
        });
        assert!(model.names.contains_key("a"));
        model.done();
        assert_eq!(model.names.keys().collect::<Vec<_>>(), ["b"]);
    }
}
