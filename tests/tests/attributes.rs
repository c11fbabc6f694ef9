//! Attributes live with the objects: a bucket written by one cluster is the same tree to the next, and to other programs.
#![allow(clippy::unwrap_used, reason = "a test ends there")]
#![allow(clippy::disallowed_methods, reason = "they are what is tested")]

use alluxio_tests::process::sh;
use alluxio_tests::s3::memory::{Content, Object};
use alluxio_tests::s3::{MemoryS3, S3Server};
use alluxio_tests::{Local, LocalBuilder, tools, tree, wait};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const WAIT: &str = "alluxio.underfs.s3.attributes.wait";
const POLICY: &str = "alluxio.underfs.s3.attributes";

/// A bucket, and the clusters that come to it one after another, each with metadata of its own.
struct World {
    server: MemoryS3,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        World {
            server: MemoryS3::start(),
            dir: tools::scratch("attributes-"),
        }
    }

    fn builder(&self, name: &str) -> LocalBuilder {
        let base = self.dir.path().join(name);
        std::fs::create_dir_all(&base).unwrap();
        LocalBuilder::at(&base)
            .ufs("s3://bucket/p")
            .options(self.server.options())
            .option(WAIT, "300ms")
    }

    fn cluster(&self, name: &str) -> Local {
        self.builder(name).start()
    }

    /// What an object says of itself.
    fn says(&self, key: &str, name: &str) -> Option<String> {
        self.server.object(key)?.metadata.get(name).cloned()
    }

    fn waits_for(&self, key: &str, name: &str, value: &str) {
        wait::until(&format!("{key} says {name}={value}"), LONG, || {
            self.says(key, name).as_deref() == Some(value)
        });
    }

    fn put(&self, key: &str, bytes: &[u8], metadata: &[(&str, &str)]) {
        let mut object = Object::plain(Content::from(bytes::Bytes::copy_from_slice(bytes)));
        object.metadata = metadata
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.server.put(key, object);
    }

    /// How often each object was asked for by HEAD.
    fn heads(&self) -> BTreeMap<String, usize> {
        let mut heads = BTreeMap::new();
        for seen in self.server.seen("HeadObject") {
            *heads.entry(seen.key).or_default() += 1;
        }
        heads
    }
}

fn persist(local: &Local) {
    local.alluxio(&["fs", "persist", "-t", "60000", "/"]).ok();
}

fn ends_well(local: Local) {
    let (code, log) = local.stop(LONG);
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}

/// Kind, mode, owner, time, length, target and extended attributes of all beneath a folder.
fn facts(root: &Path) -> String {
    let line = format!(
        "cd {}; find . -mindepth 1 -type d -printf '%P d %m %U %G %T@\\n' | sort; \
         find . -mindepth 1 ! -type d -printf '%P %y %m %U %G %T@ %s %l\\n' | sort; \
         find . -mindepth 1 ! -type l | sort | xargs getfattr -d -m user. --absolute-names",
        root.display()
    );
    sh(&line, LONG).ok()
}

