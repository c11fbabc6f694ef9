//! A loop device with ext4 on a file of [`super::server`].

use super::layer::CutStats;
use super::server::FILE;
use crate::mounts::{self, MountPoint};
use crate::process::sh;
use crate::tools;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// A mounted ext4 whose power can be cut. Everything is taken down when it is dropped.
#[derive(Debug)]
pub struct PowerDisk {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    served: MountPoint,
    point: MountPoint,
    device: Option<String>,
}

impl PowerDisk {
    /// Makes a disk of `mib` MiB (sparse) in `base`, mounted at `base/disk`. `server` is the `powercut_disk` program.
    pub fn new(server: &Path, base: &Path, mib: u64) -> PowerDisk {
        // In memory, if there is a place: a process that cleans pages must not wait for pages to be cleaned itself.
        let memory = Path::new("/dev/shm");
        let images = if memory.is_dir() { memory } else { base };
        let images = tempfile::Builder::new()
            .prefix("powercut-")
            .tempdir_in(images)
            .expect("make a folder for the image");
        let image = images.path().join("image");
        let served = MountPoint::new(base.join("served"));
        let point = MountPoint::new(base.join("disk"));
        sh(
            &format!(
                "truncate -s {mib}M {img}; mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 {img}",
                img = image.display()
            ),
            LIMIT,
        )
        .ok();
        let mut child = Command::new(server)
            .arg(&image)
            .arg(served.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", server.display()));
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut disk = PowerDisk {
            child,
            commands,
            answers,
            served,
            point,
            device: None,
        };
        assert_eq!(disk.answer(), "ready", "the disk's process starts");
        disk.attach().unwrap_or_else(|error| panic!("{error}"));
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.point.path()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("read an answer of the disk's process");
        line.trim_end().to_owned()
    }

    fn ask(&mut self, command: &str) -> String {
        let commands = self.commands.as_mut().expect("the disk's process listens");
        writeln!(commands, "{command}").expect("ask the disk's process");
        self.answer()
    }

    /// From now on a flush is answered without doing anything.
    pub fn lie(&mut self) {
        assert_eq!(self.ask("lie"), "ok");
    }

    /// The moment of the cut: nothing is answered any more. Whoever uses the disk is to be killed then.
    pub fn freeze(&mut self) {
        assert_eq!(self.ask("freeze"), "ok");
    }

    /// Whoever still waits for the disk gets EIO, so that killed processes end.
    pub fn off(&mut self) {
        assert_eq!(self.ask("off"), "ok");
    }

    /// After [`PowerDisk::off`], when nobody uses it any more: unmounts, applies the cut, and mounts again.
    ///
    /// # Errors
    /// What ext4 says if it cannot be mounted.
    pub fn cut(&mut self, seed: u64) -> Result<CutStats, String> {
        self.detach();
        let answer = self.ask(&format!("cut {seed}"));
        let numbers: Vec<usize> = answer.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [kept, dropped, torn] = numbers[..] else {
            panic!("the disk's process answered {answer}");
        };
        self.attach()?;
        Ok(CutStats { kept, dropped, torn })
    }

    fn attach(&mut self) -> Result<(), String> {
        let file = self.served.path().join(FILE);
        let device = sh(&format!("losetup --find --show {}", file.display()), LIMIT).ok();
        let device = device.trim().to_owned();
        let mounted = sh(
            &format!("mount -t ext4 {device} {}", self.point.path().display()),
            LIMIT,
        );
        self.device = Some(device);
        match mounted.code {
            0 => Ok(()),
            _ => Err(format!("mount ext4 after a cut: {}", mounted.stderr)),
        }
    }

    /// Unmounts and detaches; waits for processes that are about to end.
    fn detach(&mut self) {
        let start = Instant::now();
        while mounts::is_mounted(self.point.path()) {
            let done = sh(&format!("umount {}", self.point.path().display()), LIMIT);
            if done.code != 0 {
                assert!(start.elapsed() < LIMIT, "unmount the cut disk: {}", done.stderr);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if let Some(device) = self.device.take() {
            sh(&format!("losetup --detach {device}"), LIMIT).ok();
            // Detaching is done when the last user of the device has closed it.
            let backing = PathBuf::from(device.replace("/dev/", "/sys/block/")).join("loop/backing_file");
            while backing.exists() && start.elapsed() < LIMIT {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Looks for damage in the unmounted file system, read-only; mounts it again.
    ///
    /// # Errors
    /// What e2fsck found.
    pub fn fsck(&mut self) -> Result<(), String> {
        self.detach();
        let file = self.served.path().join(FILE);
        let found = sh(&format!("e2fsck -fn {}", tools::text(&file)), LIMIT);
        self.attach()?;
        match found.code {
            0 => Ok(()),
            code => Err(format!("e2fsck ended with {code}:\n{}", found.stdout)),
        }
    }
}

impl Drop for PowerDisk {
    fn drop(&mut self) {
        // With its input closed the process ends and unmounts; requests that wait for it get an error.
        if std::thread::panicking()
            && let Some(commands) = &mut self.commands
        {
            let _ = writeln!(commands, "off");
        }
        self.point.detach();
        if let Some(device) = self.device.take() {
            let _ = Command::new("losetup").arg("--detach").arg(device).output();
        }
        drop(self.commands.take());
        self.served.detach();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
