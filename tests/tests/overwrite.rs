//! Overwriting a part of an object: the rest stays in the store. Counted at the store's proxy, compared by another client,
//! killed in the middle, and with the object replaced behind our back.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_tests::process::{Process, sh};
use alluxio_tests::proxy::{Fault, Proxy};
use alluxio_tests::s3::{boto3, options_for};
use alluxio_tests::{Local, LocalBuilder, S3Server, Versity, tools, tree, wait};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// For a change of 4 KiB, both ways together.
const MOVED_MAX: u64 = 24 * MIB;

/// An object that another client put, what it must become, and a proxy in front of the store.
struct Stage {
    server: Versity,
    proxy: Proxy,
    dir: tempfile::TempDir,
    expected: PathBuf,
}

impl Stage {
    /// With `file`, `mib` long, in the bucket.
    fn new(mib: u64) -> Stage {
        let server = Versity::start();
        let proxy = Proxy::start(&server.endpoint());
        let dir = tools::scratch("overwrite-");
        let expected = dir.path().join("expected");
        let file = std::fs::File::create(&expected).unwrap();
        for at in 0..mib {
            file.write_all_at(&tree::contents(at + 1, MIB as usize), at * MIB)
                .unwrap();
        }
        let stage = Stage {
            server,
            proxy,
            dir,
            expected,
        };
        stage.put("file", &stage.expected);
        stage
    }

    fn put(&self, key: &str, from: &Path) {
        let code = format!("s3.upload_file('{}', 'bucket', '{key}')", from.display());
        boto3(&self.server.endpoint(), &code);
    }

    fn builder(&self) -> LocalBuilder {
        LocalBuilder::at(self.dir.path())
            .ufs("s3://bucket")
            .options(options_for(&self.proxy.endpoint()))
    }

    /// Changes the file in the mount, and what is expected of it.
    fn patch(&self, local: &Local, at: u64, bytes: &[u8]) {
        let file = std::fs::File::options()
            .write(true)
            .open(local.mount().join("file"))
            .unwrap();
        file.write_all_at(bytes, at).unwrap();
        // With the error of a close, which a drop would swallow.
        nix::unistd::close(file).unwrap();
        self.expect(at, bytes);
    }

