//! Real files, and programs of their own: what this process does itself is not held up.

use super::*;
use crate::passing::pass;
use crate::store::{Header, Layout, Passing, RoomPastUs};
use alluxio_proto::InodeId;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

/// Longer than anything takes here.
const LIMIT: Duration = Duration::from_secs(20);
/// As long as it takes to be sure that nothing happens.
const MOMENT: Duration = Duration::from_millis(200);

/// Tells what is announced, and lets it go on when told so.
struct Told {
    announced: Mutex<mpsc::Sender<(InodeId, Range<u64>)>>,
    go: tokio::sync::Semaphore,
    is_at_once: AtomicBool,
    fails: AtomicBool,
}

impl Told {
    fn tell(&self, entry: &Entry, range: &Range<u64>) {
        self.announced.lock().send((entry.inode, range.clone())).unwrap();
    }
}

#[async_trait::async_trait]
impl Announced for Told {
    fn at_once(&self, entry: &Arc<Entry>, range: &Range<u64>) -> bool {
        let is_at_once = self.is_at_once.load(Ordering::Relaxed);
        if is_at_once {
            self.tell(entry, range);
        }
        is_at_once
    }
    async fn before(&self, entry: Arc<Entry>, range: Range<u64>) -> Answer {
        self.tell(&entry, &range);
        self.go.acquire().await.unwrap().forget();
        match self.fails.load(Ordering::Relaxed) {
            true => Answer::Fail,
            false => Answer::Go,
        }
    }
    fn note_seen(&self, _entry: &Entry) {}
}

struct Rig {
    _dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    entry: Arc<Entry>,
    path: PathBuf,
    guard: Guard,
    told: Arc<Told>,
    announced: mpsc::Receiver<(InodeId, Range<u64>)>,
}

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        let entry = Arc::new(Entry::create(&layout, Header::open_new(7, 3)).unwrap());
        let path = layout.data(InodeId(7), entry.view().header.generation);
        let guard = Guard::try_open(&entry.data).unwrap_or_else(|error| {
            panic!("no accesses are announced (Linux 6.14, CAP_SYS_ADMIN and ext4, xfs or btrfs are needed): {error}")
        });
        let (send, announced) = mpsc::channel();
        let told = Arc::new(Told {
            announced: Mutex::new(send),
            go: tokio::sync::Semaphore::new(0),
            is_at_once: AtomicBool::new(false),
            fails: AtomicBool::new(false),
        });
        let answers: Arc<dyn Announced> = told.clone();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { guard.begin(Arc::downgrade(&answers)) });
        Rig {
            _dir: dir,
            runtime,
            entry,
            path,
            guard,
            told,
            announced,
        }
    }

    /// A descriptor goes out.
    fn watch(&self) {
        assert!(self.guard.watch(&self.entry).unwrap());
        self.entry.set_writable_fd_out().unwrap();
    }

    fn is_marked_within(&self, limit: Duration) -> bool {
        let limit = Instant::now() + limit;
        while self.is_marked() && Instant::now() < limit {
            std::thread::sleep(MOMENT / 10);
        }
        self.is_marked()
    }

    fn is_marked(&self) -> bool {
        let id = FileId::of(&self.entry.data).unwrap();
        self.guard
            .shared
            .watched
            .lock()
            .get(&id)
            .is_some_and(|one| one.is_marked)
    }

    fn assert_nothing_announced(&self) {
        assert!(self.announced.recv_timeout(MOMENT).is_err());
    }
}

/// A program that has the file open, and writes on when told so.
struct Writer {
    child: Child,
    stdin: ChildStdin,
    lines: mpsc::Receiver<String>,
}