/// 22 files, links and programs, with attributes of all kinds.
fn make_tree(root: &Path) {
    let file = |name: &str, bytes: &[u8], mode: u32| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    for index in 0..5 {
        let script = format!("#!/bin/sh\necho program {index}\n");
        file(&format!("bin/run{index}"), script.as_bytes(), 0o755);
        file(&format!("private/key{index}"), &tree::contents(index, 500), 0o600);
        file(&format!("data/deep/f{index}"), &tree::contents(index + 9, 3000), 0o640);
    }
    file("data/empty", b"", 0o4711);
    file("data/large", &tree::contents(77, 9 << 20), 0o444);
    chown(root.join("data/deep/f0"), Some(1234), Some(4321)).unwrap();
    chown(root.join("data/deep"), Some(1234), Some(4321)).unwrap();
    std::fs::set_permissions(root.join("private"), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::set_permissions(root.join("data"), PermissionsExt::from_mode(0o1777)).unwrap();
    symlink("../bin/run0", root.join("data/relative")).unwrap();
    symlink("data/deep", root.join("folder")).unwrap();
    symlink("/nowhere/at all", root.join("dangling")).unwrap();
    symlink("f0", root.join("data/deep/near")).unwrap();
    symlink("bin", root.join("programs")).unwrap();
    let line = format!(
        "cd {}; setfattr -n user.note -v 'a b' bin/run1; setfattr -n user.bytes -v 0x00ff bin/run1; \
         setfattr -n user.of-a-folder -v x private; chown -h 77:78 dangling; \
         find . | sort -r | while read -r name; do touch -h -d '2001-02-03 04:05:06.000000789 UTC' \"$name\"; done; \
         touch -d '1969-12-31 23:00:00 UTC' data/deep/f1",
        root.display()
    );
    sh(&line, LONG).ok();
}

/// A bucket that a cluster has copied the tree to.
fn copied() -> (World, PathBuf) {
    let world = World::new();
    let source = world.dir.path().join("source");
    make_tree(&source);
    let local = world.cluster("first");
    let line = format!("cp -a {} {}/tree", source.display(), local.mount().display());
    sh(&line, LONG).ok();
    persist(&local);
    assert_eq!(facts(&local.mount().join("tree")), facts(&source));
    ends_well(local);
    (world, source)
}

#[test]
fn a_tree_is_the_same_to_a_new_cluster() {
    let (world, source) = copied();
    let local = world.cluster("second");
    let copy = local.mount().join("tree");
    assert_eq!(facts(&copy), facts(&source));
    let line = format!("rsync -a -i --dry-run {}/ {}/", source.display(), copy.display());
    assert_eq!(sh(&line, LONG).ok(), "", "rsync would send nothing");
    ends_well(local);
}

#[test]
fn one_path_is_right_at_once() {
    let (world, source) = copied();
    let local = world.cluster("second");
    let copy = local.mount().join("tree");
    assert_eq!(sh(&format!("{}/bin/run3", copy.display()), LONG).ok(), "program 3\n");
    let (here, there) = (copy.join("private/key2"), source.join("private/key2"));
    let (here, there) = (here.metadata().unwrap(), there.metadata().unwrap());
    assert_eq!(
        (here.mode(), here.mtime(), here.mtime_nsec()),
        (there.mode(), there.mtime(), there.mtime_nsec())
    );
    assert_eq!(
        std::fs::read_link(copy.join("data/relative")).unwrap(),
        Path::new("../bin/run0")
    );
    assert_eq!(
        sh(&format!("{}/programs/run0", copy.display()), LONG).ok(),
        "program 0\n"
    );
    let owner = copy.join("folder/f0").metadata().unwrap();
    assert_eq!((owner.uid(), owner.gid()), (1234, 4321));
    let note = sh(
        &format!("getfattr --only-values -n user.note {}/bin/run1", copy.display()),
        LONG,
    );
    assert_eq!(note.ok(), "a b");
    let refused = sh(
        &format!("setpriv --reuid 99 --clear-groups cat {}/private/key1", copy.display()),
        LONG,
    );
    assert_ne!(refused.code, 0, "what is private is private at once");
    ends_well(local);
}

#[test]
fn a_listing_costs_one_head_for_each_object_of_ours() {
    let (world, _) = copied();
    let local = world.cluster("second");
    world.server.clear_log();
    sh(&format!("ls -lR {}", local.mount().display()), LONG).ok();
    let heads = world.heads();
    assert_eq!(heads.get("p/tree/data/large"), Some(&1));
    let twice: Vec<_> = heads.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    world.server.clear_log();
    sh(&format!("ls -lR {}", local.mount().display()), LONG).ok();
    assert_eq!(world.heads(), BTreeMap::new(), "what is known is not asked for");
    ends_well(local);
}

#[test]
fn a_tree_that_others_made_costs_no_head() {
    let world = World::new();
    for index in 0..60 {
        world.put(&format!("p/theirs/d{}/f{index}", index % 4), b"theirs", &[]);
    }
    let local = world.cluster("first");
    world.server.clear_log();
    let listed = sh(&format!("ls -lR {}", local.mount().display()), LONG).ok();
    assert_eq!(listed.matches("-rw-r--r--").count(), 60, "{listed}");
    assert_eq!(world.heads(), BTreeMap::new());
    // Nor once there are objects of ours beside it.
    std::fs::write(local.mount().join("ours"), b"ours").unwrap();
    persist(&local);
    ends_well(local);
    let local = world.cluster("second");
    world.server.clear_log();
    sh(&format!("ls -lR {}", local.mount().display()), LONG).ok();
    let heads = world.heads();
    assert_eq!(heads.get("p/ours"), Some(&1));
    assert!(!heads.keys().any(|key| key.starts_with("p/theirs/d")), "{heads:?}");
    ends_well(local);
}

#[test]
fn changes_after_the_upload_reach_the_bucket() {
    let world = World::new();
    let local = world.cluster("first");
    let at = |name: &str| local.mount().join(name);
    std::fs::create_dir(at("d")).unwrap();
    std::fs::write(at("d/f"), b"content").unwrap();
    persist(&local);
    let object = world.server.object("p/d/f").unwrap();
    let line = format!(
        "cd {}; chmod 0751 d; chmod 4750 d/f; chown 1234:4321 d/f; touch -d @1000000000.5 d/f; setfattr -n user.k -v v d/f",
        local.mount().display()
    );
    sh(&line, LONG).ok();
    symlink("d/f", at("link")).unwrap();
    // A change of owner takes setuid away.
    let mode = at("d/f").metadata().unwrap().mode();
    world.waits_for("p/d/f", "mode", &mode.to_string());
    world.waits_for("p/d/f", "uid", "1234");
    world.waits_for("p/d/f", "gid", "4321");
    world.waits_for("p/d/f", "mtime", "1000000000.500000000");
    world.waits_for("p/d/f", "xattr", "%7B%22user%2Ek%22%3A%22dg%3D%3D%22%7D");
    world.waits_for("p/d/", "mode", "16873");
    world.waits_for("p/link", "mode", "41471");
    assert_eq!(world.server.object("p/link").unwrap().content.bytes(), "d/f");
    assert_eq!(
        world.server.object("p/d/f").unwrap().content.bytes(),
        object.content.bytes()
    );
    std::fs::rename(at("link"), at("d/moved")).unwrap();
    wait::until("the link has moved", LONG, || {
        world.server.object("p/link").is_none() && world.server.object("p/d/moved").is_some()
    });
    // Its time is that of the last name in it, until somebody sets it.
    sh(&format!("touch -d @1000000001 {}", at("d").display()), LONG).ok();
    world.waits_for("p/d/", "mtime", "1000000001");
    // What is cached is still of the object.
    world.server.clear_log();
    assert_eq!(std::fs::read(at("d/f")).unwrap(), b"content");
    assert!(world.server.seen("GetObject").is_empty());
    let expected = facts(local.mount());
    ends_well(local);
    let local = world.cluster("second");
    assert_eq!(facts(local.mount()), expected);
    std::fs::remove_file(local.mount().join("d/moved")).unwrap();
    wait::until("the link is gone", LONG, || world.server.object("p/d/moved").is_none());
    ends_well(local);
}

#[test]
fn many_changes_of_one_file_are_one_copy() {
    const FILES: usize = 30;
    let world = World::new();
    let local = world.builder("first").option(WAIT, "3s").start();
    for index in 0..FILES {
        std::fs::write(local.mount().join(format!("f{index}")), b"content").unwrap();
    }
    persist(&local);
    world.server.clear_log();
    let line = format!(
        "cd {}; chmod 700 f*; chown 1234 f*; chmod 750 f*",
        local.mount().display()
    );
    sh(&line, LONG).ok();
    for index in 0..FILES {
        world.waits_for(&format!("p/f{index}"), "mode", "33256");
        world.waits_for(&format!("p/f{index}"), "uid", "1234");
    }
    assert_eq!(world.server.seen("CopyObject").len(), FILES);
    ends_well(local);
}

#[test]
fn a_crash_between_the_change_and_the_copy_loses_nothing() {
    let world = World::new();
    let local = world.builder("first").option(WAIT, "3s").start();
    std::fs::write(local.mount().join("f"), b"content").unwrap();
    persist(&local);
    sh(&format!("chmod 700 {}/f", local.mount().display()), LONG).ok();
    let local = local.crash_and_restart();
    assert_eq!(
        world.says("p/f", "mode").as_deref(),
        Some("33188"),
        "the copy had not been made"
    );
    world.waits_for("p/f", "mode", "33216");
    assert_eq!(local.mount().join("f").metadata().unwrap().mode() & 0o7777, 0o700);
    ends_well(local);
}

#[test]
fn an_object_in_parts_gets_another_etag_and_stays_the_same_file() {
    const LENGTH: usize = 20 << 20;
    let world = World::new();
    let bytes = tree::contents(5, LENGTH);
    let local = world.cluster("first");
    std::fs::write(local.mount().join("f"), &bytes).unwrap();
    persist(&local);
    ends_well(local);
    let before = world.server.object("p/f").unwrap().etag;
    assert!(before.contains('-'), "it was uploaded in parts");

    let local = world.cluster("second");
    let path = local.mount().join("f");
    let file = File::open(&path).unwrap();
    file.read_exact_at(&mut [0; 4096], 0).unwrap();
    sh(&format!("chmod 600 {}", path.display()), LONG).ok();
    world.waits_for("p/f", "mode", "33152");
    assert_ne!(world.server.object("p/f").unwrap().etag, before);
    let mut end = vec![0; 1 << 20];
    file.read_exact_at(&mut end, (LENGTH - (1 << 20)) as u64).unwrap();
    assert!(end == bytes[LENGTH - (1 << 20)..], "who had it open reads on");
    assert!(std::fs::read(&path).unwrap() == bytes);
    // An edit is made over the object as it is now.
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(b"edited", 100)
        .unwrap();
    persist(&local);
    let stored = world.server.object("p/f").unwrap();
    assert_eq!(&stored.content.bytes()[100..106], b"edited");
    assert_eq!(stored.metadata["mode"], "33152");
    ends_well(local);
}

/// The rename of a folder copies its objects; those in parts get other ETags, of which nobody tells.
#[test]
fn an_object_in_parts_in_a_renamed_folder_gets_attributes() {
    let world = World::new();
    let local = world.cluster("first");
    std::fs::create_dir(local.mount().join("d")).unwrap();
    std::fs::write(local.mount().join("d/f"), tree::contents(5, 20 << 20)).unwrap();
    persist(&local);
    std::fs::rename(local.mount().join("d"), local.mount().join("e")).unwrap();
    wait::until("the folder has moved", LONG, || {
        world.server.object("p/d/f").is_none() && world.server.object("p/e/f").is_some()
    });
    sh(&format!("chmod 600 {}", local.mount().join("e/f").display()), LONG).ok();
    world.waits_for("p/e/f", "mode", "33152");
    assert!(std::fs::read(local.mount().join("e/f")).unwrap() == tree::contents(5, 20 << 20));
    ends_well(local);
}

#[test]
fn an_object_that_others_put_there_keeps_what_it_is() {
    let world = World::new();
    let local = world.builder("first").option(WAIT, "2s").start();
    std::fs::write(local.mount().join("f"), b"ours").unwrap();
    persist(&local);
    world.server.clear_log();
    sh(&format!("chmod 700 {}/f", local.mount().display()), LONG).ok();
    world.put("p/f", b"theirs", &[("mode", "33024")]);
    wait::until("it is read as theirs", LONG, || {
        std::fs::read(local.mount().join("f")).is_ok_and(|bytes| bytes == b"theirs")
    });
    persist(&local);
    let there = world.server.object("p/f").unwrap();
    assert_eq!(
        (there.content.bytes().as_ref(), there.metadata.len()),
        (&b"theirs"[..], 1)
    );
    assert_eq!(local.mount().join("f").metadata().unwrap().mode() & 0o7777, 0o400);
    ends_well(local);
}

#[test]
fn what_an_object_carries_stays() {
    let world = World::new();
    world.put("p/f", b"content", &[("theirs", "kept")]);
    world.server.change("p/f", |object| {
        object
            .headers
            .insert("content-type".to_owned(), "text/x-theirs".to_owned());
        object.headers.insert("cache-control".to_owned(), "no-store".to_owned());
        object.tags = vec![("a".to_owned(), "b c".to_owned())];
        object.storage_class = "STANDARD_IA".to_owned();
        object.encryption = BTreeMap::from([
            ("x-amz-server-side-encryption".to_owned(), "aws:kms".to_owned()),
            (
                "x-amz-server-side-encryption-aws-kms-key-id".to_owned(),
                "their-key".to_owned(),
            ),
        ]);
    });
    let before = world.server.object("p/f").unwrap();
    let local = world.cluster("first");
    sh(&format!("chmod 700 {}/f", local.mount().display()), LONG).ok();
    world.waits_for("p/f", "mode", "33216");
    let after = world.server.object("p/f").unwrap();
    assert_eq!(after.metadata["theirs"], "kept");
    assert_eq!(
        (after.headers, after.tags, after.storage_class),
        (before.headers, before.tags, before.storage_class)
    );
    assert_eq!(after.encryption, before.encryption);
    ends_well(local);
}

#[test]
fn what_s3fs_and_rclone_wrote_is_read() {
    let world = World::new();
    let s3fs = |mode| {
        [
            ("mode", mode),
            ("uid", "1234"),
            ("gid", "4321"),
            ("mtime", "1000000000.000000007"),
        ]
    };
    world.put("p/s3fs/", b"", &s3fs("16832"));
    world.put("p/s3fs/f", b"content", &s3fs("33256"));
    world.put("p/s3fs/link", b"f", &s3fs("41471"));
    world.put("p/s3fs/sub/", b"", &s3fs("16832"));
    let rclone = [
        ("mode", "100750"),
        ("uid", "1234"),
        ("gid", "4321"),
        ("mtime", "1000000000.000000007"),
    ];
    world.put("p/rclone/f", b"content", &rclone);
    world.put(
        "p/rclone/hostile",
        b"content",
        &[("mode", "rwx"), ("uid", "-1"), ("mtime", "1e99"), ("xattr", "%")],
    );
    let line = "%n %a %u %g %Y %F\n";
    let shown = |local: &Local, names: &str| {
        let list = format!(
            "cd {}; ls -lR > /dev/null; stat --printf '{line}' {names}",
            local.mount().display()
        );
        sh(&list, LONG).ok()
    };
    // s3fs makes folders of its own, which are known by their markers; rclone's are told by the key.
    let local = world.cluster("auto");
    assert_eq!(
        shown(&local, "s3fs/f s3fs/link"),
        "s3fs/f 750 1234 4321 1000000000 regular file\ns3fs/link 777 1234 4321 1000000000 symbolic link\n"
    );
    assert_eq!(
        local.mount().join("s3fs/sub").metadata().unwrap().mode() & 0o7777,
        0o700
    );
    ends_well(local);
    let local = world.builder("always").option(POLICY, "ALWAYS").start();
    assert_eq!(
        shown(&local, "rclone/f s3fs/link"),
        "rclone/f 750 1234 4321 1000000000 regular file\ns3fs/link 777 1234 4321 1000000000 symbolic link\n"
    );
    let hostile = local.mount().join("rclone/hostile").metadata().unwrap();
    assert_eq!(
        (hostile.mode() & 0o7777, hostile.uid()),
        (0o644, 0),
        "nonsense is left out"
    );
    ends_well(local);
    let local = world.builder("never").option(POLICY, "NEVER").start();
    assert_eq!(local.mount().join("s3fs/f").metadata().unwrap().mode() & 0o7777, 0o644);
    std::fs::write(local.mount().join("ours"), b"ours").unwrap();
    persist(&local);
    let ours: Vec<String> = world.server.object("p/ours").unwrap().metadata.into_keys().collect();
    assert_eq!(ours, ["alluxio-write-id"]);
    ends_well(local);
}

#[test]
fn a_refused_change_is_shown_and_holds_nothing_up() {
    let world = World::new();
    let local = world
        .builder("first")
        .option("alluxio.master.persistence.refused.timeout", "1s")
        .option("alluxio.master.persistence.initial.interval", "100ms")
        .start();
    let path = local.mount().join("f");
    std::fs::write(&path, b"content").unwrap();
    persist(&local);
    world
        .server
        .change("p/f", |object| object.storage_class = "GLACIER".to_owned());
    sh(&format!("chmod 700 {}", path.display()), LONG).ok();
    wait::until("a person sees it", LONG, || {
        local.alluxio(&["fsadmin", "report"]).ok().contains("set attributes")
    });
    assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o700, "here it stays");
    assert_eq!(std::fs::read(&path).unwrap(), b"content");
    // A new version brings the attributes along.
    std::fs::write(&path, b"newer").unwrap();
    persist(&local);
    let stored = world.server.object("p/f").unwrap();
    assert_eq!(
        (stored.content.bytes().as_ref(), stored.metadata["mode"].as_str()),
        (&b"newer"[..], "33216")
    );
    let (code, log) = local.stop(LONG);
    assert_eq!(code, 0, "{log}");
}

/// Others remove what says that objects of a folder carry attributes, as programs do that keep no markers.
#[test]
fn links_stay_links_without_their_folders_marker() {
    let world = World::new();
    let local = world.cluster("one");
    let dir = local.mount().join("d");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("f"), b"content").unwrap();
    symlink("f", dir.join("link")).unwrap();
    persist(&local);
    assert!(world.server.object("p/d/").is_some());
    world.server.remove("p/d/");
    for _ in 0..2 {
        local.alluxio(&["fs", "ls", "-f", "/d"]).ok();
        assert_eq!(std::fs::read_link(dir.join("link")).unwrap(), Path::new("f"));
    }
    // One that somebody makes anew is what it says.
    world.put("p/d/link", b"a file now", &[]);
    wait::until("it is a file", LONG, || {
        local.alluxio(&["fs", "ls", "-f", "/d"]).ok();
        std::fs::read(dir.join("link")).is_ok_and(|bytes| bytes == b"a file now")
    });
    ends_well(local);
}
