//! Rename from one mount of the namespace to another: a local folder and a bucket.
//!
//! As root: modes and owners are those of the under-storage, too.
#![allow(clippy::unwrap_used, reason = "a test ends there")]
#![allow(clippy::disallowed_methods, reason = "the system call is what is tested")]

use alluxio_tests::process::Output;
use alluxio_tests::proxy::{Fault, Proxy};
use alluxio_tests::s3::options_for;
use alluxio_tests::{Local, LocalBuilder, S3Server, Versity, tools, tree, wait};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const PROPERTY: &str = "alluxio.user.rename.across.mounts";
/// The stores follow behind; on a machine that does much else, far behind.
const LONG: Duration = Duration::from_secs(180);

/// A mount over a folder, in which a bucket is mounted at `s3`.
struct World {
    local: Local,
    folder: PathBuf,
    server: Versity,
    /// Between master, workers and the bucket.
    proxy: Proxy,
    _dir: tempfile::TempDir,
}

impl World {
    fn start(across: bool) -> World {
        let dir = tools::scratch("across-");
        let folder = dir.path().join("ufs");
        fs::create_dir(&folder).unwrap();
        let server = Versity::start();
        let proxy = Proxy::start(&server.endpoint());
        let local = LocalBuilder::at(dir.path())
            .ufs(tools::text(&folder))
            .options(options_for(&proxy.endpoint()))
            .option(PROPERTY, across.to_string())
            .start();
        let world = World {
            local,
            folder,
            server,
            proxy,
            _dir: dir,
        };
        world.alluxio(&["fs", "mount", "/s3", "s3://bucket/"]).ok();
        wait::until("the bucket in the namespace", LONG, || world.at("s3").is_dir());
        world
    }

    fn alluxio(&self, arguments: &[&str]) -> Output {
        self.local.alluxio(arguments)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.local.mount().join(name)
    }

    fn bucket(&self, key: &str) -> PathBuf {
        self.server.bucket("bucket").join(key)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), i32> {
        fs::rename(self.at(from), self.at(to)).map_err(|error| error.raw_os_error().unwrap())
    }

    #[track_caller]
    fn wait_file(&self, path: &Path, content: &[u8]) {
        wait::until(&format!("{} to be whole", path.display()), LONG, || {
            fs::read(path).is_ok_and(|bytes| bytes == content)
        });
    }

    #[track_caller]
    fn wait_gone(&self, path: &Path) {
        wait::until(&format!("{} to be gone", path.display()), LONG, || {
            fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        });
    }

    fn crash(self) -> World {
        World {
            local: self.local.crash_and_restart(),
            ..self
        }
    }
}

type Files = BTreeMap<String, Vec<u8>>;

/// All files beneath a folder with what is in them, but for the mark of a bucket.
fn try_files(dir: &Path) -> std::io::Result<Files> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(&at)? {
            let path = entry?.path();
            let kind = fs::symlink_metadata(&path)?.file_type();
            if kind.is_dir() {
                dirs.push(path);
            } else if kind.is_file() && !path.ends_with(".alluxio-folder") {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

#[track_caller]
fn files(dir: &Path) -> Files {
    try_files(dir).unwrap()
}

/// Whether a folder of a store, which may be changing, has these files and no others.
fn has_just(dir: &Path, expected: &Files) -> bool {
    try_files(dir).is_ok_and(|found| found == *expected)
}

fn exchange(one: &Path, other: &Path) -> Result<(), i32> {
    let [one, other] = [one, other].map(|path| CString::new(path.as_os_str().as_bytes()).unwrap());
    let flags = libc::RENAME_EXCHANGE;
    // SAFETY: both paths end with a NUL and live until the call returns.
    let failed = unsafe { libc::renameat2(libc::AT_FDCWD, one.as_ptr(), libc::AT_FDCWD, other.as_ptr(), flags) } != 0;
    match failed {
        true => Err(std::io::Error::last_os_error().raw_os_error().unwrap()),
        false => Ok(()),
    }
}

fn set_xattr(path: &Path, value: &str) {
    let line = format!("setfattr -n user.colour -v {value} {}", path.display());
    alluxio_tests::process::sh(&line, LONG).ok();
}

fn xattr(path: &Path) -> String {
    let line = format!("getfattr --only-values -n user.colour {}", path.display());
    alluxio_tests::process::sh(&line, LONG).ok()
}

/// What a program sees of a file besides its bytes.
fn looks(path: &Path) -> (u64, u32, i64, i64, u64) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.ino(), meta.mode(), meta.mtime(), meta.mtime_nsec(), meta.len())
}

