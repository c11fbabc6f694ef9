//! Rename across mounts, by who moves the bytes: the store itself where both mounts are of one, workers otherwise, and never the
//! master. Processes of their own, so that a request of the master is one that comes while no worker is there.
//!
//! As root: modes and owners are those of the under-storage, too.
#![allow(clippy::unwrap_used, reason = "a test ends there")]
#![allow(clippy::disallowed_methods, reason = "the system call is what is tested")]

use alluxio_tests::s3::memory::{Act, Content, Fault, Object, Seen};
use alluxio_tests::separate::Mount;
use alluxio_tests::{MemoryS3, S3Server, Separate, tree, wait};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PROPERTY: &str = "alluxio.user.rename.across.mounts";
/// On a machine that does much else.
const LONG: Duration = Duration::from_secs(180);
const MIB: u64 = 1 << 20;
/// Operations that carry data of files.
const DATA: [&str; 3] = ["GetObject", "PutObject", "UploadPart"];

/// The root is a local folder; `/one` and `/two` are buckets of one store.
struct World {
    cluster: Separate,
    mount: Mount,
    server: MemoryS3,
}

impl World {
    fn start() -> World {
        let server = MemoryS3::start();
        server.add_bucket("other");
        let mut options: Vec<(String, String)> = server.options().into_iter().collect();
        for (key, value) in [
            ("alluxio.user.file.metadata.sync.interval", "1s"),
            ("alluxio.master.persistence.initial.interval", "100ms"),
            ("alluxio.master.persistence.max.interval", "1s"),
            ("alluxio.underfs.s3.copy.part.size", "5MB"),
        ] {
            options.push((key.to_owned(), value.to_owned()));
        }
        let options: Vec<(&str, &str)> = options
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let cluster = Separate::start(&options);
        let mount = cluster.mount_with("mnt", &format!("{PROPERTY}=true"));
        for (path, uri) in [("/one", "s3://bucket/"), ("/two", "s3://other/")] {
            cluster.alluxio(&["fs", "mount", path, uri]).ok();
        }
        let world = World { cluster, mount, server };
        wait::until("the buckets in the namespace", LONG, || {
            world.at("one").is_dir() && world.at("two").is_dir()
        });
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.mount.file(name)
    }

    /// A file of the root's store.
    fn stored(&self, name: &str) -> PathBuf {
        self.cluster.ufs().join(name)
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }

    fn report(&self) -> String {
        self.cluster.alluxio(&["fsadmin", "report"]).ok()
    }

    /// Requests that carried data of the object.
    fn moved(&self, key: &str) -> Vec<Seen> {
        let mut log = self.server.log();
        log.retain(|seen| DATA.contains(&seen.operation) && seen.key == key);
        log
    }

    fn wait_other(&self, key: &str, bytes: &[u8]) {
        wait::until(&format!("{key} in the other bucket"), LONG, || {
            let there = self.server.object_of("other", key);
            there.is_some_and(|object| object.content.bytes() == bytes)
        });
    }

    fn wait_file(&self, name: &str, bytes: &[u8]) {
        let path = self.stored(name);
        wait::until(&format!("{name} in the folder"), LONG, || {
            fs::read(&path).is_ok_and(|found| found == bytes)
        });
    }

    fn wait_gone(&self, key: &str) {
        wait::until(&format!("{key} to leave its bucket"), LONG, || {
            self.server.object(key).is_none()
        });
    }
}

fn object(bytes: &[u8]) -> Object {
    Object::plain(Content::from(bytes::Bytes::copy_from_slice(bytes)))
}

/// One that carries something beside its bytes.
fn carrying(bytes: &[u8]) -> Object {
    let mut object = object(bytes);
    object.headers.insert("content-type".into(), "text/plain".into());
    object.headers.insert("cache-control".into(), "no-store".into());
    object.metadata.insert("theirs".into(), "kept".into());
    object.tags.push(("team".into(), "blue".into()));
    object
}

#[track_caller]
fn carries(object: &Object) {
    let header = |name: &str| object.headers.get(name).map(String::as_str);
    assert_eq!(
        (header("content-type"), header("cache-control")),
        (Some("text/plain"), Some("no-store"))
    );
    assert_eq!(object.metadata.get("theirs").map(String::as_str), Some("kept"));
    assert_eq!(object.tags, [("team".to_owned(), "blue".to_owned())]);
}

