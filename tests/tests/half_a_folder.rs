//! Stores that move or delete all but some objects: the others go on, nothing waits behind what is refused but what depends on it, and
//! a person sees and settles it.
#![allow(clippy::unwrap_used, reason = "a test ends there")]
#![allow(clippy::disallowed_methods, reason = "they are what is tested")]

use alluxio_tests::s3::memory::{Act, Content, Fault, Object};
use alluxio_tests::{Local, LocalBuilder, MemoryS3, S3Server, tools, wait};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
/// What the bucket has that is no file: the attributes of the mount's own folder.
const ROOT_MARK: &str = ".alluxio-folder";

struct World {
    local: Local,
    server: MemoryS3,
    _dir: tempfile::TempDir,
}

impl World {
    fn start() -> World {
        Self::over(MemoryS3::start())
    }

    fn over(server: MemoryS3) -> World {
        let dir = tools::scratch("half-");
        let local = LocalBuilder::at(dir.path())
            .ufs("s3://bucket/")
            .options(server.options())
            .option("alluxio.user.file.metadata.sync.interval", "1s")
            .option("alluxio.master.persistence.initial.interval", "100ms")
            .option("alluxio.master.persistence.max.interval", "1s")
            .start();
        World {
            local,
            server,
            _dir: dir,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.local.mount().join(name)
    }

    fn has(&self, key: &str) -> bool {
        self.server.object(key).is_some()
    }

    fn stored(&self, key: &str, bytes: &[u8]) {
        let is_there = || {
            self.server
                .object(key)
                .is_some_and(|object| object.content.bytes() == bytes)
        };
        wait::until(&format!("{key} is stored"), LONG, is_there);
    }

    /// What `fs ls` and the report say of what is refused.
    fn refused(&self, what: &str) {
        wait::until(&format!("{what} is reported"), LONG, || {
            self.local.alluxio(&["fsadmin", "report"]).stdout.contains(what)
        });
    }

    fn ended(self) {
        self.server.allow_all();
        let (code, log) = self.local.stop(LONG);
        assert_eq!(code, 0, "{log}");
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    }
}

fn object(bytes: &[u8]) -> Object {
    Object::plain(Content::from(bytes::Bytes::copy_from_slice(bytes)))
}

fn archived(bytes: &[u8]) -> Object {
    let mut cold = object(bytes);
    cold.storage_class = "GLACIER".to_owned();
    cold
}

fn restore(server: &MemoryS3, key: &str) {
    server.change(key, |object| object.storage_class = "STANDARD".to_owned());
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// As long as it takes for a name that should not be there to come back.
fn looked_at_again(dir: &Path) {
    let until = Instant::now() + Duration::from_secs(3);
    wait::until("some looks at the store", LONG, || {
        names(dir);
        Instant::now() > until
    });
}

fn folder_with_an_archive() -> MemoryS3 {
    let server = MemoryS3::start();
    for index in 0..20 {
        server.put(&format!("d/f{index:02}"), object(format!("content {index}").as_bytes()));
    }
    server.put("d/sub/deep", object(b"deep"));
    server.put("d/cold", archived(b"cold"));
    server
}

#[test]
fn a_folder_moves_but_for_what_the_store_does_not_copy() {
    let world = World::over(folder_with_an_archive());
    // Half of its names are never asked for.
    std::fs::metadata(world.path("d")).unwrap();
    std::fs::rename(world.path("d"), world.path("e")).unwrap();
    std::fs::write(world.path("e/new"), b"new").unwrap();
    world.stored("e/new", b"new");
    for index in 0..20 {
        world.stored(&format!("e/f{index:02}"), format!("content {index}").as_bytes());
        assert!(!world.has(&format!("d/f{index:02}")));
    }
    world.stored("e/sub/deep", b"deep");
    assert!(world.has("d/cold") && !world.has("e/cold"));
    // It is seen where it is to be, and that it is not there.
    world.refused("d/cold");
    let listed = world.local.alluxio(&["fs", "ls", "/e"]).stdout;
    let line = listed
        .lines()
        .find(|line| line.ends_with("/e/cold"))
        .unwrap()
        .to_owned();
    assert!(line.contains("REFUSED"), "{listed}");
    assert!(names(&world.path("e")).contains(&"cold".to_owned()));
    let error = std::fs::read(world.path("e/cold")).unwrap_err();
    assert_ne!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    looked_at_again(&world.path(""));
    assert_eq!(names(&world.path("")), ["e"], "nothing comes back");
    // The old name is free for others.
    std::fs::create_dir(world.path("d")).unwrap();
    std::fs::write(world.path("d/other"), b"other").unwrap();
    world.stored("d/other", b"other");
    assert_eq!(names(&world.path("d")), ["other"]);
    // A person sees it, restores it, and has it moved.
    let checked = world.local.alluxio(&["fs", "checkConsistency", "/e"]);
    assert!(
        checked.code == 1 && checked.stdout.contains("/e/cold  rename"),
        "{checked:?}"
    );
    assert_eq!(world.local.alluxio(&["fs", "checkConsistency", "/d"]).code, 0);
    restore(&world.server, "d/cold");
    assert_eq!(
        std::fs::read(world.path("e/cold")).unwrap(),
        b"cold",
        "it is read where it is"
    );
    assert_eq!(world.local.alluxio(&["fs", "checkConsistency", "-r", "/"]).code, 0);
    world.stored("e/cold", b"cold");
    wait::until("the old one is gone", LONG, || !world.has("d/cold"));
    wait::until("nothing is refused", LONG, || {
        world.local.alluxio(&["fs", "checkConsistency", "/"]).code == 0
    });
    assert!(!world.local.alluxio(&["fs", "ls", "/e"]).stdout.contains("REFUSED"));
    assert_eq!(std::fs::read(world.path("e/cold")).unwrap(), b"cold");
    world.ended();
}

#[test]
fn what_could_not_be_moved_is_renamed_removed_and_written_over() {
    let server = MemoryS3::start();
    for name in ["a", "b", "c", "d"] {
        server.put(&format!("d/{name}"), archived(name.as_bytes()));
    }
    server.put("d/warm", object(b"warm"));
    let world = World::over(server);
    assert_eq!(names(&world.path("d")).len(), 5);
    std::fs::rename(world.path("d"), world.path("e")).unwrap();
    world.refused("e/d");
    // Its folder moves on, it is renamed, removed, replaced, written anew: each of it as if it had been moved.
    std::fs::rename(world.path("e"), world.path("g")).unwrap();
    world.stored("g/warm", b"warm");
    std::fs::rename(world.path("g/a"), world.path("g/renamed")).unwrap();
    std::fs::remove_file(world.path("g/b")).unwrap();
    wait::until("what was removed is gone", LONG, || !world.has("d/b"));
    std::fs::write(world.path("g/c"), b"written anew").unwrap();
    world.stored("g/c", b"written anew");
    wait::until("what was written over is gone", LONG, || !world.has("d/c"));
    std::fs::write(world.path("g/tmp"), b"replaces").unwrap();
    std::fs::rename(world.path("g/tmp"), world.path("g/d")).unwrap();
    world.stored("g/d", b"replaces");
    wait::until("what was replaced is gone", LONG, || !world.has("d/d"));
    looked_at_again(&world.path("g"));
    assert_eq!(names(&world.path("g")), ["c", "d", "renamed", "warm"]);
    let world = World {
        local: world.local.crash_and_restart(),
        ..world
    };
    assert_eq!(names(&world.path("g")), ["c", "d", "renamed", "warm"]);
    assert_eq!(names(&world.path("")), ["g"]);
    restore(&world.server, "d/a");
    assert_eq!(std::fs::read(world.path("g/renamed")).unwrap(), b"a");
    assert_eq!(world.local.alluxio(&["fsadmin", "intents", "retry", "--all"]).code, 0);
    world.stored("g/renamed", b"a");
    wait::until("no old key is left", LONG, || {
        let mut keys = world.server.keys().into_iter();
        keys.all(|key| key.starts_with("g/") || key == ROOT_MARK)
    });
    world.ended();
}

#[test]
fn a_name_whose_object_cannot_be_deleted_is_free_and_stays_away() {
    let world = World::start();
    for name in ["f", "gone", "tree/one", "tree/two"] {
        std::fs::create_dir_all(world.path(name).parent().unwrap()).unwrap();
        std::fs::write(world.path(name), name).unwrap();
        world.stored(name, name.as_bytes());
    }
    world.server.forbid("DeleteObject", "");
    std::fs::remove_file(world.path("f")).unwrap();
    std::fs::write(world.path("f"), b"new").unwrap();
    std::fs::remove_file(world.path("gone")).unwrap();
    std::fs::remove_dir_all(world.path("tree")).unwrap();
    world.stored("f", b"new");
    world.refused("gone");
    std::fs::create_dir(world.path("tree")).unwrap();
    std::fs::write(world.path("tree/one"), b"again").unwrap();
    world.stored("tree/one", b"again");
    assert!(world.has("gone") && world.has("tree/two"));
    looked_at_again(&world.path(""));
    looked_at_again(&world.path("tree"));
    assert_eq!(names(&world.path("")), ["f", "tree"], "nothing comes back by itself");
    assert_eq!(names(&world.path("tree")), ["one"]);
    // Nor after a restart, nor when somebody asks for it by its name.
    let world = World {
        local: world.local.crash_and_restart(),
        ..world
    };
    assert!(!world.path("gone").exists() && !world.path("tree/two").exists());
    wait::until("both are listed", LONG, || {
        let checked = world.local.alluxio(&["fs", "checkConsistency", "/"]);
        checked.stdout.contains("/gone  delete") && checked.stdout.contains("/tree/two  delete")
    });
    // A person gives one up: it is a file again. The others are deleted once that is allowed.
    let listed = world.local.alluxio(&["fsadmin", "intents", "list"]).stdout;
    let of = |name: &str| {
        let line = listed.lines().find(|line| line.contains(name)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    let forgotten = world
        .local
        .alluxio(&["fsadmin", "intents", "forget", &of("bucket/gone")]);
    assert_eq!(forgotten.code, 0, "{forgotten:?} {listed}");
    wait::until("what was given up is shown", LONG, || {
        std::fs::read(world.path("gone")).is_ok_and(|bytes| bytes == b"gone")
    });
    world.server.allow_all();
    assert_eq!(world.local.alluxio(&["fs", "checkConsistency", "-r", "/"]).code, 0);
    wait::until("what may be deleted is", LONG, || !world.has("tree/two"));
    assert_eq!(std::fs::read(world.path("f")).unwrap(), b"new");
    assert_eq!(std::fs::read(world.path("tree/one")).unwrap(), b"again");
    world.ended();
}

#[test]
fn a_copy_whose_source_cannot_be_deleted_is_the_file() {
    let world = World::start();
    std::fs::create_dir(world.path("d")).unwrap();
    for name in ["d/one", "d/two", "f"] {
        std::fs::write(world.path(name), name).unwrap();
        world.stored(name, name.as_bytes());
    }
    world.server.forbid("DeleteObject", "");
    std::fs::rename(world.path("d"), world.path("e")).unwrap();
    std::fs::rename(world.path("f"), world.path("g")).unwrap();
    world.stored("e/one", b"d/one");
    world.stored("g", b"f");
    std::fs::write(world.path("e/three"), b"three").unwrap();
    world.stored("e/three", b"three");
    world.refused("d/one");
    looked_at_again(&world.path(""));
    assert_eq!(names(&world.path("")), ["e", "g"]);
    assert!(world.has("d/one") && world.has("f"));
    assert_eq!(std::fs::read(world.path("e/one")).unwrap(), b"d/one");
    world.server.allow_all();
    assert_eq!(world.local.alluxio(&["fs", "checkConsistency", "-r", "/"]).code, 0);
    wait::until("the old ones are gone", LONG, || {
        !world.has("d/one") && !world.has("d/two") && !world.has("f")
    });
    assert_eq!(names(&world.path("e")), ["one", "three", "two"]);
    world.ended();
}

#[test]
fn a_rename_that_is_given_up_gives_the_old_name_back() {
    let server = MemoryS3::start();
    server.put("d/cold", archived(b"cold"));
    server.put("d/warm", object(b"warm"));
    let world = World::over(server);
    assert_eq!(names(&world.path("d")), ["cold", "warm"]);
    std::fs::rename(world.path("d"), world.path("e")).unwrap();
    world.refused("d/cold");
    world.stored("e/warm", b"warm");
    let listed = world.local.alluxio(&["fsadmin", "intents", "list"]).stdout;
    let id = listed.split_whitespace().next().unwrap();
    assert_eq!(
        world.local.alluxio(&["fsadmin", "intents", "forget", id]).code,
        0,
        "{listed}"
    );
    wait::until("it is where it is", LONG, || world.path("d/cold").exists());
    assert_eq!(names(&world.path("e")), ["warm"]);
    assert_eq!(names(&world.path("d")), ["cold"]);
    assert!(world.has("d/cold") && !world.has("e/cold"));
    world.ended();
}

/// While the copies of a rename are made, each file is read where it is by then; the call itself has returned long before.
#[test]
fn readers_are_right_while_a_folder_moves() {
    let server = MemoryS3::start();
    for index in 0..60 {
        server.put(&format!("d/f{index:02}"), object(format!("content {index}").as_bytes()));
    }
    let world = World::over(server);
    assert_eq!(names(&world.path("d")).len(), 60);
    let slow = Fault::new(Act::Delay(Duration::from_secs(2))).on("CopyObject").always();
    world.server.fail(slow);
    let begun = Instant::now();
    std::fs::rename(world.path("d"), world.path("e")).unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "it took {:?}",
        begun.elapsed()
    );
    let mut read = 0;
    // One page: the deletes come when all is copied. So files are read from their old keys first, and from the new ones in the end.
    while world.has("d/f00") && read < 60 {
        let path = world.path(&format!("e/f{read:02}"));
        let begun = Instant::now();
        assert_eq!(std::fs::read(path).unwrap(), format!("content {read}").as_bytes());
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{read} took {:?}",
            begun.elapsed()
        );
        read += 7;
    }
    assert!(read > 0, "the rename was not waited for");
    world.server.heal();
    wait::until("the folder has moved", LONG, || !world.has("d/f59"));
    for index in 0..60 {
        assert_eq!(
            std::fs::read(world.path(&format!("e/f{index:02}"))).unwrap(),
            format!("content {index}").as_bytes()
        );
    }
    world.ended();
}

/// An object that somebody removes or replaces while its folder moves stops nothing, and is not lost.
#[test]
fn what_others_do_to_a_folder_that_moves_is_right_afterwards() {
    let server = MemoryS3::start();
    for index in 0..60 {
        server.put(&format!("d/f{index:02}"), object(format!("content {index}").as_bytes()));
    }
    let world = World::over(server);
    assert_eq!(names(&world.path("d")).len(), 60);
    let slow = Fault::new(Act::Delay(Duration::from_secs(1))).on("CopyObject").always();
    world.server.fail(slow);
    std::fs::rename(world.path("d"), world.path("e")).unwrap();
    wait::until("the first copies", LONG, || world.has("e/f00"));
    world.server.remove("d/f59");
    world.server.put("d/f01", object(b"somebody else's"));
    world.server.heal();
    wait::until("the folder has moved", LONG, || {
        !world.server.keys().iter().any(|key| key.starts_with("d/f"))
    });
    world.stored("e/f01", b"somebody else's");
    wait::until("the new content is seen", LONG, || {
        std::fs::read(world.path("e/f01")).is_ok_and(|bytes| bytes == b"somebody else's")
    });
    assert_eq!(std::fs::read(world.path("e/f58")).unwrap(), b"content 58");
    wait::until("what was removed is not there", LONG, || !world.path("e/f59").exists());
    world.ended();
}

/// What can be known by then is said by the call: an object that a listing shows as archived is not copied.
#[test]
fn an_archived_object_is_not_renamed_by_its_name() {
    let server = MemoryS3::start();
    server.put("d/cold", archived(b"cold"));
    server.put("d/warm", object(b"warm"));
    let world = World::over(server);
    assert_eq!(names(&world.path("d")), ["cold", "warm"]);
    let refused = std::fs::rename(world.path("d/cold"), world.path("d/other")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied, "{refused}");
    let said = world.local.alluxio(&["fs", "mv", "/d/cold", "/d/other"]);
    assert!(said.code != 0 && said.stderr.contains("archived"), "{said:?}");
    assert_eq!(names(&world.path("d")), ["cold", "warm"]);
    assert_eq!(world.local.alluxio(&["fs", "checkConsistency", "/"]).code, 0);
    // Its folder moves, and its name goes with it: then another name costs nothing more.
    std::fs::rename(world.path("d"), world.path("e")).unwrap();
    world.refused("e/cold");
    std::fs::rename(world.path("e/cold"), world.path("e/other")).unwrap();
    assert_eq!(names(&world.path("e")), ["other", "warm"]);
    // One that was restored is copied, though listings show it as before.
    world.server.put("f/cold", archived(b"cold"));
    wait::until("the new folder", LONG, || world.path("f/cold").exists());
    assert!(std::fs::rename(world.path("f/cold"), world.path("f/other")).is_err());
    let until = chrono::Utc::now() + chrono::Duration::hours(1);
    world
        .server
        .change("f/cold", |object| object.restored_until = Some(until));
    std::fs::rename(world.path("f/cold"), world.path("f/other")).unwrap();
    wait::until("the copy", LONG, || world.has("f/other") && !world.has("f/cold"));
    restore(&world.server, "d/cold");
    assert_eq!(world.local.alluxio(&["fs", "checkConsistency", "-r", "/"]).code, 0);
    wait::until("the other copy", LONG, || world.has("e/other") && !world.has("d/cold"));
    world.ended();
}

/// More than one page of a report; and nothing more is asked of the store about any of them.
#[test]
fn however_much_is_left_is_listed_and_costs_no_request() {
    const COUNT: usize = 120;
    let server = MemoryS3::start();
    for index in 0..COUNT {
        server.put(&format!("d/f{index:03}"), archived(b"cold"));
    }
    server.put("d/warm", object(b"warm"));
    let dir = tools::scratch("half-");
    let local = LocalBuilder::at(dir.path())
        .ufs("s3://bucket/")
        .options(server.options())
        .option("alluxio.user.file.metadata.sync.interval", "100ms")
        .option("alluxio.master.persistence.initial.interval", "50ms")
        .option("alluxio.master.persistence.max.interval", "1s")
        .option("alluxio.master.persistence.refused.timeout", "1s")
        .start();
    std::fs::rename(local.mount().join("d"), local.mount().join("e")).unwrap();
    wait::until("what is refused", LONG, || {
        let checked = local.alluxio(&["fs", "checkConsistency", "/"]);
        checked.stdout.lines().filter(|line| line.contains("  rename ")).count() == COUNT
    });
    let listed = local.alluxio(&["fsadmin", "intents", "list"]).stdout;
    assert_eq!(listed.lines().count(), COUNT, "{listed}");
    // A folder of ours, whose objects may carry attributes.
    std::fs::create_dir(local.mount().join("d")).unwrap();
    std::fs::write(local.mount().join("d/new"), b"new").unwrap();
    wait::until("the new file", LONG, || server.object("d/new").is_some());
    // By and by they are not tried by themselves any more.
    wait::until("silence", LONG, || {
        server.clear_log();
        std::thread::sleep(Duration::from_secs(2));
        server.seen("CopyObject").is_empty()
    });
    server.clear_log();
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(names(&local.mount().join("d")), ["new"]);
    }
    assert!(!server.seen("ListObjectsV2").is_empty(), "it was looked at");
    let heads = server.seen("HeadObject");
    let of_left = heads.iter().filter(|seen| seen.key.starts_with("d/f")).count();
    assert_eq!(of_left, 0, "{heads:?}");
    let (_, log) = local.stop(LONG);
    assert!(!log.contains("panicked"), "{log}");
}

/// An object in parts has another ETag after a copy. It is the same file all the same: what is cached of it stays, and it is removed with
/// its name.
#[test]
fn an_object_in_parts_is_the_same_file_after_its_folder_moved() {
    let server = MemoryS3::start();
    for name in ["d/kept", "d/removed"] {
        server.put(name, object(&[7; 100_000]));
        server.change(name, |object| object.etag.push_str("-3"));
    }
    let world = World::over(server);
    for name in ["d/kept", "d/removed"] {
        assert_eq!(std::fs::read(world.path(name)).unwrap(), [7; 100_000]);
    }
    let slow = Fault::new(Act::Delay(Duration::from_secs(1))).on("CopyObject").always();
    world.server.fail(slow);
    std::fs::rename(world.path("d"), world.path("e")).unwrap();
    std::fs::remove_file(world.path("e/removed")).unwrap();
    world.server.heal();
    wait::until("the copy", LONG, || world.has("e/kept") && !world.has("d/kept"));
    assert!(!world.server.object("e/kept").unwrap().etag.ends_with("-3"));
    wait::until("the removal", LONG, || {
        !world.has("e/removed") && !world.has("d/removed")
    });
    world.server.clear_log();
    looked_at_again(&world.path("e"));
    assert_eq!(names(&world.path("e")), ["kept"]);
    assert_eq!(std::fs::read(world.path("e/kept")).unwrap(), [7; 100_000]);
    assert!(
        world.server.seen("GetObject").is_empty(),
        "{:?}",
        world.server.seen("GetObject")
    );
    world.ended();
}