#[test]
fn a_file_moves_with_all_that_is_its_own() {
    let world = World::start(true);
    // More than one part of an upload.
    let content = tree::contents(1, 9_000_001);
    let one = world.at("one");
    fs::write(&one, &content).unwrap();
    fs::set_permissions(&one, fs::Permissions::from_mode(0o640)).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    fs::File::options()
        .write(true)
        .open(&one)
        .unwrap()
        .set_modified(then)
        .unwrap();
    set_xattr(&one, "blue");
    world.wait_file(&world.folder.join("one"), &content);
    let before = looks(&one);
    // There, over a file that is there, and back.
    fs::write(world.at("s3/two"), "in the way").unwrap();
    world.wait_file(&world.bucket("two"), b"in the way");
    world.rename("one", "s3/two").unwrap();
    let there = world.at("s3/two");
    assert_eq!((looks(&there), xattr(&there).as_str()), (before, "blue"));
    assert!(fs::read(&there).unwrap() == content);
    assert!(!one.exists());
    world.wait_file(&world.bucket("two"), &content);
    world.wait_gone(&world.folder.join("one"));
    // Not cached any more, it is read from where it is now.
    world.alluxio(&["fs", "free", "/s3/two"]).ok();
    assert!(fs::read(&there).unwrap() == content);
    assert_eq!((looks(&there), xattr(&there).as_str()), (before, "blue"));
    let world = world.crash();
    world.rename("s3/two", "back").unwrap();
    let back = world.at("back");
    assert_eq!((looks(&back), xattr(&back).as_str()), (before, "blue"));
    let stored = world.folder.join("back");
    world.wait_file(&stored, &content);
    world.wait_gone(&world.bucket("two"));
    let meta = fs::metadata(&stored).unwrap();
    assert_eq!(
        (meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()),
        (0o640, 1_234_567_890, 123_456_789)
    );
    assert!(fs::read(&back).unwrap() == content);
}

#[test]
fn a_file_that_is_open_or_not_stored_yet_goes_along() {
    let world = World::start(true);
    // Open for writing, with a part in the store.
    let old = tree::contents(2, 300_000);
    fs::write(world.at("log"), &old).unwrap();
    world.wait_file(&world.folder.join("log"), &old);
    let mut log = fs::File::options()
        .read(true)
        .write(true)
        .open(world.at("log"))
        .unwrap();
    log.write_all(b"first").unwrap();
    world.rename("log", "s3/log").unwrap();
    log.seek(SeekFrom::Start(100_000)).unwrap();
    log.write_all(b"second").unwrap();
    let mut expected = old.clone();
    expected[..5].copy_from_slice(b"first");
    expected[100_000..100_006].copy_from_slice(b"second");
    let mut read = Vec::new();
    log.seek(SeekFrom::Start(0)).unwrap();
    log.read_to_end(&mut read).unwrap();
    assert!(read == expected);
    drop(log);
    // Closed a moment ago: it costs one upload, to where it is now.
    fs::write(world.at("s3/new"), "new").unwrap();
    world.rename("s3/new", "new").unwrap();
    // Opened for reading before, read behind the move.
    fs::write(world.at("held"), &old).unwrap();
    world.wait_file(&world.folder.join("held"), &old);
    let mut held = fs::File::open(world.at("held")).unwrap();
    world.rename("held", "s3/held").unwrap();
    world.wait_gone(&world.folder.join("held"));
    read.clear();
    held.read_to_end(&mut read).unwrap();
    assert!(read == old);
    world.wait_file(&world.bucket("log"), &expected);
    world.wait_file(&world.folder.join("new"), b"new");
    world.wait_gone(&world.folder.join("log"));
    world.wait_gone(&world.bucket("new"));
    assert!(fs::read(world.at("s3/log")).unwrap() == expected);
}

