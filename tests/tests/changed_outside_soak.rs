//! Objects that somebody else replaces ten times a second, under a load of reads, renames, edits and appends: no read mixes two versions,
//! no call fails that may not, each change is seen in time, and in the end mount and bucket hold the same.
//!
//! Each content names its version in every 4 KiB. `ALLUXIO_TEST_SOAK_S=120` goes on for longer.
#![allow(clippy::unwrap_used, reason = "a test ends there")]
#![allow(clippy::disallowed_methods, reason = "they are what is tested")]

use alluxio_tests::s3::memory::{Content, Object};
use alluxio_tests::{Local, LocalBuilder, MemoryS3, S3Server, tools, wait};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SECONDS: u64 = 10;
const BLOCK: usize = 4096;
const CHANGE_EVERY: Duration = Duration::from_millis(100);
/// How often the mount looks, if a listing takes less than a twentieth of that; and how much longer it may be on a busy machine, where it
/// takes more.
const INTERVAL: Duration = Duration::from_secs(1);
const SLACK: Duration = Duration::from_secs(15);
const LONG: Duration = Duration::from_secs(60);
/// Files of each kind: only read, renamed, edited, appended to.
const READ: u64 = 8;
const MOVED: u64 = 4;
const EDITED: u64 = 3;
const APPENDED: u64 = 3;

/// Numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

/// What one version of a file is: some blocks, each with its name.
fn content(version: u64) -> Vec<u8> {
    let blocks = 1 + version % 40;
    (0..blocks).flat_map(|_| block(version)).collect()
}

fn block(version: u64) -> Vec<u8> {
    let name = format!("version {version:012} ");
    let mut block = name.into_bytes();
    block.resize(BLOCK, b'.');
    block
}

fn version_of(block: &[u8]) -> u64 {
    let text = std::str::from_utf8(&block[8..20]).unwrap_or_default();
    text.parse()
        .unwrap_or_else(|_| panic!("a block of no version: {:?}", &block[..20]))
}

/// The version of all of it but of blocks that were appended (from [`APPENDS`]).
#[track_caller]
fn one_version(name: &str, bytes: &[u8]) -> Option<u64> {
    assert_eq!(bytes.len() % BLOCK, 0, "{name} has {} bytes", bytes.len());
    let mut blocks = bytes.chunks(BLOCK).map(version_of).filter(|version| *version < APPENDS);
    let first = blocks.next()?;
    if let Some(other) = blocks.find(|version| *version != first) {
        panic!("{name}: one read has versions {first} and {other}");
    }
    Some(first)
}

/// Versions of appended blocks; of what is written through the mount; the others are somebody else's.
const APPENDS: u64 = 1 << 38;
const OURS: u64 = 1 << 36;

struct World {
    mount: PathBuf,
    server: MemoryS3,
    stop: AtomicBool,
    next: AtomicU64,
    /// When each version of the files that are only read was put.
    put: Mutex<BTreeMap<String, Vec<(u64, Instant)>>>,
}

impl World {
    fn runs(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount.join(name)
    }

    /// Somebody else's new version of an object that is there.
    fn replace(&self, key: &str) {
        let version = self.next.fetch_add(1, Ordering::Relaxed);
        let object = Object::plain(Content::from(bytes::Bytes::from(content(version))));
        let mut put = self.put.lock().unwrap();
        self.server.put(key, object);
        put.entry(key.to_owned()).or_default().push((version, Instant::now()));
    }

    fn change_behind_our_back(&self) {
        let mut numbers = Numbers(1);
        while self.runs() {
            let keys: Vec<String> = self.server.keys();
            let key = &keys[numbers.below(keys.len() as u64) as usize];
            if is_file(key) {
                self.replace(key);
            }
            std::thread::sleep(CHANGE_EVERY);
        }
    }