#[test]
fn within_one_store_the_store_copies_and_nobody_else() {
    let mut world = World::start();
    let small = tree::contents(1, 100_000);
    let large = tree::contents(2, 12 * MIB as usize);
    let mut seldom = carrying(&small);
    seldom.storage_class = "STANDARD_IA".into();
    world.server.put("f", seldom);
    world.server.put("large", carrying(&large));
    wait::until("the objects", LONG, || {
        world.at("one/f").exists() && world.at("one/large").exists()
    });
    let mtime = fs::metadata(world.at("one/f")).unwrap().modified().unwrap();
    // Whatever is asked of the stores from now on the master asks.
    world.cluster.worker().kill();
    world.server.clear_log();
    world.rename("one/f", "two/g");
    world.rename("one/large", "two/large");
    world.wait_other("g", &small);
    world.wait_other("large", &large);
    world.wait_gone("f");
    world.wait_gone("large");
    for key in ["f", "g", "large"] {
        assert!(world.moved(key).is_empty(), "{:?}", world.moved(key));
    }
    let copies = world.server.seen("CopyObject");
    let copy = copies.iter().find(|seen| seen.key == "g").unwrap();
    assert_eq!((copy.bucket.as_str(), copy.status), ("other", 200));
    assert_eq!(copy.headers["x-amz-copy-source"], "/bucket/f");
    for condition in ["x-amz-copy-source-if-match", "if-none-match"] {
        assert!(copy.headers.contains_key(condition), "{:?}", copy.headers);
    }
    let parts = world.server.seen("UploadPartCopy");
    assert!(
        parts.len() >= 3
            && parts
                .iter()
                .all(|part| part.headers["x-amz-copy-source"] == "/bucket/large")
    );
    let there = world.server.object_of("other", "g").unwrap();
    carries(&there);
    assert_eq!(there.storage_class, "STANDARD_IA");
    carries(&world.server.object_of("other", "large").unwrap());
    // It is the file that it was.
    assert_eq!(fs::metadata(world.at("two/g")).unwrap().modified().unwrap(), mtime);
    world.cluster.restart_worker();
    assert!(fs::read(world.at("two/g")).unwrap() == small);
    assert!(fs::read(world.at("two/large")).unwrap() == large);
}

#[test]
fn what_the_store_does_not_copy_a_worker_does() {
    let world = World::start();
    for number in 0..20u64 {
        world
            .server
            .put(&format!("d/{number}"), carrying(&tree::contents(number, 20_000)));
    }
    world.server.put("first", carrying(b"first"));
    wait::until("the objects", LONG, || {
        world.at("one/first").exists() && world.at("one/d/19").exists()
    });
    world
        .server
        .fail(Fault::new(Act::Status(403, "AccessDenied")).on("CopyObject").always());
    world.rename("one/first", "two/first");
    world.wait_other("first", b"first");
    carries(&world.server.object_of("other", "first").unwrap());
    // It was refused once, and is not asked for again so soon.
    world.server.clear_log();
    world.rename("one/d", "two/d");
    for number in 0..20u64 {
        let key = format!("d/{number}");
        world.wait_other(&key, &tree::contents(number, 20_000));
        carries(&world.server.object_of("other", &key).unwrap());
        world.wait_gone(&key);
    }
    assert_eq!(world.server.seen("CopyObject").len(), 0);
    // With other settings of a mount it may be able to.
    world.server.heal();
    world.cluster.alluxio(&["fs", "mount", "--update", "/two"]).ok();
    world.server.put("again", object(b"again"));
    wait::until("the object", LONG, || world.at("one/again").exists());
    world.rename("one/again", "two/again");
    world.wait_other("again", b"again");
    assert!(world.moved("again").is_empty(), "{:?}", world.moved("again"));
}

