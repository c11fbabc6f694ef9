//! Two sides held against each other: actors on mounts, and actors in a native directory.

use super::generate::Step;
use super::{Answer, Request};
use crate::tools;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// An operation that takes longer hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Bounds of shrinking: attempts, and time.
const SHRINK_ATTEMPTS_MAX: usize = 300;
const SHRINK_TIME_MAX: Duration = Duration::from_secs(60);
/// A change on one mount is seen on another within this; the promise is 50 ms at the 99th percentile, which `bench
/// coherence` measures. Here it only has to come.
const SEEN_LIMIT: Duration = Duration::from_secs(2);

/// User and group of each process in turn: root, root again, and one who may less.
const USERS: [Option<(u32, u32)>; 3] = [None, None, Some((1, 1))];

/// One process of one side.
struct Actor {
    child: Child,
    input: ChildStdin,
    answers: Receiver<Answer>,
}

impl Actor {
    fn start(program: &Path, user: Option<(u32, u32)>) -> Actor {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = user {
            command.args([uid.to_string(), gid.to_string()]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start an actor");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (send, answers) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let answer = serde_json::from_str(&line).expect("an answer");
                if send.send(answer).is_err() {
                    return;
                }
            }
        });
        Actor { child, input, answers }
    }

    fn ask(&mut self, request: &Request) -> Answer {
        let line = serde_json::to_string(request).expect("requests serialize");
        writeln!(self.input, "{line}").expect("write to an actor");
        self.answers
            .recv_timeout(ANSWER_LIMIT)
            .unwrap_or_else(|error| panic!("process {} gives no answer to {line}: {error}", self.child.id()))
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It may hang in a system call on a dead mount; SIGKILL ends that too once the connection is aborted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One side: processes, and the folder in which each works.
pub struct Side {
    name: &'static str,
    program: PathBuf,
    bases: Vec<PathBuf>,
    actors: Vec<Actor>,
}

impl Side {
    /// Starts `processes` actors of `program`; they work beneath `bases` in turn.
    pub fn start(name: &'static str, program: &Path, bases: &[&Path], processes: usize) -> Side {
        let mut side = Side {
            name,
            program: program.to_owned(),
            bases: bases.iter().map(|base| (*base).to_owned()).collect(),
            actors: Vec::new(),
        };
        side.restart(processes);
        side
    }

    /// Starts the processes anew, as after a crash of what they worked on.
    pub fn restart(&mut self, processes: usize) {
        self.actors.clear();
        self.actors = (0..processes)
            .map(|number| Actor::start(&self.program, USERS[number % USERS.len()]))
            .collect();
    }

    fn base(&self, process: usize) -> &Path {
        &self.bases[process % self.bases.len()]
    }

    /// Makes a folder for a trial, and has all processes close what they have and work in it.
    fn begin(&mut self, trial: &str, fresh: bool) {
        if fresh {
            let dir = self.bases[0].join(trial);
            std::fs::create_dir(&dir).unwrap_or_else(|error| panic!("make {}: {error}", dir.display()));
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).expect("open a folder to all");
        }
        for process in 0..self.actors.len() {
            let root = self.base(process).join(trial);
            crate::wait::until("the folder is seen on every mount", SEEN_LIMIT, || root.is_dir());
            let begin = Request::Begin {
                root: tools::text(&root).to_owned(),
            };
            let answer = self.actors[process].ask(&begin);
            assert_eq!(answer.errno, 0, "{}: enter {}", self.name, root.display());
        }
    }

    fn ask(&mut self, process: usize, request: &Request) -> Answer {
        self.actors[process].ask(request)
    }
}

/// What the two sides disagree about.
#[derive(Debug)]
struct Difference {
    at: usize,
    ours: Answer,
    native: Answer,
}

/// A mount side and a native side.
pub struct Pair {
    ours: Side,
    native: Side,
    trials: usize,
}

impl Pair {
    /// Puts them together.
    pub fn new(ours: Side, native: Side) -> Pair {
        assert_eq!(ours.actors.len(), native.actors.len());
        Pair {
            ours,
            native,
            trials: 0,
        }
    }

    /// The mount side.
    pub fn ours(&mut self) -> &mut Side {
        &mut self.ours
    }

    fn begin(&mut self) -> String {
        self.trials += 1;
        let trial = format!("trial-{}", self.trials);
        self.ours.begin(&trial, true);
        self.native.begin(&trial, true);
        trial
    }

    /// Runs a sequence in a fresh folder; answers the folder's name, for [`Pair::compare_trees`] later.
    ///
    /// # Panics
    /// If the sides differ, with the seed and the shortest sequence found that shows it.
    #[track_caller]
    pub fn run(&mut self, seed: u64, steps: &[Step]) -> String {
        let trial = self.begin();
        match self
            .attempt(&trial, steps)
            .and_then(|()| self.hand_over(&trial, steps.len(), 0))
        {
            Ok(()) => trial,
            Err(difference) => self.report(seed, steps, difference),
        }
    }

