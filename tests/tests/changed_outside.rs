//! Objects that somebody else replaces after they were listed: whoever comes next takes the new one, in the same call.
#![allow(clippy::unwrap_used, reason = "a test ends there")]
#![allow(clippy::disallowed_methods, reason = "they are what is tested")]

use alluxio_tests::s3::{self, S3Server, Versity};
use alluxio_tests::{Local, LocalBuilder, Mount, Separate, process, tools, tree, wait};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// A mount over a store that others write too.
struct World {
    local: Local,
    /// The store's objects, as files.
    store: PathBuf,
    server: Option<Versity>,
    dir: tempfile::TempDir,
}

impl World {
    fn over_folder() -> World {
        let dir = tools::scratch("outside-");
        let store = dir.path().join("store");
        std::fs::create_dir(&store).unwrap();
        let builder = LocalBuilder::at(dir.path()).ufs(format!("file://{}", store.display()));
        World {
            local: builder.start(),
            store,
            server: None,
            dir,
        }
    }

    fn over_s3() -> World {
        let dir = tools::scratch("outside-");
        let server = Versity::start();
        let builder = LocalBuilder::at(dir.path())
            .ufs("s3://bucket/")
            .options(server.options());
        World {
            local: builder.start(),
            store: server.bucket("bucket"),
            server: Some(server),
            dir,
        }
    }

