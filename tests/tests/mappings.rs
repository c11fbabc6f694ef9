//! Shared mappings that outlive their descriptors: what is stored through them is as good as what is written.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_tests::modes::Mode;
use alluxio_tests::{Agent, Local, LocalBuilder, tools, wait};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PAGE: usize = 4096;
/// "Soon after the last store", on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A cluster over a folder.
struct Case {
    local: Local,
    stored: PathBuf,
    _dir: tempfile::TempDir,
}

impl Case {
    fn start(mode: Mode) -> Case {
        let dir = tools::scratch("mappings-");
        let stored = dir.path().join("store");
        std::fs::create_dir(&stored).unwrap();
        let builder = LocalBuilder::at(dir.path()).ufs(tools::text(&stored));
        let builder = builder.option("alluxio.user.session.timeout", "5s");
        Case {
            local: mode.apply(builder, "").start(),
            stored,
            _dir: dir,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.local.mount().join(name)
    }

    /// Waits until the store has these bytes; the mount has them at once.
    #[track_caller]
    fn expect(&self, name: &str, expected: &[u8]) {
        let found =
            std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}\n{}", self.local.log()));
        assert!(found == expected, "{name} differs on the mount\n{}", self.local.log());
        self.expect_stored(name, expected);
    }

    /// As [`Self::expect`], for what is being recovered.
    #[track_caller]
    fn expect_soon(&self, name: &str, expected: &[u8]) {
        let path = self.path(name);
        wait::until(&format!("{name} is right on the mount"), SOON, || {
            std::fs::read(&path).is_ok_and(|bytes| bytes == expected)
        });
        self.expect_stored(name, expected);
    }

    fn crash_and_restart(self) -> Case {
        let local = self.local.crash_and_restart();
        Case { local, ..self }
    }

    fn restart(self) -> Case {
        let (local, _) = self.local.restart(SOON);
        Case { local, ..self }
    }

    #[track_caller]
    fn expect_stored(&self, name: &str, expected: &[u8]) {
        let object = self.stored.join(name);
        wait::until(&format!("{name} is right in the store"), SOON, || {
            std::fs::read(&object).is_ok_and(|bytes| bytes == expected)
        });
    }
}

/// A process with a mapping of a file and no descriptor of it.
struct Mapping {
    agent: Agent,
    at: u64,
    bytes: usize,
}

impl Mapping {
    /// Makes the file, maps it, and stores into its first page before it closes it.
    fn of_new(path: &Path, bytes: usize) -> Mapping {
        let mut agent = Agent::new();
        let fd = agent.order(&format!("os.open({path:?}, RW)"));
        agent.order(&format!("os.ftruncate({fd}, {bytes})"));
        let mut mapping = Mapping::of(agent, &fd, bytes);
        mapping.store(0, b'a', PAGE);
        mapping.agent.order(&format!("os.close({fd})"));
        mapping
    }

    /// Opens the file that is there, maps it, and closes it.
    fn of_old(path: &Path, bytes: usize) -> Mapping {
        let mut agent = Agent::new();
        let fd = agent.order(&format!("os.open({path:?}, RW)"));
        let mut mapping = Mapping::of(agent, &fd, bytes);
        mapping.agent.order(&format!("os.close({fd})"));
        mapping
    }

    fn of(mut agent: Agent, fd: &str, bytes: usize) -> Mapping {
        let at = agent.order(&format!("mapped({fd}, {bytes})"));
        let at = at.parse().unwrap_or_else(|_| panic!("mmap: {at}"));
        Mapping { agent, at, bytes }
    }

    #[track_caller]
    fn store(&mut self, offset: usize, byte: u8, count: usize) {
        let at = self.at + offset as u64;
        assert_eq!(
            self.agent.order(&format!("store({at}, bytes([{byte}]) * {count})")),
            "ok"
        );
    }

    #[track_caller]
    fn unmap(&mut self) {
        assert_eq!(self.agent.order(&format!("unmap({}, {})", self.at, self.bytes)), "ok");
    }
}

/// The program of the report, with other pauses between close and the last stores, up to none.
#[test]
fn stores_after_close_reach_mount_and_store() {
    const BYTES: usize = 1 << 20;
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let case = Case::start(mode);
        let mut expected = vec![0; BYTES];
        expected[..PAGE].fill(b'a');
        for page in 0..BYTES / PAGE {
            expected[page * PAGE] = b'z';
        }
        for pause_ms in [0, 10, 100, 1_000, 3_000] {
            let name = format!("after-{pause_ms}");
            let mut mapping = Mapping::of_new(&case.path(&name), BYTES);
            // The pause is the case: whatever the mount does in that time.
            std::thread::sleep(Duration::from_millis(pause_ms));
            for page in 0..BYTES / PAGE {
                mapping.store(page * PAGE, b'z', 1);
            }
            mapping.unmap();
            case.expect(&name, &expected);
        }
    }
}

/// A page that is dirty moves no time when it is stored to again: close, store and unmap in one go.
#[test]
fn a_store_between_close_and_unmap_is_never_lost() {
    const FILES: usize = 60;
    let case = Case::start(Mode::Passthrough);
    let dir = case.local.mount().to_owned();
    let mut agent = Agent::new();
    let one = |n: usize| {
        format!(
            "(lambda fd: os.ftruncate(fd, 8192) or (lambda at: (store(at, b'a' * 8192), os.close(fd), store(at, b'z' * 4096), \
             unmap(at, 8192)))(mapped(fd, 8192)))(os.open('{}/{n}', RW))",
            dir.display()
        )
    };
    for n in 0..FILES {
        assert!(agent.order(&one(n)).contains("ok"));
    }
    let expected = [[b'z'; PAGE], [b'a'; PAGE]].concat();
    for n in 0..FILES {
        case.expect(&n.to_string(), &expected);
    }
}

