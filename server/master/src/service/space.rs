//! Room for the journal and the metadata store.
//!
//! A disk that runs full beneath them is noticed before it does: below `alluxio.master.journal.space.low.bytes` the namespace
//! is read-only for programs, whose changes are refused with `NoSpace`. What makes room, what ends, and what keeps a promise
//! that was given (commits, closes, confirmations of uploads) goes on until next to nothing is left; then nothing is
//! journaled any more. Reads go on. It is looked at again with each change, so all goes on by itself when there is room.
//!
//! Data and metadata are often on one disk, which a program fills to the last byte. So that its files can be removed then, a
//! ballast beside each folder is given up first, and made again once there is room.

use alluxio_common::sync::Mutex;
use alluxio_proto::{ErrorKind, FsError, FsResult};
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::state::{Body, Command};

/// How long a look at the disks is good for: a program fills no more than some megabytes meanwhile.
const LOOK_TIME: Duration = Duration::from_millis(5);
/// Unless it is set, the watermark is at most this part of the disk: a small one is to be of use, too.
const PART_OF_DISK: u64 = 20;
/// Below this part of the watermark, [`OUT_BYTES`] at most, nothing is journaled.
const OUT_PART: u64 = 4;
/// What the journal and the store's own log may need for a command and what it brings with it.
const OUT_BYTES: u64 = if cfg!(test) { 1 << 60 } else { 4 << 20 };
/// A ballast is so large, and at most an [`OUT_PART`]th of the watermark: some thousand removals.
const BALLAST_BYTES: u64 = 16 << 20;

/// How much room there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Level {
    #[default]
    Enough,
    /// Programs may change nothing.
    Low,
    /// Nobody may.
    Out,
}

#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    level: Level,
    why: String,
    /// The ballasts are there, or cannot be.
    has_ballast: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Room {
    dirs: Vec<PathBuf>,
    low_bytes: u64,
    is_set: bool,
    seen: Mutex<Seen>,
}

impl Room {
    /// Looks after the disks of `dirs`. `is_set`: somebody has chosen the watermark.
    pub fn new(dirs: Vec<PathBuf>, low_bytes: u64, is_set: bool) -> Self {
        Self {
            dirs,
            low_bytes,
            is_set,
            seen: Mutex::default(),
        }
    }

    /// Refuses a command that there is no room for.
    pub fn admit(&self, command: &Command) -> FsResult<()> {
        let mut seen = self.seen.lock();
        if seen.at.is_none_or(|at| at.elapsed() >= LOOK_TIME) {
            self.look(&mut seen);
        }
        let refused = match seen.level {
            Level::Enough => false,
            Level::Low => command.caller.is_some() && command.body.as_ref().is_some_and(grows),
            Level::Out => true,
        };
        if !refused {
            return Ok(());
        }
        // A program hears that there is no room. What ends or confirms something must come once there is: it waits.
        let kind = match is_end(command) {
            true => ErrorKind::Unavailable,
            false => ErrorKind::NoSpace,
        };
        Err(FsError::new(kind, seen.why.clone()))
    }

    /// Bytes that are free on the fullest of the disks.
    pub fn free_bytes(&self) -> u64 {
        let free = self.dirs.iter().filter_map(|dir| space_of(dir));
        free.map(|space| space.free).min().unwrap_or(u64::MAX)
    }

    fn look(&self, seen: &mut Seen) {
        let (mut level, mut why) = self.measure();
        // At the start it may be there from before.
        let has_ballast = seen.has_ballast || seen.at.is_none();
        if level == Level::Out && has_ballast {
            seen.has_ballast = false;
            self.give_up_ballast();
            (level, why) = self.measure();
        } else if level == Level::Enough && !seen.has_ballast {
            seen.has_ballast = self.keep_ballast();
        }
        if (level == Level::Enough) != (seen.level == Level::Enough) {
            match level {
                Level::Enough => tracing::info!("there is room for metadata again: the namespace can be changed"),
                Level::Low | Level::Out => tracing::warn!("{why}"),
            }
        }
        (seen.at, seen.level, seen.why) = (Some(Instant::now()), level, why);
    }

    /// The watermark on a disk of `total` bytes.
    fn low_of(&self, total: u64) -> u64 {
        match self.is_set {
            true => self.low_bytes,
            false => self.low_bytes.min(total / PART_OF_DISK),
        }
    }

    /// The ballast of a folder lies beside it: what is in the folder belongs to others.
    fn ballast_of(dir: &Path) -> PathBuf {
        let mut name = dir.file_name().unwrap_or_default().to_owned();
        name.push(".ballast");
        dir.with_file_name(name)
    }