#[test]
fn a_folder_moves_with_all_that_is_in_it() {
    let world = World::start(true);
    // Partly of before us, of which no name has been looked at.
    let lazy = world.bucket("tree/deep/lazy");
    fs::create_dir_all(lazy.parent().unwrap()).unwrap();
    fs::write(&lazy, "of before").unwrap();
    let tree = world.at("s3/tree");
    for dir in ["a", "a/b", "empty"] {
        fs::create_dir(tree.join(dir)).unwrap();
    }
    for (number, name) in ["top", "a/one", "a/two", "a/b/three"].iter().enumerate() {
        fs::write(tree.join(name), tree::contents(number as u64, 10_000 + number)).unwrap();
    }
    fs::write(tree.join("a/nothing"), "").unwrap();
    symlink("one", tree.join("a/link")).unwrap();
    nix::unistd::mkfifo(&tree.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    set_xattr(&tree.join("a"), "red");
    set_xattr(&tree.join("a/one"), "green");
    world.wait_file(&world.bucket("tree/a/b/three"), &tree::contents(3, 10_003));
    fs::write(tree.join("late"), "late").unwrap();
    world.rename("s3/tree", "moved").unwrap();
    let moved = world.at("moved");
    assert!(!tree.exists());
    let mut expected = BTreeMap::from([
        ("deep/lazy".to_owned(), b"of before".to_vec()),
        ("late".to_owned(), b"late".to_vec()),
        ("a/nothing".to_owned(), Vec::new()),
    ]);
    for (number, name) in ["top", "a/one", "a/two", "a/b/three"].iter().enumerate() {
        expected.insert((*name).to_owned(), tree::contents(number as u64, 10_000 + number));
    }
    let check = |moved: &Path| {
        assert_eq!(files(moved), expected);
        assert_eq!(fs::read_link(moved.join("a/link")).unwrap(), Path::new("one"));
        assert!(fs::symlink_metadata(moved.join("fifo")).unwrap().file_type().is_fifo());
        assert_eq!(fs::read_dir(moved.join("empty")).unwrap().count(), 0);
        assert_eq!(
            (xattr(&moved.join("a")), xattr(&moved.join("a/one"))),
            ("red".into(), "green".into())
        );
    };
    check(&moved);
    // The name is free, and what is made there is not taken for what leaves.
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("top"), "another").unwrap();
    let stored = world.folder.join("moved");
    wait::until("the folder to be in the other store", LONG, || {
        stored.join("empty").is_dir() && stored.join("a/link").is_symlink() && has_just(&stored, &expected)
    });
    let left = BTreeMap::from([("tree/top".to_owned(), b"another".to_vec())]);
    wait::until("the objects of the old folder to be gone", LONG, || {
        has_just(&world.server.bucket("bucket"), &left)
    });
    let world = world.crash();
    check(&world.at("moved"));
    // And to the bucket, over an empty folder, where a link is an object that holds its target.
    fs::create_dir(world.at("s3/target")).unwrap();
    world.rename("moved", "s3/target").unwrap();
    check(&world.at("s3/target"));
    let mut stored = expected.clone();
    stored.insert("a/link".to_owned(), b"one".to_vec());
    wait::until("the folder to be in the bucket", LONG, || {
        has_just(&world.bucket("target"), &stored)
    });
    world.wait_gone(&world.folder.join("moved"));
    check(&world.crash().at("s3/target"));
}