#[test]
fn between_two_stores_a_worker_copies_and_without_one_it_waits() {
    let mut world = World::start();
    let content = tree::contents(3, 9 * MIB as usize + 1);
    world.server.put("f", object(&content));
    world.server.put("cached", object(&content));
    fs::write(world.at("back"), &content).unwrap();
    world.wait_file("back", &content);
    wait::until("the objects", LONG, || {
        world.at("one/f").exists() && world.at("one/cached").exists()
    });
    assert!(fs::read(world.at("one/cached")).unwrap() == content);
    world.cluster.alluxio(&["fs", "free", "/back"]).ok();
    world.cluster.worker().kill();
    world.server.clear_log();
    world.rename("one/f", "f");
    world.rename("back", "two/back");
    wait::until("the report to say so", LONG, || {
        world.report().contains("Copies Between Mounts Without a Worker: 2")
    });
    for key in ["f", "back"] {
        assert!(
            world.moved(key).is_empty(),
            "nobody but a worker moves bytes: {:?}",
            world.moved(key)
        );
    }
    assert!(!world.stored("f").exists() && world.server.object_of("other", "back").is_none());
    world.cluster.restart_worker();
    world.wait_file("f", &content);
    world.wait_gone("f");
    world.wait_other("back", &content);
    wait::until("the source to go", LONG, || !world.stored("back").exists());
    assert!(!world.report().contains("Without a Worker"));
    // What a worker has cached it does not fetch once more.
    world.server.clear_log();
    world.rename("one/cached", "cached");
    world.wait_file("cached", &content);
    world.wait_gone("cached");
    assert!(world.moved("cached").is_empty(), "{:?}", world.moved("cached"));
    for name in ["f", "two/back", "cached"] {
        assert!(fs::read(world.at(name)).unwrap() == content, "{name}");
    }
}

/// Files of a folder `d` of the first bucket.
fn tree_of(world: &World, files: u64) -> Vec<(String, Vec<u8>)> {
    let content = |number: u64| (format!("d/{number:02}"), tree::contents(number, 200_000));
    let all: Vec<_> = (0..files).map(content).collect();
    for (key, bytes) in &all {
        world.server.put(key, object(bytes));
    }
    wait::until("the folder", LONG, || {
        fs::read_dir(world.at("one/d")).is_ok_and(|names| names.count() == all.len())
    });
    all
}

fn arrived(folder: &Path) -> usize {
    let names = fs::read_dir(folder).map(|names| names.flatten().count());
    names.unwrap_or(0)
}

#[test]
fn kills_of_worker_and_master_delay_copies_and_lose_nothing() {
    let mut world = World::start();
    let all = tree_of(&world, 60);
    // Long enough that each kill is in the middle of some copies.
    let slow = Duration::from_millis(300);
    world.server.fail(Fault::new(Act::Delay(slow)).on("GetObject").always());
    world.rename("one/d", "d");
    let inside = world.stored("d");
    wait::until("some copies", LONG, || arrived(&inside) >= 5);
    world.cluster.restart_worker();
    wait::until("some more", LONG, || arrived(&inside) >= 20);
    world.cluster.restart_master();
    wait::until("most of them", LONG, || arrived(&inside) >= 40);
    world.cluster.restart_worker();
    world.cluster.restart_master();
    for (key, bytes) in &all {
        world.wait_file(key, bytes);
        world.wait_gone(key);
    }
    assert_eq!(arrived(&inside), all.len(), "and nothing else");
    wait::until("the mount to answer", LONG, || arrived(&world.at("d")) == all.len());
    world.cluster.alluxio(&["fs", "free", "/d"]).ok();
    for (key, bytes) in &all {
        assert!(fs::read(world.at(key)).unwrap() == *bytes, "{key}");
    }
}

#[test]
fn one_object_that_is_refused_or_vanishes_stops_no_other() {
    for to in ["two/d", "d"] {
        let world = World::start();
        let all = tree_of(&world, 12);
        let (cold, gone) = (&all[3].0, &all[7].0);
        world
            .server
            .change(cold, |object| object.storage_class = "GLACIER".into());
        world.server.remove(gone);
        world.rename("one/d", to);
        for (key, bytes) in all.iter().filter(|(key, _)| key != cold && key != gone) {
            match to {
                "d" => world.wait_file(key, bytes),
                _ => world.wait_other(key, bytes),
            }
            world.wait_gone(key);
        }
        wait::until("the report of it", LONG, || {
            world.report().contains("InvalidObjectState")
        });
        assert!(
            world.server.object(cold).is_some(),
            "nothing is deleted that was not copied"
        );
        // Not for what one object is like are all others copied by workers.
        let by_store = world.server.seen("CopyObject");
        let by_store = by_store
            .iter()
            .filter(|seen| seen.bucket == "other" && seen.status == 200);
        assert_eq!(by_store.count(), if to == "d" { 0 } else { all.len() - 2 });
        world
            .server
            .change(cold, |object| object.storage_class = "STANDARD".into());
        world.cluster.alluxio(&["fsadmin", "intents", "retry", "--all"]).ok();
        world.wait_gone(cold);
        let (key, bytes) = &all[3];
        match to {
            "d" => world.wait_file(key, bytes),
            _ => world.wait_other(key, bytes),
        }
    }
}
