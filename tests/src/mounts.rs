//! Mount points that never outlive their test.

use crate::{process, tools};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const HELPER_LIMIT: Duration = Duration::from_secs(60);

/// Whether a file system is mounted at exactly this folder.
pub fn is_mounted(dir: &Path) -> bool {
    fs_type(dir).is_some()
}

/// The same as a process in another mount namespace sees it.
pub fn is_mounted_for(process: u32, dir: &Path) -> bool {
    fs_type_in(&format!("/proc/{process}/mountinfo"), dir).is_some()
}

/// Type of the file system mounted at exactly this folder, from /proc/self/mountinfo.
pub fn fs_type(dir: &Path) -> Option<String> {
    fs_type_in("/proc/self/mountinfo", dir)
}

fn fs_type_in(table: &str, dir: &Path) -> Option<String> {
    let table = std::fs::read_to_string(table).expect("read mountinfo");
    table.lines().rev().find_map(|line| {
        let mut fields = line.split(' ');
        let point = fields.nth(4)?;
        let fs_type = line.split(" - ").nth(1)?.split(' ').next()?;
        (Path::new(point) == dir).then(|| fs_type.to_owned())
    })
}

/// A folder to mount on. When dropped, whatever is mounted there is aborted and detached, so that a daemon that died
/// leaves no process in uninterruptible sleep.
#[derive(Debug)]
pub struct MountPoint {
    path: PathBuf,
}

impl MountPoint {
    /// Makes the folder.
    pub fn new(path: PathBuf) -> MountPoint {
        std::fs::create_dir_all(&path).expect("make a mount point");
        MountPoint { path }
    }

    /// One of another mount namespace, which goes with the processes in it.
    pub fn of_another(path: PathBuf) -> MountPoint {
        MountPoint { path }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Detaches what is mounted, if anything.
    pub fn detach(&self) {
        while is_mounted(&self.path) {
            abort_connection(&self.path);
            let done = Command::new("umount")
                .arg("-l")
                .arg(&self.path)
                .output()
                .expect("run umount");
            if !done.status.success() {
                return;
            }
        }
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Ends the FUSE connection of a mount, so that everything waiting for its daemon gets an error.
fn abort_connection(dir: &Path) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let here = fields.len() > 4 && Path::new(fields[4]) == dir && line.contains(" - fuse");
        if let Some(minor) = fields
            .get(2)
            .and_then(|device| device.split(':').nth(1))
            .filter(|_| here)
        {
            // fusectl may not be mounted; then the lazy unmount alone has to do.
            let _ = std::fs::write(format!("/sys/fs/fuse/connections/{minor}/abort"), "1");
        }
    }
}

const HELPERS: [&str; 2] = ["/sbin/mount.alluxio", "/sbin/mount.fuse.alluxio"];

/// The mount helper's names for the length of a test; what was there before is put back.
#[derive(Debug)]
pub struct MountHelper {
    saved: [Option<PathBuf>; 2],
}

impl MountHelper {
    /// Installs the binary under test as the helper.
    #[track_caller]
    pub fn install() -> MountHelper {
        let saved = HELPERS.map(|helper| std::fs::read_link(helper).ok());
        let mut command = Command::new(tools::alluxio());
        process::run(command.args(["fuse", "install-helper"]), HELPER_LIMIT).ok();
        for helper in HELPERS {
            assert!(
                Path::new(helper).exists(),
                "{helper} is not there after its installation"
            );
        }
        MountHelper { saved }
    }
}

impl Drop for MountHelper {
    fn drop(&mut self) {
        for (helper, saved) in HELPERS.iter().zip(&self.saved) {
            let _ = std::fs::remove_file(helper);
            if let Some(target) = saved {
                let _ = std::os::unix::fs::symlink(target, helper);
            }
        }
    }
}