/// While a mapping lives its file is committed as it changes, also where the same page is stored to again and again.
#[test]
fn a_mapped_file_is_stored_as_it_changes() {
    const BYTES: usize = 256 << 10;
    let case = Case::start(Mode::Passthrough);
    let mut mapping = Mapping::of_new(&case.path("m"), BYTES);
    let mut expected = vec![0; BYTES];
    expected[..PAGE].fill(b'a');
    case.expect("m", &expected);
    for (round, byte) in (b'b'..b'h').enumerate() {
        mapping.store(0, byte, 10);
        expected[..10].fill(byte);
        if round % 2 == 1 {
            mapping.store(BYTES - PAGE, byte, 1);
            expected[BYTES - PAGE] = byte;
        }
        case.expect("m", &expected);
    }
    // The program ends, as most do, without unmapping.
    mapping.store(PAGE, b'y', PAGE);
    expected[PAGE..2 * PAGE].fill(b'y');
    mapping.agent.kill();
    case.expect("m", &expected);
}

/// A file that was there is mapped by two processes under two names; it is written by a third meanwhile, and removed under
/// one name.
#[test]
fn mappings_of_several_processes_and_names() {
    const BYTES: usize = 64 << 10;
    let case = Case::start(Mode::Passthrough);
    let mut expected = vec![b'0'; BYTES];
    std::fs::write(case.path("one"), &expected).unwrap();
    case.expect("one", &expected);
    std::fs::hard_link(case.path("one"), case.path("two")).unwrap();
    let mut first = Mapping::of_old(&case.path("one"), BYTES);
    let mut second = Mapping::of_old(&case.path("two"), BYTES);
    first.store(0, b'1', 10);
    expected[..10].fill(b'1');
    case.expect("one", &expected);
    first.unmap();
    second.store(PAGE, b'2', 10);
    expected[PAGE..PAGE + 10].fill(b'2');
    // The store has the file under one of its names.
    case.expect("one", &expected);
    assert!(std::fs::read(case.path("two")).unwrap() == expected);
    // A writer comes and goes between two stores.
    let writer = std::fs::OpenOptions::new().write(true).open(case.path("one")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&writer, b"333", 20).unwrap();
    drop(writer);
    expected[20..23].fill(b'3');
    case.expect("one", &expected);
    std::fs::remove_file(case.path("two")).unwrap();
    second.store(2 * PAGE, b'4', 1);
    expected[2 * PAGE] = b'4';
    second.unmap();
    case.expect("one", &expected);
}

/// A running program does not keep its file from being sealed, and is not written.
#[test]
fn a_running_program_is_sealed_and_busy() {
    let case = Case::start(Mode::Passthrough);
    let program = case.path("sleep");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let bytes = std::fs::read("/bin/sleep").unwrap();
    let mut child = std::process::Command::new(&program).arg("600").spawn().unwrap();
    let refused = std::fs::OpenOptions::new().write(true).open(&program).unwrap_err();
    case.expect("sleep", &bytes);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(refused.raw_os_error(), Some(libc::ETXTBSY), "{refused}");
    std::fs::OpenOptions::new().write(true).open(&program).unwrap();
}

/// Everything is killed while a program goes on storing: what it has stored, and stores afterwards, is kept, and the file can
/// be written meanwhile.
#[test]
fn a_mapping_outlives_the_cluster() {
    const BYTES: usize = 64 << 10;
    let mut case = Case::start(Mode::Passthrough);
    let mut old = Mapping::of_new(&case.path("old"), BYTES);
    let mut expected = vec![0; BYTES];
    expected[..PAGE].fill(b'a');
    case.expect("old", &expected);
    // One that was never closed before the crash, and so was never committed.
    let mut agent = Agent::new();
    let fd = agent.order(&format!("os.open({:?}, RW)", case.path("new")));
    agent.order(&format!("os.ftruncate({fd}, {BYTES})"));
    let mut new = Mapping::of(agent, &fd, BYTES);
    new.store(0, b'a', PAGE);
    old.store(PAGE, b'b', 1);
    expected[PAGE] = b'b';
    case.local.process().kill();
    old.store(2 * PAGE, b'c', 1);
    case = case.crash_and_restart();
    expected[2 * PAGE] = b'c';
    case.expect_soon("old", &expected);
    old.store(2 * PAGE, b'd', 1);
    expected[2 * PAGE] = b'd';
    case.expect_soon("old", &expected);
    let writer = std::fs::OpenOptions::new().write(true).open(case.path("old")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&writer, b"333", 20).unwrap();
    drop(writer);
    expected[20..23].fill(b'3');
    case.expect_soon("old", &expected);
    old.store(PAGE, b'e', 1);
    expected[PAGE] = b'e';
    old.unmap();
    case.expect_soon("old", &expected);
    let mut expected = vec![0; BYTES];
    expected[..PAGE].fill(b'a');
    case.expect_soon("new", &expected);
    new.store(0, b'n', 1);
    expected[0] = b'n';
    new.agent.kill();
    case.expect_soon("new", &expected);
    // And with an orderly end.
    let mut last = Mapping::of_old(&case.path("new"), BYTES);
    last.store(PAGE, b'l', 1);
    expected[PAGE] = b'l';
    case.expect("new", &expected);
    last.store(PAGE, b'm', 1);
    case = case.restart();
    expected[PAGE] = b'm';
    last.store(BYTES - 1, b'o', 1);
    expected[BYTES - 1] = b'o';
    last.unmap();
    case.expect_soon("new", &expected);
}