/// A folder `tree` with files in it, stored.
fn stored_tree(world: &World) -> Files {
    let mut expected = BTreeMap::new();
    for dir in 0..4u64 {
        for file in 0..8u64 {
            let content = tree::contents(dir * 100 + file, 50_000 + file as usize);
            expected.insert(format!("{dir}/{file}"), content);
        }
    }
    let tree = world.at("tree");
    for (name, content) in &expected {
        fs::create_dir_all(tree.join(name).parent().unwrap()).unwrap();
        fs::write(tree.join(name), content).unwrap();
    }
    let stored = world.folder.join("tree");
    wait::until("the tree to be stored", LONG, || has_just(&stored, &expected));
    expected
}

/// Killed between the steps of it, the move goes on, and nothing is lost or left behind.
#[test]
fn a_move_survives_kills_between_its_steps() {
    let world = World::start(true);
    let expected = stored_tree(&world);
    let (inside, bucket) = (world.folder.join("tree"), world.bucket("tree"));
    // A part has been copied; of one copy nobody has heard.
    world.proxy.fault("PUT", "/tree/1/", Fault::LoseAnswer, 1);
    world.proxy.fault("PUT", "/tree/2/", Fault::Status(503), usize::MAX);
    world.rename("tree", "s3/tree").unwrap();
    wait::until("a part to have moved", LONG, || {
        try_files(&inside).is_ok_and(|left| !left.is_empty() && left.keys().all(|name| name.starts_with("2/")))
    });
    let world = world.crash();
    assert_eq!(files(&world.at("s3/tree")), expected);
    assert_eq!(files(&inside).len(), 8, "what is not copied stays");
    world.proxy.heal();
    wait::until("the copies to be whole", LONG, || has_just(&bucket, &expected));
    world.wait_gone(&inside);
    world.alluxio(&["fs", "free", "/s3/tree"]).ok();
    assert_eq!(files(&world.at("s3/tree")), expected);
    // All has been copied, and nothing deleted.
    for method in ["DELETE", "POST"] {
        world.proxy.fault(method, "", Fault::Status(503), usize::MAX);
    }
    world.rename("s3/tree", "tree").unwrap();
    wait::until("the copies to be whole", LONG, || has_just(&inside, &expected));
    let world = world.crash();
    assert_eq!(files(&bucket), expected, "nothing could be deleted");
    world.alluxio(&["fs", "free", "/tree"]).ok();
    assert_eq!(files(&world.at("tree")), expected);
    assert!(!world.at("s3/tree").exists());
    world.proxy.heal();
    world.wait_gone(&bucket);
    assert_eq!(files(&world.at("tree")), expected);
}

#[test]
fn a_move_survives_kills_at_any_moment() {
    let mut world = World::start(true);
    let expected = stored_tree(&world);
    for (round, delay_ms) in [0u64, 100, 300, 600].into_iter().enumerate() {
        let (inside, bucket) = (world.folder.join("tree"), world.bucket("tree"));
        let (from, to, old, new) = match round.is_multiple_of(2) {
            true => ("tree", "s3/tree", inside, bucket),
            false => ("s3/tree", "tree", bucket, inside),
        };
        world.rename(from, to).unwrap();
        // Which moment that is, is chance; whatever has happened by then is right.
        std::thread::sleep(Duration::from_millis(delay_ms));
        world = world.crash();
        assert_eq!(files(&world.at(to)), expected, "right after kill {round}");
        assert!(!world.at(from).exists());
        let moved = format!("the move to be done after kill {round}");
        wait::until(&moved, LONG, || has_just(&new, &expected));
        world.wait_gone(&old);
        world.alluxio(&["fs", "free", &format!("/{to}")]).ok();
        assert_eq!(files(&world.at(to)), expected, "from the store after kill {round}");
    }
}