    fn expect(&self, at: u64, bytes: &[u8]) {
        let file = std::fs::File::options().write(true).open(&self.expected).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    /// Another client finds just the expected bytes.
    #[track_caller]
    fn assert_object(&self, key: &str) {
        let code = format!(
            "body = s3.get_object(Bucket='bucket', Key='{key}')['Body']\n\
             with open('{}', 'rb') as expected:\n\
             \x20   at = 0\n\
             \x20   while True:\n\
             \x20       want = expected.read(1 << 20)\n\
             \x20       got = body.read(1 << 20) if want else body.read(1)\n\
             \x20       if got != want: print('differs in the MiB at', at); break\n\
             \x20       if not want: print('same'); break\n\
             \x20       at += len(want)\n",
            self.expected.display()
        );
        assert_eq!(boto3(&self.server.endpoint(), &code).trim(), "same");
    }

    /// As the mount shows it.
    #[track_caller]
    fn assert_mounted(&self, local: &Local) {
        let line = format!(
            "cmp {} {}",
            self.expected.display(),
            local.mount().join("file").display()
        );
        sh(&line, Duration::from_secs(300)).ok();
    }

    #[track_caller]
    fn assert_moved_little(&self, what: &str) {
        let counts = self.proxy.counts();
        let moved = counts.bytes_up + counts.bytes_down;
        println!(
            "{what}: {} bytes to the store, {} from it\n{}",
            counts.bytes_up,
            counts.bytes_down,
            counts.lines.join("\n")
        );
        assert!(moved <= MOVED_MAX, "{what}: {moved} bytes moved");
    }
}

#[track_caller]
fn persist(local: &Local) {
    let output = local.alluxio(&["fs", "persist", "/"]);
    assert_eq!(output.code, 0, "{}\n{}", output.stderr, local.log());
}

/// The third of issue 4's conditions.
#[test]
fn four_kilobytes_in_the_middle_of_a_gigabyte_move_little() {
    let stage = Stage::new(1024);
    let local = stage.builder().start();
    stage.proxy.reset();
    stage.patch(&local, 512 * MIB + 12_345, &tree::contents(77, 4096));
    persist(&local);
    stage.assert_moved_little("a change in the middle");
    stage.assert_object("file");
    // What was never here comes from the new object, a part at a time.
    stage.proxy.reset();
    let mut bytes = vec![0; 8192];
    let file = std::fs::File::open(local.mount().join("file")).unwrap();
    for at in [0, 512 * MIB + 12_000, 900 * MIB] {
        file.read_exact_at(&mut bytes, at).unwrap();
        let mut expected = vec![0; 8192];
        let whole = std::fs::File::open(&stage.expected).unwrap();
        whole.read_exact_at(&mut expected, at).unwrap();
        assert!(bytes == expected, "bytes at {at}");
    }
    stage.assert_moved_little("three small reads");
}

/// Also if every byte is cached, by reading or by writing.
#[test]
fn a_cached_file_moves_little_too() {
    let stage = Stage::new(96);
    let local = stage
        .builder()
        .option("alluxio.worker.file.overwrite.track.size", "32MB")
        .start();
    stage.assert_mounted(&local);
    stage.proxy.reset();
    stage.patch(&local, 33 * MIB + 1, &tree::contents(5, 4096));
    persist(&local);
    stage.assert_moved_little("a file that was read");
    stage.assert_object("file");
    // Written by us as a whole.
    sh(
        &format!(
            "cp {} {}",
            stage.expected.display(),
            local.mount().join("written").display()
        ),
        Duration::from_secs(300),
    )
    .ok();
    persist(&local);
    stage.proxy.reset();
    let file = std::fs::File::options()
        .write(true)
        .open(local.mount().join("written"))
        .unwrap();
    file.write_all_at(&tree::contents(6, 4096), 60 * MIB).unwrap();
    drop(file);
    stage.expect(60 * MIB, &tree::contents(6, 4096));
    persist(&local);
    stage.assert_moved_little("a file that was written");
    stage.assert_object("written");
}

/// Appended, cut, extended, punched, renamed: the object is right each time, and little is moved.
#[test]
fn every_way_to_change_a_part_is_right() {
    let stage = Stage::new(64);
    // So that what was read in between is not written by passthrough, and uploaded whole.
    let local = stage
        .builder()
        .option("alluxio.worker.file.overwrite.track.size", "16MB")
        .start();
    let path = local.mount().join("file");
    let change = |what: &str, in_mount: &str| {
        stage.proxy.reset();
        for file in [&path, &stage.expected] {
            let output = sh(&format!("f={}; {in_mount}", file.display()), Duration::from_secs(60));
            assert_eq!(output.code, 0, "{what}: {}\n{}", output.stderr, local.log());
        }
        persist(&local);
        stage.assert_moved_little(what);
        stage.assert_object("file");
    };
    change("append", "printf more >> $f");
    change("cut", "truncate -s 40000001 $f");
    change("extend", "truncate -s 50000000 $f");
    change("punch", "fallocate -p -o 12345678 -l 100000 $f");
    change(
        "beyond the end",
        "printf end | dd of=$f bs=1 seek=50100000 conv=notrunc status=none",
    );
    stage.assert_mounted(&local);
    // Changed, and renamed before it is uploaded.
    stage.proxy.reset();
    stage.patch(&local, 30_000_000, b"then renamed");
    nix::fcntl::renameat(
        nix::fcntl::AT_FDCWD,
        &path,
        nix::fcntl::AT_FDCWD,
        &local.mount().join("renamed"),
    )
    .unwrap();
    persist(&local);
    stage.assert_moved_little("rename");
    stage.assert_object("renamed");
    let gone = "print('Contents' in s3.list_objects_v2(Bucket='bucket', Prefix='file'))";
    assert_eq!(boto3(&stage.server.endpoint(), gone).trim(), "False");
}

/// kill -9 while parts are copied, and after the upload was completed but before we heard of it.
#[test]
fn a_kill_in_the_middle_of_an_upload_loses_nothing() {
    for (what, method, contains, fault) in [
        ("while parts go", "PUT", "partNumber", Fault::Stall),
        ("before it is completed", "POST", "uploadId", Fault::Stall),
        ("after it was completed", "POST", "uploadId", Fault::LoseAnswer),
    ] {
        let stage = Stage::new(40);
        let local = stage.builder().start();
        let is_completed = matches!(fault, Fault::LoseAnswer);
        stage.proxy.reset();
        stage.proxy.fault(method, contains, fault, 1);
        if is_completed {
            // Asked again, the store would say that there is no such upload any more.
            stage.proxy.fault(method, contains, Fault::Stall, usize::MAX);
        }
        stage.patch(&local, 20 * MIB - 100, &tree::contents(9, 4096));
        let seen = |counts: &alluxio_tests::proxy::Counts| {
            let line = |line: &&String| line.starts_with(method) && line.contains(contains);
            counts.lines.iter().filter(line).count()
        };
        wait::until("the upload comes so far", Duration::from_secs(60), || {
            seen(&stage.proxy.counts()) >= 1
        });
        if is_completed {
            wait::until("the object is the new one", Duration::from_secs(60), || {
                let mut found = vec![0; 4096];
                let file = std::fs::File::open(stage.server.bucket("bucket").join("file")).unwrap();
                file.read_exact_at(&mut found, 20 * MIB - 100).unwrap();
                found == tree::contents(9, 4096)
            });
        }
        let local = local.crash_and_restart();
        stage.proxy.heal();
        persist(&local);
        stage.assert_object("file");
        stage.assert_mounted(&local);
        println!("{what}: right");
    }
}

/// What was written and neither closed nor synced may be there or not after a kill; all else is as it was.
#[test]
fn a_kill_of_an_open_file_leaves_no_holes() {
    let stage = Stage::new(24);
    let local = stage.builder().start();
    let path = local.mount().join("file");
    let marker = stage.dir.path().join("written");
    let code = format!(
        "import os, time\nf = os.open('{}', os.O_RDWR)\n\
         for i in range(40): os.pwrite(f, bytes([65 + i]) * 70000, i * 500000)\n\
         open('{}', 'w').close()\ntime.sleep(600)\n",
        path.display(),
        marker.display()
    );
    let mut writer = Process::spawn("writer", Command::new("python3").arg("-c").arg(code));
    wait::until("all is written", Duration::from_secs(60), || marker.exists());
    let mut local = local;
    local.process().kill();
    writer.kill();
    let local = local.crash_and_restart();
    let path = local.mount().join("file");
    let mut found = Vec::new();
    wait::until("the file is recovered", Duration::from_secs(60), || {
        std::fs::read(&path).map(|bytes| found = bytes).is_ok()
    });
    let old = std::fs::read(&stage.expected).unwrap();
    let mut new = old.clone();
    for at in 0..40usize {
        new[at * 500_000..at * 500_000 + 70_000].fill(65 + at as u8);
    }
    assert_eq!(found.len(), old.len());
    let wrong = (0..old.len()).find(|at| found[*at] != old[*at] && found[*at] != new[*at]);
    assert_eq!(wrong, None, "neither the old byte nor the new one");
}

/// Another client puts another object in its place before the change is uploaded: the change is not mixed into that one,
/// and not lost; the waiting command is told.
#[test]
fn an_object_replaced_behind_our_back_is_not_mixed_with() {
    let stage = Stage::new(48);
    let local = stage.builder().start();
    // The upload has to wait until the other client is through.
    stage.proxy.fault("POST", "uploads", Fault::Status(503), usize::MAX);
    let change = tree::contents(3, 4096);
    stage.patch(&local, 24 * MIB, &change);
    let foreign = stage.dir.path().join("foreign");
    let file = std::fs::File::create(&foreign).unwrap();
    for at in 0..48 {
        file.write_all_at(&tree::contents(1000 + at, MIB as usize), at * MIB)
            .unwrap();
    }
    stage.put("file", &foreign);
    stage.proxy.heal();
    let output = local.alluxio(&["fs", "persist", "/file"]);
    assert_ne!(output.code, 0, "{}\n{}", output.stdout, local.log());
    assert!(
        output.stderr.contains("replaced or removed by somebody else"),
        "{}\n{}",
        output.stderr,
        local.log()
    );
    let there = std::fs::read(stage.server.bucket("bucket").join("file")).unwrap();
    assert!(
        there == std::fs::read(&foreign).unwrap(),
        "the other client's object was touched"
    );
    // What was written can be read; what only the old object had is an error, not zeros and not the new one's.
    let file = std::fs::File::open(local.mount().join("file")).unwrap();
    let mut bytes = vec![0; 4096];
    file.read_exact_at(&mut bytes, 24 * MIB).unwrap();
    assert!(bytes == change);
    let error = file.read_exact_at(&mut bytes, 4 * MIB).unwrap_err();
    assert!(
        matches!(error.raw_os_error(), Some(libc::ESTALE | libc::EIO)),
        "{error}"
    );
    drop(file);
    // Written anew as a whole it goes through.
    std::fs::write(local.mount().join("file"), b"anew").unwrap();
    persist(&local);
    assert_eq!(
        std::fs::read(stage.server.bucket("bucket").join("file")).unwrap(),
        b"anew"
    );
}