impl Writer {
    fn of(path: &Path) -> Writer {
        let script = r#"exec 3<>"$0"; echo open; while read -r text; do printf %s "$text" >&3 && echo done; done"#;
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).all(|line| send.send(line).is_ok()));
        let stdin = child.stdin.take().unwrap();
        let writer = Writer { child, stdin, lines };
        assert_eq!(writer.lines.recv_timeout(LIMIT).unwrap(), "open");
        writer
    }

    fn begin(&mut self, text: &str) {
        writeln!(self.stdin, "{text}").unwrap();
    }

    fn is_done(&self, within: Duration) -> bool {
        self.lines.recv_timeout(within).is_ok()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_access_of_an_armed_file_waits_for_its_answer() {
    let rig = Rig::new();
    rig.watch();
    let mut writer = Writer::of(&rig.path);
    rig.guard.arm(&rig.entry).unwrap().unwrap();
    writer.begin("abc");
    let (inode, range) = rig.announced.recv_timeout(LIMIT).unwrap();
    assert_eq!(inode, InodeId(7));
    assert!(range.contains(&0) && range.contains(&2), "{range:?}");
    assert!(!writer.is_done(MOMENT), "it did not wait");
    assert_eq!(rig.entry.data.metadata().unwrap().len(), 0, "before it happens");
    rig.told.go.add_permits(1);
    assert!(writer.is_done(LIMIT));
    assert_eq!(std::fs::read(&rig.path).unwrap(), b"abc");
}

/// Where the disk can be full before anybody looks at it, nobody has to look.
#[test]
fn who_opens_a_file_on_a_short_disk_is_announced_from_the_first_write_on() {
    for (room, is_announced) in [
        (RoomPastUs::Ample(1), false),
        (RoomPastUs::Alert, true),
        (RoomPastUs::Little, true),
    ] {
        let rig = Rig::new();
        rig.told.is_at_once.store(true, Ordering::Relaxed);
        rig.entry.begin_passing(true);
        assert_eq!(pass(&rig.entry, Some(&rig.guard), true, room), Some(Passing::Watched));
        rig.entry.set_writable_fd_out().unwrap();
        let mut writer = Writer::of(&rig.path);
        writer.begin("a");
        assert!(writer.is_done(LIMIT));
        assert_eq!(rig.is_marked_within(MOMENT * 5), is_announced, "{room:?}");
        assert_eq!(rig.announced.recv_timeout(MOMENT).is_ok(), is_announced, "{room:?}");
        // As with any that is armed, until it is closed.
        rig.guard.forget(&rig.entry);
        writer.begin("b");
        assert!(writer.is_done(LIMIT));
        rig.assert_nothing_announced();
    }
}

#[test]
fn what_would_damage_a_file_fails() {
    let rig = Rig::new();
    rig.told.fails.store(true, Ordering::Relaxed);
    rig.told.go.add_permits(1);
    rig.watch();
    let mut writer = Writer::of(&rig.path);
    rig.guard.arm(&rig.entry).unwrap().unwrap();
    writer.begin("abc");
    rig.announced.recv_timeout(LIMIT).unwrap();
    assert!(!writer.is_done(MOMENT), "it was written");
    assert_eq!(rig.entry.data.metadata().unwrap().len(), 0);
}

/// The limit of descriptors is the process's: it is lowered in a process where this test is alone.
#[test]
fn no_program_is_refused_because_we_have_no_descriptors() {
    const ALONE: &str = "ALLUXIO_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "guard::tests::no_program_is_refused_because_we_have_no_descriptors";
        let mut again = Command::new(std::env::current_exe().unwrap());
        let done = again.args(["--exact", name]).env(ALONE, "1").output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        return;
    }
    let rig = Rig::new();
    rig.told.is_at_once.store(true, Ordering::Relaxed);
    rig.watch();
    let mut writer = Writer::of(&rig.path);
    rig.guard.arm(&rig.entry).unwrap().unwrap();
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 256, hard).unwrap();
    let mut taken = Vec::new();
    while let Ok(more) = rig.entry.data.try_clone() {
        taken.push(more);
    }
    for text in ["a", "b", "c"] {
        writer.begin(text);
        assert!(writer.is_done(LIMIT), "it was refused");
        rig.announced.recv_timeout(LIMIT).unwrap();
    }
    drop(taken);
    assert_eq!(std::fs::read(&rig.path).unwrap(), b"abc");
}