    /// Somebody else's object, whole at once.
    fn put(&self, name: &str, bytes: &[u8]) {
        match &self.server {
            Some(server) => {
                let body = self.dir.path().join("body");
                std::fs::write(&body, bytes).unwrap();
                let code = format!(
                    "s3.put_object(Bucket='bucket', Key='{name}', Body=open('{}', 'rb'))",
                    body.display()
                );
                s3::boto3(&server.endpoint(), &code);
            }
            None => {
                let tmp = self.store.join(".tmp-of-somebody");
                std::fs::write(&tmp, bytes).unwrap();
                std::fs::rename(&tmp, self.store.join(name)).unwrap();
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.local.mount().join(name)
    }

    /// Waits until the store has that, and nothing else comes.
    fn stored(&self, name: &str, bytes: &[u8]) {
        let object = self.store.join(name);
        wait::until("it is stored", LONG, || {
            std::fs::read(&object).is_ok_and(|found| found == bytes)
        });
    }
}

fn both(scenario: impl Fn(&World)) {
    for make in [World::over_folder as fn() -> World, World::over_s3] {
        let world = make();
        scenario(&world);
        let (code, log) = world.local.stop(LONG);
        assert_eq!(code, 0, "{log}");
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    }
}

fn old(number: u64) -> Vec<u8> {
    tree::contents(number, 70_000)
}

fn new(number: u64) -> Vec<u8> {
    tree::contents(number + 1_000, 90_000)
}

fn listed(path: &Path, bytes: &[u8]) {
    assert_eq!(path.metadata().unwrap().len(), bytes.len() as u64);
}

#[test]
fn a_reader_that_comes_after_the_change_reads_the_new_object() {
    both(|world| {
        for (number, read_before) in [(0, false), (1, true)] {
            let name = format!("f{number}");
            let path = world.path(&name);
            world.put(&name, &old(number));
            listed(&path, &old(number));
            if read_before {
                assert!(std::fs::read(&path).unwrap() == old(number));
            }
            world.put(&name, &new(number));
            if !read_before {
                assert!(std::fs::read(&path).unwrap() == new(number), "nothing was cached");
            }
        }
    });
}

#[test]
fn a_rename_takes_the_new_object_along() {
    both(|world| {
        for (number, read_before) in [(0, false), (1, true)] {
            let (from, to) = (format!("a{number}"), format!("b{number}"));
            world.put(&from, &old(number));
            listed(&world.path(&from), &old(number));
            if read_before {
                assert!(std::fs::read(world.path(&from)).unwrap() == old(number));
            }
            world.put(&from, &new(number));
            std::fs::rename(world.path(&from), world.path(&to)).unwrap();
            if read_before {
                // What is cached is read until the store has made the rename.
                wait::until("the rename shows what it took along", LONG, || {
                    std::fs::read(world.path(&to)).unwrap() == new(number)
                });
            } else {
                assert!(std::fs::read(world.path(&to)).unwrap() == new(number));
            }
            assert!(!world.path(&from).exists());
            world.stored(&to, &new(number));
            wait::until("the old name is gone", LONG, || !world.store.join(&from).exists());
            assert!(std::fs::read(world.path(&to)).unwrap() == new(number));
        }
    });
}

#[test]
fn an_append_goes_to_the_new_object() {
    both(|world| {
        world.put("f", &old(0));
        listed(&world.path("f"), &old(0));
        world.put("f", &new(0));
        let mut file = File::options().append(true).open(world.path("f")).unwrap();
        file.write_all(b"appended").unwrap();
        drop(file);
        let expected = [new(0), b"appended".to_vec()].concat();
        assert!(std::fs::read(world.path("f")).unwrap() == expected);
        world.stored("f", &expected);
    });
}

#[test]
fn who_has_the_old_object_open_keeps_what_is_cached() {
    both(|world| {
        world.put("f", &old(0));
        let file = File::open(world.path("f")).unwrap();
        let mut bytes = vec![0; 70_000];
        file.read_exact_at(&mut bytes, 0).unwrap();
        world.put("f", &new(0));
        // Somebody finds out that it is another one.
        assert_eq!(world.local.alluxio(&["fs", "ls", "-R", "-f", "/"]).code, 0);
        for _ in 0..5 {
            assert!(std::fs::read(world.path("f")).unwrap() == new(0));
        }
        let mut again = vec![0; 70_000];
        file.read_exact_at(&mut again, 0).unwrap();
        assert!(again == old(0), "the old handle has the old bytes");
    });
}

#[test]
fn an_edit_of_a_partly_cached_object_ends_as_one_of_the_two() {
    both(|world| {
        const LENGTH: usize = 3 << 20;
        let (before, after) = (tree::contents(1, LENGTH), tree::contents(2, LENGTH));
        world.put("f", &before);
        let file = File::open(world.path("f")).unwrap();
        file.read_exact_at(&mut [0; 4096], 2 << 20).unwrap();
        drop(file);
        world.put("f", &after);
        let edit = File::options().write(true).open(world.path("f")).and_then(|file| {
            file.write_all_at(b"edited", 100)?;
            file.sync_all()
        });
        let edited = |of: &[u8]| {
            let mut bytes = of.to_vec();
            bytes[100..106].copy_from_slice(b"edited");
            bytes
        };
        let found = std::fs::read(world.path("f")).unwrap();
        match edit {
            Ok(()) => assert!(
                found == edited(&before) || found == edited(&after),
                "it is one of the two"
            ),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
                assert!(found == after);
            }
        }
        world.stored("f", &found);
        std::fs::write(world.path("f"), b"usable").unwrap();
        world.stored("f", b"usable");
    });
}

#[test]
fn a_rename_of_a_file_that_is_open_loses_nothing_of_others() {
    both(|world| {
        for (number, renames) in [(0, 1), (1, 2)] {
            let names: Vec<String> = (0..=renames).map(|nth| format!("f{number}-{nth}")).collect();
            let last = &names[renames];
            world.put(&names[0], &old(number));
            assert_eq!(world.local.alluxio(&["fs", "ls", "-f", "/"]).code, 0);
            let file = File::options()
                .read(true)
                .write(true)
                .open(world.path(&names[0]))
                .unwrap();
            let mut bytes = vec![0; 70_000];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert!(bytes == old(number));
            world.put(&names[0], &new(number));
            for pair in names.windows(2) {
                std::fs::rename(world.path(&pair[0]), world.path(&pair[1])).unwrap();
                world.stored(&pair[1], &new(number));
            }
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert!(bytes == old(number), "the old handle has the old bytes");
            drop(file);
            // The close changed nothing: there is only what somebody has put there.
            wait::until("it is the new object", LONG, || {
                assert_eq!(world.local.alluxio(&["fs", "ls", "-f", "/"]).code, 0);
                std::fs::read(world.path(last)).is_ok_and(|found| found == new(number))
            });
            assert_eq!(world.local.alluxio(&["fs", "persist", &format!("/{last}")]).code, 0);
            assert_eq!(world.local.alluxio(&["fs", "free", &format!("/{last}")]).code, 0);
            assert!(std::fs::read(world.store.join(last)).unwrap() == new(number));
            assert!(std::fs::read(world.path(last)).unwrap() == new(number));
        }
    });
}

/// Of a file that is not fetched as a whole.
const LARGE: usize = 16 << 20;

/// A file of which a part is cached, and its bytes.
fn partly_cached(world: &World, name: &str, is_ours: bool) -> Vec<u8> {
    let before = tree::contents(1, LARGE);
    match is_ours {
        true => {
            std::fs::write(world.path(name), &before).unwrap();
            world.stored(name, &before);
            let path = format!("/{name}");
            assert_eq!(world.local.alluxio(&["fs", "persist", &path]).code, 0);
            assert_eq!(world.local.alluxio(&["fs", "free", &path]).code, 0);
        }
        false => {
            world.put(name, &before);
            assert_eq!(world.local.alluxio(&["fs", "ls", "-f", "/"]).code, 0);
        }
    }
    let file = File::open(world.path(name)).unwrap();
    file.read_exact_at(&mut [0; 4096], 0).unwrap();
    before
}

#[test]
fn a_change_of_attributes_binds_nobody_elses_bytes_to_ours() {
    for (nth, is_ours) in [false, true].into_iter().enumerate() {
        let world = World::over_folder();
        let after = tree::contents(2, LARGE);
        for change in ["chmod 600", "touch -d 2001-02-03", "chown 1:1"] {
            let name = format!("f{nth}-{}", change.len());
            partly_cached(&world, &name, is_ours);
            world.put(&name, &after);
            let path = world.path(&name);
            process::sh(&format!("{change} {}", path.display()), LONG).ok();
            wait::until(&format!("after {change} it is the new object, whole"), LONG, || {
                assert_eq!(world.local.alluxio(&["fs", "ls", "-f", "/"]).code, 0);
                std::fs::read(&path).is_ok_and(|found| found == after)
            });
        }
    }
}

#[test]
fn what_is_written_in_place_is_not_taken_for_ours_by_a_rename() {
    let world = World::over_folder();
    let before = partly_cached(&world, "f", true);
    // As an editor does that keeps the inode: names in extended attributes stay.
    let after = tree::contents(2, before.len());
    let object = File::options().write(true).open(world.store.join("f")).unwrap();
    object.write_all_at(&after, 0).unwrap();
    drop(object);
    std::fs::rename(world.path("f"), world.path("g")).unwrap();
    world.stored("g", &after);
    wait::until("it is the new object, whole", LONG, || {
        assert_eq!(world.local.alluxio(&["fs", "ls", "-f", "/"]).code, 0);
        std::fs::read(world.path("g")).is_ok_and(|found| found == after)
    });
}

/// A mount that is to be killed, and in its hands a stored file, partly cached, that is open for writing and was not written. Its
/// session ends soon.
fn unwritten(content: &[u8]) -> (Separate, Mount, File) {
    let cluster = Separate::start(&[("alluxio.user.session.timeout", "3s")]);
    std::fs::write(cluster.ufs().join("f"), content).unwrap();
    let mount = cluster.mount("dies");
    File::open(mount.file("f"))
        .unwrap()
        .read_exact_at(&mut [0; 4096], 2 << 20)
        .unwrap();
    let file = File::options().read(true).write(true).open(mount.file("f")).unwrap();
    (cluster, mount, file)
}

#[test]
fn what_a_killed_mount_did_not_write_is_what_others_make_of_it() {
    let (before, after) = (tree::contents(1, 8 << 20), tree::contents(2, 5 << 20));
    let (cluster, mut mount, file) = unwritten(&before);
    mount.kill();
    drop(file);
    let tmp = cluster.ufs().join(".tmp-of-somebody");
    std::fs::write(&tmp, &after).unwrap();
    std::fs::rename(&tmp, cluster.ufs().join("f")).unwrap();
    let other = cluster.mount("other");
    wait::until("the file is the new object", LONG, || {
        std::fs::read(other.file("f")).is_ok_and(|found| found == after)
    });
    std::fs::write(other.file("f"), b"usable").unwrap();
    wait::until("it is stored", LONG, || {
        std::fs::read(cluster.ufs().join("f")).is_ok_and(|found| found == b"usable")
    });
}

#[test]
fn what_a_killed_mount_did_not_write_is_no_new_version() {
    let content = tree::contents(1, 8 << 20);
    let (cluster, mut mount, file) = unwritten(&content);
    let field = |name: &str| {
        let told = cluster.alluxio(&["fs", "stat", "/f"]).ok();
        let value = told
            .split_once(&format!("{name}="))
            .and_then(|(_, rest)| rest.split([',', '}']).next());
        value.unwrap_or_else(|| panic!("no {name} in {told}")).to_owned()
    };
    let facts = |path: PathBuf| {
        let meta = path.metadata().unwrap();
        (meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.mtime_nsec())
    };
    let (of_file, of_object) = (facts(mount.file("f")), facts(cluster.ufs().join("f")));
    let version = field("dataVersion");
    assert_eq!(field("completed"), "false");
    mount.kill();
    drop(file);
    wait::until("its session has ended, and the home was asked", LONG, || {
        field("completed") == "true"
    });
    cluster.alluxio(&["fs", "persist", "/f"]).ok();
    let other = cluster.mount("other");
    assert_eq!(facts(other.file("f")), of_file);
    assert_eq!(field("dataVersion"), version);
    assert_eq!(facts(cluster.ufs().join("f")), of_object, "it was uploaded");
    assert!(std::fs::read(other.file("f")).unwrap() == content);
}

/// versitygw shows files that came into its folder by another way, and says no ETag of them.
#[test]
fn objects_without_an_etag_are_told_apart_all_the_same() {
    let world = World::over_s3();
    let put = |name: &str, bytes: &[u8]| {
        let tmp = world.dir.path().join("body");
        std::fs::write(&tmp, bytes).unwrap();
        std::fs::rename(&tmp, world.store.join(name)).unwrap();
        assert_eq!(world.local.alluxio(&["fs", "ls", "-f", "/"]).code, 0);
    };
    let (before, after) = (tree::contents(1, LARGE), tree::contents(2, LARGE + 1));
    put("f", &before);
    let file = File::open(world.path("f")).unwrap();
    let mut bytes = vec![0; LARGE];
    file.read_exact_at(&mut bytes[..4096], 0).unwrap();
    put("f", &after);
    // The old handle has the old bytes, as far as they are here.
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => assert!(bytes == before),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ESTALE)),
    }
    assert!(std::fs::read(world.path("f")).unwrap() == after);
    // And what is made here goes over it, and over nothing that came since.
    let edit = File::options().write(true).open(world.path("f")).unwrap();
    edit.write_all_at(b"edited", 100).unwrap();
    drop(edit);
    let mut edited = after;
    edited[100..106].copy_from_slice(b"edited");
    world.stored("f", &edited);
    put("g", b"one");
    assert_eq!(std::fs::read(world.path("g")).unwrap(), b"one");
    std::fs::rename(world.path("g"), world.path("h")).unwrap();
    world.stored("h", b"one");
    std::fs::remove_file(world.path("h")).unwrap();
    wait::until("it is gone", LONG, || !world.store.join("h").exists());
}