    /// As [`Pair::run`], but everything stays open at the end, and is synced.
    ///
    /// # Panics
    /// As [`Pair::run`]; and if syncing differs.
    #[track_caller]
    pub fn run_and_sync(&mut self, seed: u64, steps: &[Step]) -> String {
        let trial = self.begin();
        if let Err(difference) = self.attempt(&trial, steps) {
            self.report(seed, steps, difference);
        }
        for process in 0..self.ours.actors.len() {
            let ours = self.ours.ask(process, &Request::SyncAll);
            let native = self.native.ask(process, &Request::SyncAll);
            assert_eq!(ours, native, "seed {seed}: process {process} syncs all");
        }
        trial
    }

    /// Fails with the shortest sequence found that differs.
    #[track_caller]
    fn report(&mut self, seed: u64, steps: &[Step], difference: Difference) -> ! {
        let found = format!("{difference:#?}");
        let (steps, difference) = self.shrink(steps[..steps.len().min(difference.at + 1)].to_vec(), difference);
        let mut text = String::new();
        for (number, step) in steps.iter().enumerate() {
            let times = if step.times { " [times]" } else { "" };
            text += &format!("  {number:>3} process {}: {:?}{times}\n", step.process, step.op);
        }
        panic!(
            "seed {seed} (set ALLUXIO_TEST_SEED to replay it): mount and native directory differ.\n{text}ours:   {:?}\nnative: {:?}\nat first: {found}",
            difference.ours, difference.native
        );
    }

    fn attempt(&mut self, trial: &str, steps: &[Step]) -> Result<(), Difference> {
        let two_mounts = self.ours.bases.len() > 1;
        let mut last_base = 0;
        for (at, step) in steps.iter().enumerate() {
            let base = step.process % self.ours.bases.len();
            if two_mounts && base != last_base {
                self.hand_over(trial, at, step.process)?;
                last_base = base;
            }
            let request = Request::Do {
                op: step.op.clone(),
                times: step.times,
            };
            let ours = self.ours.ask(step.process, &request);
            let native = self.native.ask(step.process, &request);
            if ours != native {
                return Err(Difference { at, ours, native });
            }
        }
        Ok(())
    }

    fn fresh_attempt(&mut self, steps: &[Step]) -> Result<(), Difference> {
        let trial = self.begin();
        self.attempt(&trial, steps)?;
        self.hand_over(&trial, steps.len(), 0)
    }

    /// A point of coherence: everything is closed, and `process` then sees what is there.
    fn hand_over(&mut self, trial: &str, at: usize, process: usize) -> Result<(), Difference> {
        self.ours.begin(trial, false);
        self.native.begin(trial, false);
        let native = self.native.ask(0, &Request::Tree);
        let start = Instant::now();
        // Root on the same mount: a process that may less does not see all.
        let looker = if USERS[process % USERS.len()].is_some() {
            process % self.ours.bases.len()
        } else {
            process
        };
        loop {
            let ours = self.ours.ask(looker, &Request::Tree);
            if ours == native {
                return Ok(());
            }
            // Names and attributes may take a moment to another mount; on the same one there is nothing to wait for.
            if self.ours.bases.len() == 1 || start.elapsed() > SEEN_LIMIT {
                return Err(only_differences(at, ours, native));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Holds the whole folder of a finished trial against its native twin.
    ///
    /// # Panics
    /// If they differ.
    #[track_caller]
    pub fn compare_trees(&mut self, trial: &str, when: &str) {
        self.ours.begin(trial, false);
        self.native.begin(trial, false);
        let (ours, native) = (self.ours.ask(0, &Request::Tree), self.native.ask(0, &Request::Tree));
        if ours != native {
            panic!("{trial} differs {when}: {:#?}", only_differences(0, ours, native));
        }
    }

    /// Leaves out parts as long as the sides still differ.
    fn shrink(&mut self, mut steps: Vec<Step>, mut difference: Difference) -> (Vec<Step>, Difference) {
        let start = Instant::now();
        let (mut part, mut attempts) = (steps.len() / 2, 0);
        while part > 0 {
            let mut from = 0;
            while from < steps.len() {
                if attempts == SHRINK_ATTEMPTS_MAX || start.elapsed() > SHRINK_TIME_MAX {
                    return (steps, difference);
                }
                attempts += 1;
                let mut shorter = steps.clone();
                shorter.drain(from..(from + part).min(steps.len()));
                // What depends on time does not show each time: a second try before a part is kept.
                let result = self.fresh_attempt(&shorter).and_then(|()| self.fresh_attempt(&shorter));
                match result {
                    Err(smaller) => {
                        shorter.truncate(smaller.at + 1);
                        (steps, difference) = (shorter, smaller);
                    }
                    Ok(()) => from += part,
                }
            }
            part /= 2;
        }
        (steps, difference)
    }
}

/// Of two trees, only the lines that one side has alone.
fn only_differences(at: usize, mut ours: Answer, mut native: Answer) -> Difference {
    let (left, right) = (ours.found.clone(), native.found.clone());
    ours.found.retain(|line| !right.contains(line));
    native.found.retain(|line| !left.contains(line));
    Difference { at, ours, native }
}