    /// Reads files that nobody here writes: whole, by one version, and not an old one.
    fn read(&self, seed: u64) {
        let mut numbers = Numbers(seed);
        while self.runs() {
            let name = format!("f{}", numbers.below(READ));
            let begun = Instant::now();
            let file = File::open(self.path(&name)).unwrap_or_else(|error| panic!("open {name}: {error}"));
            let Some(bytes) = read_all(&name, &file) else { continue };
            let version = one_version(&name, &bytes).unwrap();
            assert!(bytes == content(version), "{name} is not what was put there");
            let due = begun.checked_sub(INTERVAL + SLACK);
            let put = self.put.lock().unwrap();
            let newest_due = put[&name]
                .iter()
                .rev()
                .find(|(_, at)| due.is_some_and(|due| *at <= due));
            if let Some((newest, at)) = newest_due {
                assert!(
                    version >= *newest,
                    "{name}: version {newest} is {:?} old and not seen",
                    at.elapsed()
                );
            }
        }
    }

    /// Holds files open while they are replaced: each descriptor has one version.
    fn hold(&self) {
        let mut numbers = Numbers(77);
        while self.runs() {
            let name = format!("f{}", numbers.below(READ));
            let file = File::open(self.path(&name)).unwrap_or_else(|error| panic!("open {name}: {error}"));
            let mut seen = None;
            for _ in 0..10 {
                let mut block = vec![0; BLOCK];
                let at = numbers.below(2) * BLOCK as u64;
                match file.read_at(&mut block, at) {
                    Ok(0) => {}
                    Ok(BLOCK) => {
                        let version = version_of(&block);
                        assert_eq!(
                            *seen.get_or_insert(version),
                            version,
                            "{name}: one descriptor, two versions"
                        );
                    }
                    Ok(short) => panic!("{name}: {short} bytes at {at}"),
                    // What was not cached is gone.
                    Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "read {name}: {error}"),
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Renames files back and forth; they are read by their new names.
    fn rename(&self) {
        let mut numbers = Numbers(5);
        let mut is_away = [false; MOVED as usize];
        while self.runs() {
            let index = numbers.below(MOVED);
            let names = [format!("m{index}"), format!("moved/m{index}")];
            let away = &mut is_away[index as usize];
            let (from, to) = if *away {
                (&names[1], &names[0])
            } else {
                (&names[0], &names[1])
            };
            std::fs::rename(self.path(from), self.path(to)).unwrap_or_else(|error| panic!("rename {from}: {error}"));
            *away = !*away;
            let file = File::open(self.path(to)).unwrap_or_else(|error| panic!("open {to}: {error}"));
            if let Some(bytes) = read_all(to, &file) {
                one_version(to, &bytes);
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Writes files anew.
    fn edit(&self) {
        let mut numbers = Numbers(9);
        while self.runs() {
            let name = format!("e{}", numbers.below(EDITED));
            let version = OURS + self.next.fetch_add(1, Ordering::Relaxed);
            std::fs::write(self.path(&name), content(version)).unwrap_or_else(|error| panic!("write {name}: {error}"));
            std::thread::sleep(Duration::from_millis(70));
            let file = File::open(self.path(&name)).unwrap_or_else(|error| panic!("open {name}: {error}"));
            if let Some(bytes) = read_all(&name, &file) {
                one_version(&name, &bytes);
            }
        }
    }

    fn append(&self) {
        let mut numbers = Numbers(11);
        while self.runs() {
            let name = format!("a{}", numbers.below(APPENDED));
            let version = APPENDS + self.next.fetch_add(1, Ordering::Relaxed);
            let appended = File::options().append(true).open(self.path(&name));
            let mut file = appended.unwrap_or_else(|error| panic!("open {name} to append: {error}"));
            match file.write_all(&block(version)).and_then(|()| file.sync_all()) {
                Ok(()) => {}
                // It was replaced after it was opened.
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "append to {name}: {error}"),
            }
            drop(file);
            let file = File::open(self.path(&name)).unwrap_or_else(|error| panic!("open {name}: {error}"));
            if let Some(bytes) = read_all(&name, &file) {
                one_version(&name, &bytes);
            }
            std::thread::sleep(Duration::from_millis(70));
        }
    }
}

/// Whether a key is no folder's marker, nor that of the mount's own folder.
fn is_file(key: &str) -> bool {
    !key.ends_with('/') && key != ".alluxio-folder"
}

/// All of it; nothing if it was replaced after it was opened.
fn read_all(name: &str, file: &File) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match std::io::Read::read_to_end(&mut &*file, &mut bytes) {
        Ok(_) => Some(bytes),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "read {name}: {error}");
            None
        }
    }
}

fn agree(local: &Local, server: &MemoryS3) {
    let same = |dir: &Path| -> Result<(), String> {
        let mut found = BTreeMap::new();
        for path in ["", "moved"] {
            for entry in std::fs::read_dir(dir.join(path)).map_err(|error| error.to_string())? {
                let entry = entry.map_err(|error| error.to_string())?;
                let name = Path::new(path).join(entry.file_name()).display().to_string();
                if entry.path().is_file() {
                    found.insert(name, std::fs::read(entry.path()).map_err(|error| error.to_string())?);
                }
            }
        }
        let keys: Vec<String> = server.keys().into_iter().filter(|key| is_file(key)).collect();
        if found.keys().cloned().collect::<Vec<_>>() != keys {
            return Err(format!("the mount has {:?}, the bucket {keys:?}", found.keys()));
        }
        for (name, bytes) in found {
            if server.object(&name).unwrap().content.bytes() != bytes[..] {
                return Err(format!("{name} differs"));
            }
        }
        Ok(())
    };
    let mut last = String::new();
    wait::until("mount and bucket agree", LONG, || {
        let persisted = local.alluxio(&["fs", "persist", "/"]);
        let agreed = same(local.mount());
        if last != format!("{agreed:?}") {
            last = format!("{agreed:?}");
            println!("{last} {}", persisted.stderr);
        }
        persisted.code == 0 && agreed.is_ok()
    });
}

#[test]
fn under_load_nobody_reads_what_never_was() {
    let seconds = std::env::var("ALLUXIO_TEST_SOAK_S")
        .ok()
        .and_then(|text| text.parse().ok());
    let server = MemoryS3::start();
    let dir = tools::scratch("soak-");
    let local = LocalBuilder::at(dir.path())
        .ufs("s3://bucket/")
        .options(server.options())
        .option(
            "alluxio.user.file.metadata.sync.interval",
            format!("{}ms", INTERVAL.as_millis()),
        )
        .start();
    let world = World {
        mount: local.mount().to_owned(),
        server,
        stop: AtomicBool::new(false),
        next: AtomicU64::new(1),
        put: Mutex::default(),
    };
    for (letter, count) in [("f", READ), ("m", MOVED), ("e", EDITED), ("a", APPENDED)] {
        (0..count).for_each(|index| world.replace(&format!("{letter}{index}")));
    }
    std::fs::create_dir(world.path("moved")).unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| world.change_behind_our_back());
        let mut load = vec![scope.spawn(|| world.read(21)), scope.spawn(|| world.read(22))];
        load.push(scope.spawn(|| world.hold()));
        load.push(scope.spawn(|| world.rename()));
        load.push(scope.spawn(|| world.edit()));
        load.push(scope.spawn(|| world.append()));
        let limit = Duration::from_secs(seconds.unwrap_or(SECONDS));
        while begun.elapsed() < limit && !load.iter().any(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(50));
        }
        world.stop.store(true, Ordering::Relaxed);
        let ended: Vec<_> = load.into_iter().map(|thread| thread.join()).collect();
        changing.join().unwrap();
        if ended.iter().any(Result::is_err) {
            panic!("{}", local.log());
        }
    });
    agree(&local, &world.server);
    println!(
        "{} versions in {:?}",
        world.next.load(Ordering::Relaxed),
        begun.elapsed()
    );
    let (code, log) = local.stop(LONG);
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}