#[test]
fn what_cannot_move_says_so() {
    let world = World::start(true);
    let dir = world.at("d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("f"), "f").unwrap();
    fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
    fs::write(world.at("s3/x"), "x").unwrap();
    assert_eq!(world.rename("d/f", "s3/f"), Err(libc::EXDEV));
    assert_eq!(world.rename("d", "s3/d"), Err(libc::EXDEV));
    let refused = fs::hard_link(world.at("s3/x"), dir.join("x")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EXDEV));
    assert_eq!(world.rename("s3", "d/s3"), Err(libc::EBUSY));
    let exchanged = exchange(&dir.join("f"), &world.at("s3/x"));
    assert_eq!(exchanged, Err(libc::EXDEV));
    // More than one step of the journal can move, of names that nobody has looked at.
    let large = world.folder.join("large");
    fs::create_dir(&large).unwrap();
    for number in 0..10_000 {
        fs::write(large.join(number.to_string()), "").unwrap();
    }
    assert_eq!(world.rename("large", "s3/large"), Err(libc::EXDEV));
    assert_eq!(fs::read_dir(world.at("large")).unwrap().count(), 10_000);
    // A folder with a mount in it.
    let beneath = world.folder.parent().unwrap().join("beneath");
    fs::create_dir(&beneath).unwrap();
    fs::create_dir(world.at("e")).unwrap();
    world.alluxio(&["fs", "mount", "/e/n", tools::text(&beneath)]).ok();
    wait::until("a mount beneath", LONG, || world.at("e/n").is_dir());
    assert_eq!(world.rename("e", "s3/e"), Err(libc::EBUSY));
    fs::remove_file(dir.join("g")).unwrap();
    assert_eq!(world.rename("d", "s3/x"), Err(libc::ENOTDIR));
    // A bucket names objects in UTF-8.
    let odd = std::ffi::OsStr::from_bytes(b"\xff");
    fs::write(dir.join(odd), "odd").unwrap();
    assert_eq!(world.rename("d", "s3/d"), Err(libc::EINVAL));
    fs::remove_file(dir.join(odd)).unwrap();
    // A mount that refuses changes, at either end.
    let frozen = world.folder.parent().unwrap().join("frozen");
    fs::create_dir(&frozen).unwrap();
    fs::write(frozen.join("cold"), "cold").unwrap();
    world
        .alluxio(&["fs", "mount", "--readonly", "/frozen", tools::text(&frozen)])
        .ok();
    wait::until("the third mount", LONG, || world.at("frozen/cold").exists());
    assert_eq!(world.rename("d/f", "frozen/f"), Err(libc::EROFS));
    assert_eq!(world.rename("frozen/cold", "d/cold"), Err(libc::EROFS));
    world.rename("d", "s3/d").unwrap();
    world.wait_file(&world.bucket("d/f"), b"f");
    // The command, with and without the property.
    let refused = world.alluxio(&["fs", "mv", "/s3/x", "/y"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    let on = format!("{PROPERTY}=true");
    world.alluxio(&["fs", "mv", "/s3/x", "/y", "-D", &on]).ok();
    assert_eq!(fs::read(world.at("y")).unwrap(), b"x");
    world.wait_file(&world.folder.join("y"), b"x");
    world.wait_gone(&world.bucket("x"));
}

#[test]
fn by_default_mv_copies() {
    let world = World::start(false);
    fs::write(world.at("f"), "f").unwrap();
    assert_eq!(world.rename("f", "s3/f"), Err(libc::EXDEV));
    let line = format!("mv {} {}", world.at("f").display(), world.at("s3/f").display());
    alluxio_tests::process::sh(&line, LONG).ok();
    assert_eq!(fs::read(world.at("s3/f")).unwrap(), b"f");
    assert!(!world.at("f").exists());
    world.wait_file(&world.bucket("f"), b"f");
    world.wait_gone(&world.folder.join("f"));
}
