//! The disk beneath journal and metadata store runs full, or what is on it is damaged.

use alluxio_tests::Separate;
use alluxio_tests::disk::Disk;
use alluxio_tests::{tools, wait};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

/// A cluster whose journal and metadata are on a disk of their own.
fn on(disk: &Disk, options: &[(&str, &str)]) -> Separate {
    let (journal, metastore) = (disk.path().join("journal"), disk.path().join("metastore"));
    let mut all = vec![
        ("alluxio.master.journal.folder", tools::text(&journal)),
        ("alluxio.master.metastore.dir", tools::text(&metastore)),
    ];
    all.extend_from_slice(options);
    Separate::start(&all)
}

fn free_bytes(dir: &Path) -> u64 {
    let stat = nix::sys::statvfs::statvfs(dir).expect("statvfs");
    stat.blocks_available() * stat.fragment_size()
}

/// What another program puts there, so that `left` bytes are free.
fn fill(disk: &Disk, left: u64) {
    let file = File::options()
        .create(true)
        .append(true)
        .open(disk.path().join("filler"))
        .expect("open the filler");
    let length = file.metadata().expect("stat the filler").len();
    let more = free_bytes(disk.path()).saturating_sub(left);
    nix::fcntl::fallocate(
        &file,
        nix::fcntl::FallocateFlags::empty(),
        length as i64,
        i64::try_from(more).expect("a small disk"),
    )
    .expect("fill the disk");
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn with_a_full_disk_it_is_read_only_until_there_is_room() {
    let disk = Disk::with_mib("metadata", 640);
    let mut cluster = on(&disk, &[]);
    let mount = cluster.mount("mnt");
    fs::write(mount.path().join("kept"), b"content").unwrap();
    fs::write(mount.path().join("removed"), b"content").unwrap();
    cluster.alluxio(&["fs", "persist", "/"]).ok();
    let master = cluster.master().id();
    for left in [20 << 20, 1 << 20] {
        fill(&disk, left);
        // A look at the disk is good for some milliseconds.
        wait::until("the full disk to be noticed", LIMIT, || {
            errno(File::create(mount.path().join("new"))) == Some(libc::ENOSPC)
        });
        assert_eq!(errno(fs::create_dir(mount.path().join("dir"))), Some(libc::ENOSPC));
        assert_eq!(fs::read(mount.path().join("kept")).unwrap(), b"content");
        let names = fs::read_dir(mount.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().any(|name| name == "kept"));
        if left == 20 << 20 {
            // Making room is not refused before there is none at all.
            fs::remove_file(mount.path().join("removed")).unwrap();
        }
    }
    cluster.alluxio(&["fs", "ls", "/"]).ok();
    fs::remove_file(disk.path().join("filler")).unwrap();
    wait::until("the room to be noticed", LIMIT, || {
        fs::write(mount.path().join("new"), b"again").is_ok()
    });
    fs::create_dir(mount.path().join("dir")).unwrap();
    assert_eq!(fs::read(mount.path().join("new")).unwrap(), b"again");
    assert!(cluster.master().ended().is_none() && cluster.master().id() == master);
}

/// Nobody has set a watermark: what is written to the full disk fails, and with it the master, whose supervisor is to hear.
#[test]
fn a_master_that_can_do_nothing_any_more_ends() {
    let disk = Disk::with_mib("metadata", 640);
    let mut cluster = on(
        &disk,
        &[
            ("alluxio.master.journal.space.low.bytes", "0"),
            ("alluxio.user.rpc.retry.max.duration", "2s"),
        ],
    );
    let mount = cluster.mount("mnt");
    fs::write(mount.path().join("kept"), b"content").unwrap();
    fill(&disk, 0);
    // The store's own journal has some room left in its last block.
    let target = "t".repeat(4000);
    for n in 0..100_000 {
        if std::os::unix::fs::symlink(&target, mount.path().join(format!("l{n}"))).is_err() {
            break;
        }
    }
    let ended = cluster.master().wait(LIMIT);
    assert!(!ended.success() && ended.code().is_some(), "{ended}");
    fs::remove_file(disk.path().join("filler")).unwrap();
    cluster.restart_master();
    wait::until("the mount to find the master again", LIMIT, || {
        fs::read(mount.path().join("kept")).is_ok_and(|bytes| bytes == b"content")
    });
    fs::create_dir(mount.path().join("after")).unwrap();
}

/// Every file of the metadata store, with some bytes turned around.
fn damage(dir: &Path) {
    for entry in fs::read_dir(dir).expect("list the store") {
        let path = entry.expect("list the store").path();
        if path.is_dir() {
            damage(&path);
        } else {
            let mut bytes = fs::read(&path).expect("read a file of the store");
            bytes.iter_mut().step_by(11).for_each(|byte| *byte ^= 0x5a);
            fs::write(&path, bytes).expect("damage a file of the store");
        }
    }
}

#[test]
fn a_damaged_metastore_is_rebuilt_by_itself() {
    let mut cluster = Separate::start(&[]);
    let mount = cluster.mount("mnt");
    for n in 0..20 {
        fs::write(mount.path().join(format!("f{n}")), n.to_string()).unwrap();
    }
    cluster.kill_master();
    let work = cluster.dir().join("work");
    damage(&work.join("metastore"));
    cluster.restart_master();
    for n in 0..20 {
        let path = mount.path().join(format!("f{n}"));
        wait::until("the master to serve", LIMIT, || fs::metadata(&path).is_ok());
        assert_eq!(fs::read(&path).unwrap(), n.to_string().as_bytes());
    }
    let aside = fs::read_dir(&work).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(
        aside
            .into_iter()
            .any(|name| name.to_string_lossy().starts_with("metastore.damaged-")),
        "the damaged one is kept"
    );
    assert!(cluster.master().log().contains("rebuilt from the journal"));
}

/// A disk that is mounted at the metadata folder itself cannot be renamed.
#[test]
fn a_damaged_metastore_on_a_disk_of_its_own_is_rebuilt_there() {
    let disk = Disk::with_mib("metadata", 256);
    let mut cluster = Separate::start(&[("alluxio.master.metastore.dir", tools::text(disk.path()))]);
    let mount = cluster.mount("mnt");
    for n in 0..20 {
        fs::write(mount.path().join(format!("f{n}")), n.to_string()).unwrap();
    }
    // The second one finds what the first has set aside.
    for _ in 0..2 {
        cluster.kill_master();
        damage_store(disk.path());
        cluster.restart_master();
        for n in 0..20 {
            let path = mount.path().join(format!("f{n}"));
            wait::until("the master to serve", LIMIT, || fs::metadata(&path).is_ok());
            assert_eq!(fs::read(&path).unwrap(), n.to_string().as_bytes());
        }
    }
    let names = fs::read_dir(disk.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let aside = names
        .filter(|name| name.to_string_lossy().starts_with("damaged-"))
        .count();
    assert_eq!(aside, 2, "the damaged ones are kept");
}

/// As [`damage`], of what is at the top of a disk, which has folders of others, too.
fn damage_store(dir: &Path) {
    for entry in fs::read_dir(dir).expect("list the disk") {
        let path = entry.expect("list the disk").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match path.is_dir() {
            _ if name == "lost+found" || name.starts_with("damaged-") => {}
            true => damage(&path),
            false => {
                let mut bytes = fs::read(&path).expect("read a file of the store");
                bytes.iter_mut().step_by(11).for_each(|byte| *byte ^= 0x5a);
                fs::write(&path, bytes).expect("damage a file of the store");
            }
        }
    }
}