#[test]
fn a_mark_goes_with_the_first_write_and_comes_back_for_files_that_are_open() {
    let rig = Rig::new();
    rig.watch();
    assert!(rig.is_marked());
    let mut writer = Writer::of(&rig.path);
    writer.begin("");
    assert!(
        writer.is_done(LIMIT) && rig.is_marked(),
        "nobody is woken for an opening"
    );
    writer.begin("a");
    assert!(writer.is_done(LIMIT));
    assert!(!rig.is_marked_within(LIMIT), "it would cost each write");
    writer.begin("b");
    assert!(writer.is_done(LIMIT));
    rig.assert_nothing_announced();
    rig.told.is_at_once.store(true, Ordering::Relaxed);
    rig.guard.arm(&rig.entry).unwrap().unwrap();
    writer.begin("c");
    assert!(writer.is_done(LIMIT));
    rig.announced.recv_timeout(LIMIT).unwrap();
    rig.guard.disarm(&rig.entry).unwrap();
    assert!(!rig.is_marked());
    writer.begin("d");
    assert!(writer.is_done(LIMIT));
    rig.assert_nothing_announced();
    assert_eq!(std::fs::read(&rig.path).unwrap(), b"abcd");
}

#[test]
fn each_opening_is_waited_for() {
    let rig = Rig::new();
    rig.watch();
    let mut first = Writer::of(&rig.path);
    rig.watch();
    // The kernel has not opened the file for the second one yet.
    first.begin("a");
    assert!(first.is_done(LIMIT));
    assert!(rig.is_marked_within(MOMENT));
    let mut second = Writer::of(&rig.path);
    assert!(!rig.is_marked_within(LIMIT), "it costs each write of both");
    assert!(!rig.entry.is_beyond_guarding());
    rig.told.is_at_once.store(true, Ordering::Relaxed);
    rig.guard.arm(&rig.entry).unwrap().unwrap();
    for writer in [&mut first, &mut second] {
        writer.begin("b");
        assert!(writer.is_done(LIMIT));
        rig.announced.recv_timeout(LIMIT).unwrap();
    }
}

/// A file that is written, closed and written again, as with `echo >>`: the descriptors of before are no reason to wait.
#[test]
fn an_opening_after_the_last_close_is_the_only_one() {
    let rig = Rig::new();
    rig.entry.begin_passing(true);
    rig.watch();
    let stat = crate::io::stat(&rig.entry.data).unwrap();
    rig.entry.label_sealed(3, 0, &stat, false, "boot").unwrap();
    assert!(rig.guard.watch(&rig.entry).unwrap());
    let mut writer = Writer::of(&rig.path);
    writer.begin("a");
    assert!(writer.is_done(LIMIT));
    assert!(!rig.is_marked_within(LIMIT));
    assert!(!rig.entry.is_beyond_guarding());
}

#[test]
fn a_mark_that_goes_by_time_after_several_openings_ends_the_guard() {
    let rig = Rig::new();
    rig.entry.begin_passing(true);
    rig.entry.pass(Passing::Watched);
    rig.entry.note_announcing();
    for is_guarded in [true, false] {
        rig.watch();
        let id = FileId::of(&rig.entry.data).unwrap();
        let long_ago = Instant::now().checked_sub(2 * OPENING_MAX).unwrap();
        rig.guard.shared.watched.lock().get_mut(&id).unwrap().opened = long_ago;
        rig.guard.disarm(&rig.entry).unwrap();
        assert!(!rig.is_marked());
        assert_eq!(rig.entry.is_guarded(), is_guarded);
    }
    assert!(rig.entry.is_beyond_guarding());
}

