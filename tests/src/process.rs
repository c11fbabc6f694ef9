//! A child process whose output goes to a file and which ends with its guard.

use crate::tools;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running child. Dropping it sends SIGTERM, then SIGKILL after three seconds.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl Process {
    /// Starts `command`; standard output and error go to one log file.
    pub fn spawn(name: &str, command: &mut Command) -> Process {
        let dir = tools::scratch("log-");
        let log = dir.path().join("log");
        let out = File::create(&log).expect("create a log file");
        let err = out.try_clone().expect("share the log file");
        let heeds_interrupts = || {
            use nix::sys::signal::{SigHandler, Signal, signal};
            // SAFETY: no handler is set; the call is async-signal-safe.
            unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }?;
            Ok(())
        };
        // A shell starts what runs in the background with SIGINT ignored, and the tests may run there.
        // SAFETY: one async-signal-safe call between fork and exec.
        unsafe { std::os::unix::process::CommandExt::pre_exec(command, heeds_interrupts) };
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("start {name} ({command:?}): {error}"));
        Process {
            name: name.to_owned(),
            child,
            log,
            _dir: dir,
        }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for a child")
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// After `limit`, with its output.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(
                start.elapsed() < limit,
                "{} still runs after {limit:?}; it printed:\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.id()).expect("a pid fits"));
        // It may have ended by itself: then there is nobody to tell.
        let _ = nix::sys::signal::kill(pid, signal);
    }

    /// kill -9 and reap.
    pub fn kill(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
        self.wait(Duration::from_secs(20));
    }

    /// Waits until `ready`; fails at once when the process ends before.
    pub fn wait_ready(&mut self, what: &str, limit: Duration, mut ready: impl FnMut() -> bool) {
        let start = Instant::now();
        while !ready() {
            if let Some(status) = self.ended() {
                panic!(
                    "{} ended ({status}) before: {what}; it printed:\n{}",
                    self.name,
                    self.log()
                );
            }
            assert!(
                start.elapsed() < limit,
                "{}: waited {limit:?} for: {what}; it printed:\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Lines of a log that a failing test shows.
const SHOWN_LINES: usize = 40;

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
            eprintln!("the last that {} said:\n{shown}", self.name);
        }
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.signal(nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Exit status; 128 + signal if it was killed.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output, if it succeeded.
    ///
    /// # Panics
    /// With everything it printed, if it did not.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a command to its end, `limit` at most.
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> Output {
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let read_out = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = out.read_to_end(&mut bytes);
        bytes
    });
    let read_err = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = err.read_to_end(&mut bytes);
        bytes
    });
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for a command") {
            break status;
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} still ran after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Output {
        code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        stdout: text(read_out.join().expect("reader of stdout")),
        stderr: text(read_err.join().expect("reader of stderr")),
    }
}

/// Runs a shell line, `limit` at most.
#[track_caller]
pub fn sh(line: &str, limit: Duration) -> Output {
    run(Command::new("sh").arg("-ec").arg(line), limit)
}