    /// Makes the ballasts, where they fit above the watermark. False: later.
    fn keep_ballast(&self) -> bool {
        let mut is_kept = true;
        for dir in &self.dirs {
            let Some(Space { free, total, .. }) = space_of(dir) else {
                continue;
            };
            let low = self.low_of(total);
            let bytes = BALLAST_BYTES.min(low / OUT_PART);
            let path = Self::ballast_of(dir);
            if bytes == 0 || path.exists() {
                continue;
            }
            if free < low + bytes * self.dirs.len() as u64 {
                is_kept = false;
                continue;
            }
            // Nothing in it is of worth, so it is not synced.
            let made = File::create_new(&path)
                .and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, bytes.cast_signed())?));
            if let Err(error) = made {
                tracing::info!(path = %path.display(), %error, "no ballast for a full disk");
            }
        }
        is_kept
    }

    fn give_up_ballast(&self) {
        for path in self.dirs.iter().map(|dir| Self::ballast_of(dir)) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "give up the ballast of a full disk");
                }
                _ => {}
            }
        }
    }

    fn measure(&self) -> (Level, String) {
        let (mut level, mut why) = (Level::Enough, String::new());
        for dir in &self.dirs {
            // A disk that does not say how full it is is written to until it says that it is full.
            let Some(Space { free, usable, total }) = space_of(dir) else {
                continue;
            };
            let low = self.low_of(total);
            let found = match free {
                _ if usable < (low / OUT_PART).min(OUT_BYTES) => Level::Out,
                free if free < low => Level::Low,
                _ => Level::Enough,
            };
            if found as u8 > level as u8 {
                level = found;
                why = format!(
                    "change the namespace: {} MB are free on the disk of {}, and {} MB are kept free for metadata \
                     (alluxio.master.journal.space.low.bytes); make room there, until then it is read-only",
                    free >> 20,
                    dir.display(),
                    low >> 20
                );
            }
        }
        (level, why)
    }
}

/// Bytes of a disk.
struct Space {
    /// Free for everybody.
    free: u64,
    /// Free for this process: root also has what file systems keep back for it.
    usable: u64,
    total: u64,
}

fn space_of(dir: &Path) -> Option<Space> {
    let stat = nix::sys::statvfs::statvfs(dir).ok()?;
    let block = stat.fragment_size();
    let usable = match nix::unistd::geteuid().is_root() {
        true => stat.blocks_free(),
        false => stat.blocks_available(),
    };
    Some(Space {
        free: stat.blocks_available() * block,
        usable: usable * block,
        total: stat.blocks() * block,
    })
}

/// Whether a command only ends or confirms what went before, so that whoever gives it has nobody to tell of a refusal.
fn is_end(command: &Command) -> bool {
    command.caller.is_none() || matches!(command.body, Some(Body::CloseWrite(_) | Body::ReleaseOrphan(_)))
}

/// Whether a command takes room for good. What removes, ends or completes something does not.
fn grows(body: &Body) -> bool {
    matches!(
        body,
        Body::CreateFile(_)
            | Body::Mkdir(_)
            | Body::Symlink(_)
            | Body::Mknod(_)
            | Body::Tmpfile(_)
            | Body::Link(_)
            | Body::Rename(_)
            | Body::SetAttr(_)
            | Body::SetXattr(_)
            | Body::RemoveXattr(_)
            | Body::SetAcl(_)
            | Body::OpenWrite(_)
            | Body::TouchAtimes(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::command::{CloseWrite, IntentDone, Mkdir, Unlink};

    fn of_a_program(body: impl Into<Body>) -> Command {
        Command {
            caller: Some(Default::default()),
            ..Command::system(1, body)
        }
    }

    #[test]
    fn a_ballast_is_kept_while_there_is_room_and_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal");
        std::fs::create_dir(&journal).unwrap();
        let room = Room::new(vec![journal], 1 << 20, true);
        assert!(room.admit(&of_a_program(Mkdir::default())).is_ok());
        let ballast = dir.path().join("journal.ballast");
        assert_eq!(std::fs::metadata(&ballast).unwrap().len(), 256 << 10);
        room.give_up_ballast();
        assert!(!ballast.exists());
    }

    #[test]
    fn what_there_is_no_room_for_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let room = |low_bytes| Room::new(vec![dir.path().to_owned()], low_bytes, true);
        let free = room(0).free_bytes();
        let grow = of_a_program(Mkdir::default());
        let removals = [
            of_a_program(Unlink::default()),
            of_a_program(CloseWrite::default()),
            Command::system(1, IntentDone::default()),
        ];
        assert!(room(0).admit(&grow).is_ok());
        // Twice what is free now, which changes while this runs.
        let low = room(free * 2);
        let error = low.admit(&grow).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoSpace);
        assert!(error.message.contains("space.low.bytes"), "{error}");
        for command in &removals {
            assert!(low.admit(command).is_ok(), "{command:?}");
        }
        // The one is told to a program; the others must come once there is room.
        assert_eq!(removals.each_ref().map(is_end), [false, true, true]);
        // Nobody has asked for so much.
        assert!(
            Room::new(vec![dir.path().to_owned()], free * 2, false)
                .admit(&grow)
                .is_ok()
        );
    }
}