#[test]
fn what_this_process_does_is_not_held_up_by_many_who_wait() {
    let rig = Rig::new();
    rig.watch();
    let ours = File::options().write(true).open(&rig.path).unwrap();
    let turns = rig.guard.shared.turns.clone();
    let _all = turns.try_acquire_many(HELD_MAX as u32).unwrap();
    let mut writer = Writer::of(&rig.path);
    rig.guard.arm(&rig.entry).unwrap().unwrap();
    writer.begin("a");
    assert!(!writer.is_done(MOMENT));
    let (send, done) = mpsc::channel();
    std::thread::spawn(move || send.send(ours.write_all_at(b"ours", 0).is_ok()));
    assert!(done.recv_timeout(LIMIT).unwrap());
    rig.told.go.add_permits(1);
    drop(_all);
    assert!(writer.is_done(LIMIT));
}

#[test]
fn what_this_process_does_is_not_held_up() {
    let rig = Rig::new();
    rig.watch();
    let ours = File::options().read(true).write(true).open(&rig.path).unwrap();
    rig.guard.arm(&rig.entry).unwrap().unwrap();
    ours.write_all_at(b"ours", 0).unwrap();
    ours.read_exact_at(&mut [0; 4], 0).unwrap();
    rig.assert_nothing_announced();
}

#[test]
fn a_guard_that_goes_lets_all_go_on() {
    let rig = Rig::new();
    rig.watch();
    let mut writer = Writer::of(&rig.path);
    rig.guard.arm(&rig.entry).unwrap().unwrap();
    writer.begin("abc");
    rig.announced.recv_timeout(LIMIT).unwrap();
    assert!(!writer.is_done(MOMENT));
    // With it go the tasks that would answer.
    drop(rig.guard);
    rig.runtime.shutdown_background();
    assert!(writer.is_done(LIMIT));
    writer.begin("d");
    assert!(writer.is_done(LIMIT));
}

#[test]
fn who_waits_can_be_killed() {
    let rig = Rig::new();
    rig.watch();
    let mut writer = Writer::of(&rig.path);
    rig.guard.arm(&rig.entry).unwrap().unwrap();
    writer.begin("abc");
    rig.announced.recv_timeout(LIMIT).unwrap();
    writer.child.kill().unwrap();
    writer.child.wait().unwrap();
    rig.told.go.add_permits(1);
    assert_eq!(rig.entry.data.metadata().unwrap().len(), 0);
    // And the next one is asked as ever.
    rig.watch();
    let mut writer = Writer::of(&rig.path);
    writer.begin("abc");
    rig.announced.recv_timeout(LIMIT).unwrap();
    rig.told.go.add_permits(1);
    assert!(writer.is_done(LIMIT));
}

#[test]
fn a_forgotten_file_is_written_freely() {
    let rig = Rig::new();
    rig.watch();
    let mut writer = Writer::of(&rig.path);
    rig.guard.arm(&rig.entry).unwrap().unwrap();
    rig.guard.forget(&rig.entry);
    writer.begin("a");
    assert!(writer.is_done(LIMIT));
    rig.assert_nothing_announced();
    assert!(rig.guard.is_idle());
    assert_eq!(rig.guard.arm(&rig.entry).unwrap(), None);
}

#[test]
fn no_descriptor_of_an_access_stays() {
    let rig = Rig::new();
    rig.told.is_at_once.store(true, Ordering::Relaxed);
    rig.watch();
    let mut writer = Writer::of(&rig.path);
    rig.guard.arm(&rig.entry).unwrap().unwrap();
    let of_the_file = || {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap();
        let links = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        links.filter(|link| *link == rig.path).count()
    };
    let before = of_the_file();
    for _ in 0..100 {
        writer.begin("a");
        assert!(writer.is_done(LIMIT));
    }
    // The last one is closed a moment after its answer.
    let limit = Instant::now() + LIMIT;
    while of_the_file() != before {
        assert!(Instant::now() < limit, "{} stay, {before} were there", of_the_file());
        std::thread::sleep(MOMENT / 10);
    }
}
