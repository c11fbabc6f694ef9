//! The data folder: names, identity, lock, and what is put aside.
//!
//! ```text
//! worker.properties        format, cluster id and worker id
//! lock                     locked while a worker uses the folder
//! data/00 … data/ff        for each file held: <inode>.meta (sidecar) and <inode>.<generation>.data, numbers in hex
//! running                  there while a worker runs: found at a start, the one before did not end in order
//! ballast                  room for sidecars, given up when the disk is full
//! order                    inodes in the order of eviction, coldest first
//! scrub                    when everything was last held against its checksums, and how far the next pass is
//! damaged                  chunks that are not what they were and have no other copy, for reports
//! lost+found/              what could not be understood but may be somebody's only copy
//! ```

use alluxio_common::crashsafe;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Version of the folder's layout.
const FORMAT: u32 = 1;
const SHARDS: u64 = 256;
/// Kept for sidecars of files that filled the disk: 8 bytes for each 64 KiB of them. Of a small disk less.
const BALLAST_BYTES_MAX: u64 = 16 << 20;
const BALLAST_SHARE: u64 = 256;

/// A data folder, locked.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    lock: Flock<File>,
    /// Which boot of the operating system this is.
    pub boot_id: String,
    /// Whether two writes in a row, with a look between them, always have different times.
    pub fine_times: bool,
    /// Whether a store through a mapping moves the times of a file whose pages are clean.
    pub notices_mapped_stores: bool,
    /// Whether the file system says who else has a file open ([`crate::io::is_written_elsewhere`]).
    pub has_leases: bool,
    /// Whether data files bear a note of what they were opened as. Not where closes are not synced either: content that the
    /// note would be the only witness of may be holes.
    pub notes_openings: bool,
}

/// How far the last scrub came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScrubState {
    /// When one last came to its end, in seconds since 1970; 0: never.
    pub finished_s: u64,
    /// Where the one under way goes on; 0: none is under way.
    pub next_shard: u64,
}

/// Whose data a folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Empty before the first registration.
    pub cluster_id: String,
    /// 0 before the first registration.
    pub worker_id: u64,
}

impl std::os::fd::AsFd for Layout {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

impl Layout {
    /// Makes what is missing and locks the folder.
    ///
    /// # Errors
    /// `Busy` if another process uses it; `NotSupported` if newer software wrote it.
    pub fn open(root: &Path) -> FsResult<Self> {
        let doing = |what: &str| format!("{what} in worker folder {}", root.display());
        let io = |what: &'static str| move |error: std::io::Error| FsError::from_io(doing(what), &error);
        crashsafe::create_dir_all(root).map_err(io("make folders"))?;
        crashsafe::tighten(root).map_err(io("close folders to other users"))?;
        let lock = crashsafe::private_file()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join("lock"))
            .map_err(io("open the lock file"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            let why = format!("{}: another worker uses it ({errno})", doing("take the lock"));
            FsError::new(ErrorKind::Busy, why)
        })?;
        let data = root.join("data");
        crashsafe::create_dir_all(&data).map_err(io("make folders"))?;
        let mut made = false;
        crashsafe::tighten(&data).map_err(io("close folders to other users"))?;
        for shard in 0..SHARDS {
            let shard = data.join(format!("{shard:02x}"));
            match DirBuilder::new().mode(crashsafe::FOLDER_MODE).create(&shard) {
                Ok(()) => made = true,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    crashsafe::tighten(&shard).map_err(io("close folders to other users"))?;
                }
                Err(error) => return Err(io("make folders")(error)),
            }
        }
        if made {
            // Once for all of them: each sync costs as much as a file's.
            crashsafe::sync_dir(&data).map_err(io("sync folders"))?;
        }
        let lost = root.join("lost+found");
        crashsafe::create_dir_all(&lost).map_err(io("make folders"))?;
        crashsafe::tighten(&lost).map_err(io("close folders to other users"))?;
        crashsafe::remove_leftovers(root).map_err(io("remove leftovers"))?;
        let fine_times = fine_times(&lock).map_err(io("try timestamps"))?;
        let layout = Self {
            root: root.to_owned(),
            lock,
            boot_id: boot_id(),
            notices_mapped_stores: fine_times && notices_mapped_stores(root).map_err(io("ask what it is on"))?,
            fine_times,
            has_leases: has_leases(root),
            notes_openings: true,
        };
        if !layout.has_leases {
            tracing::warn!(
                folder = %root.display(),
                "the file system of the worker's folder has no leases: files are read and written through the worker, not by passthrough"
            );
        }
        // Refuses a newer format before anything is touched.
        layout.identity()?;
        layout.lay_in_ballast();
        if let Err(error) = layout.set_running() {
            tracing::warn!(%error, "note that the worker runs; a crash of it will not be noticed");
        }
        Ok(layout)
    }

    /// Whose data it holds.
    pub fn identity(&self) -> FsResult<Identity> {
        let path = self.root.join("worker.properties");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Identity::default()),
            Err(error) => return Err(FsError::from_io(format!("read {}", path.display()), &error)),
        };
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.ok_or_else(|| {
                let why = format!("{} has no line {key}=", path.display());
                FsError::new(ErrorKind::Corrupt, why)
            })
        };
        let number = |key: &str| -> FsResult<u64> {
            let bad = |_| FsError::new(ErrorKind::Corrupt, format!("{}: {key} is no number", path.display()));
            value(key)?.parse().map_err(bad)
        };
        let format = number("format")?;
        if format > u64::from(FORMAT) {
            let why = format!(
                "worker folder {} has format {format}, written by newer software; this one knows {FORMAT}",
                self.root.display()
            );
            return Err(FsError::new(ErrorKind::NotSupported, why));
        }
        Ok(Identity {
            cluster_id: value("cluster")?.to_owned(),
            worker_id: number("worker")?,
        })
    }

    /// Keeps whose data it holds.
    pub fn set_identity(&self, identity: &Identity) -> FsResult<()> {
        let path = self.root.join("worker.properties");
        let text = format!(
            "format={FORMAT}\ncluster={}\nworker={}\n",
            identity.cluster_id, identity.worker_id
        );
        crashsafe::write_atomic(&path, text.as_bytes())
            .map_err(|error| FsError::from_io(format!("write {}", path.display()), &error))
    }

    /// [`Layout::boot_id`] as the master knows it.
    pub fn boot_number(&self) -> u64 {
        boot_number(&self.boot_id)
    }

    /// Some file of the folder, for questions about its file system.
    pub fn probe(&self) -> std::io::Result<File> {
        File::open(self.root.join("lock"))
    }
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Free bytes of the file system, for us.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        Ok(self.free_and_total_bytes()?.0)
    }
    /// Free and total bytes of the file system.
    pub fn free_and_total_bytes(&self) -> std::io::Result<(u64, u64)> {
        let stat = nix::sys::statvfs::statvfs(&self.root)?;
        let unit = stat.fragment_size();
        Ok((stat.blocks_available() * unit, stat.blocks() * unit))
    }
    /// Keeps what was held last, so that a quota derived from free space does not shrink with every start.
    pub fn set_held_bytes(&self, bytes: u64) {
        // Lost, the quota is derived from less.
        self.note("held", &bytes.to_string());
    }
    /// What [`Self::set_held_bytes`] kept.
    pub fn held_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(self.root.join("held")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
    /// Files of which a part is given up while descriptors are out: the next start looks for them first. Lost, they are found
    /// later.
    pub fn set_passed(&self, inodes: &[InodeId]) {
        let text: String = inodes.iter().map(|inode| format!("{inode}\n")).collect();
        if let Err(error) = crashsafe::write_atomic(&self.root.join("passed"), text.as_bytes()) {
            tracing::info!(%error, "note which files are written past the worker");
        }
    }
    /// What [`Self::set_passed`] kept.
    pub fn passed(&self) -> Vec<InodeId> {
        let text = std::fs::read_to_string(self.root.join("passed")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok().map(InodeId)).collect()
    }
    /// How far the last scrub came. After a crash it begins anew, at once.
    pub fn scrub_state(&self) -> ScrubState {
        // A hint: lost, everything is scrubbed once more.
        let text = std::fs::read_to_string(self.root.join("scrub")).unwrap_or_default();
        let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
        ScrubState {
            finished_s: numbers.next().unwrap_or(0),
            next_shard: numbers.next().unwrap_or(0),
        }
    }
    /// Every folder before `next_shard` was scrubbed, the last of them at `now_s`.
    pub fn set_scrub_state(&self, next_shard: u64, now_s: u64) {
        let state = match next_shard < SHARDS {
            true => format!("{} {next_shard}\n", self.scrub_state().finished_s),
            false => format!("{now_s} 0\n"),
        };
        self.note("scrub", &state);
    }
    /// What `lost+found` takes of the disk.
    pub fn aside_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let files = std::fs::read_dir(self.root.join("lost+found")).into_iter().flatten();
        files
            .filter_map(|file| file.ok()?.metadata().ok())
            .map(|meta| meta.blocks() * 512)
            .sum()
    }
    /// Lays in room for the sidecars of what fills the disk, if there is plenty now.
    pub fn lay_in_ballast(&self) {
        let path = self.root.join("ballast");
        let done = (|| {
            let (free, total) = self.free_and_total_bytes()?;
            let bytes = BALLAST_BYTES_MAX.min(total / BALLAST_SHARE);
            if free < 8 * bytes || path.metadata().is_ok_and(|meta| meta.len() >= bytes) {
                return Ok(());
            }
            let file = crashsafe::private_file()
                .create(true)
                .truncate(true)
                .write(true)
                .open(&path)?;
            crate::io::allocate(&file, 0, 0, bytes)
        })();
        if let Err(error) = done {
            tracing::info!(%error, "lay in room for sidecars");
        }
    }
    /// Gives that room up.
    pub fn give_up_ballast(&self) {
        match std::fs::remove_file(self.root.join("ballast")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "give up the room for sidecars");
            }
            _ => {}
        }
    }
    /// Writes a hint: what is lost of it costs time and nothing else.
    fn note(&self, name: &str, text: &str) {
        let mut options = crashsafe::private_file();
        options.create(true).truncate(true).write(true);
        let file = options.open(self.root.join(name));
        if let Err(error) = file.and_then(|mut file| file.write_all(text.as_bytes())) {
            tracing::info!(%error, name, "keep a hint in the worker folder");
        }
    }
    /// The worker ends in order. Otherwise the next start finds that it did not, and everything is scrubbed.
    pub fn set_ended(&self) {
        if let Err(error) = std::fs::remove_file(self.root.join("running")) {
            tracing::info!(%error, "note that the worker ended");
        }
    }
    /// Notes that a worker runs; one that did not end in order leaves nothing scrubbed.
    fn set_running(&self) -> std::io::Result<()> {
        let running = self.root.join("running");
        if running.try_exists()? {
            match std::fs::remove_file(self.root.join("scrub")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // Empty: also a full disk has a name left.
        let mut options = crashsafe::private_file();
        options.create(true).truncate(true).write(true);
        options.open(running).map(drop)
    }
    /// Folders of data files.
    pub fn shards(&self) -> impl Iterator<Item = PathBuf> + '_ {
        (0..SHARDS).map(|shard| self.root.join("data").join(format!("{shard:02x}")))
    }
    /// Folder of a file's data.
    pub fn shard(&self, inode: InodeId) -> PathBuf {
        // Fibonacci hashing: neighbours in number are spread.
        let shard = inode.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        self.root.join("data").join(format!("{shard:02x}"))
    }
    pub fn sidecar(&self, inode: InodeId) -> PathBuf {
        self.shard(inode).join(format!("{:x}.meta", inode.get()))
    }
    pub fn data(&self, inode: InodeId, generation: u64) -> PathBuf {
        self.shard(inode).join(format!("{:x}.{generation:x}.data", inode.get()))
    }
    /// Moves a file to `lost+found`, durably; its name gets a number if there is one of that name already.
    pub fn put_aside(&self, path: &Path) -> std::io::Result<PathBuf> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let dir = self.root.join("lost+found");
        let mut target = dir.join(&name);
        let mut number = 1u32;
        while target.try_exists()? {
            target = dir.join(format!("{name}.{number}"));
            number += 1;
        }
        crashsafe::rename(path, &target)?;
        Ok(target)
    }
}

/// A name in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Sidecar(InodeId),
    Data(InodeId, u64),
}

impl Name {
    pub fn parse(name: &str) -> Option<Self> {
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        if let Some(inode) = name.strip_suffix(".meta") {
            return Some(Name::Sidecar(InodeId(hex(inode)?)));
        }
        let (inode, generation) = name.strip_suffix(".data")?.split_once('.')?;
        Some(Name::Data(InodeId(hex(inode)?), hex(generation)?))
    }
}

/// The first 16 hexadecimal digits of a boot id, which is a random UUID.
fn boot_number(id: &str) -> u64 {
    id.chars()
        .filter_map(|c| c.to_digit(16))
        .take(16)
        .fold(0, |sum, digit| sum << 4 | u64::from(digit))
}

fn boot_id() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) => text.trim().to_owned(),
        Err(error) => {
            tracing::warn!(%error, "no boot id; every start counts as one after a crash of the operating system");
            format!("unknown-{:x}", rand::random::<u64>())
        }
    }
}

/// Linux 6.13 and later give a write a new time if somebody looked at the old one. Elsewhere times stand still for some
/// milliseconds, and an unchanged stamp that fresh proves nothing.
fn fine_times(lock: &File) -> std::io::Result<bool> {
    let mut fine = true;
    let permissions = lock.metadata()?.permissions();
    let mut last = crate::io::stat(lock)?.ctime_ns;
    for _ in 0..8 {
        // A change like any other for the clock, and one that a full disk has room for.
        lock.set_permissions(permissions.clone())?;
        let now = crate::io::stat(lock)?.ctime_ns;
        fine &= now != last;
        last = now;
    }
    Ok(fine)
}

/// In memory there is no page to write back, so none is ever write-protected.
fn notices_mapped_stores(root: &Path) -> std::io::Result<bool> {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    Ok(statfs(root)?.filesystem_type() != TMPFS_MAGIC)
}

/// The lock file is open for writing, which a file system says that has leases.
fn has_leases(root: &Path) -> bool {
    let asked = File::open(root.join("lock")).and_then(|file| crate::io::is_written_elsewhere(&file));
    asked.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_per_folder_and_its_identity_stays() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        assert_eq!(Layout::open(dir.path()).unwrap_err().kind, ErrorKind::Busy);
        assert_eq!(layout.identity().unwrap(), Identity::default());
        let identity = Identity {
            cluster_id: "c-1".into(),
            worker_id: 42,
        };
        layout.set_identity(&identity).unwrap();
        drop(layout);
        let layout = Layout::open(dir.path()).unwrap();
        assert_eq!(layout.identity().unwrap(), identity);
    }

    #[test]
    fn what_is_written_past_us_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        assert_eq!(layout.passed(), []);
        layout.set_passed(&[InodeId(7), InodeId(u64::MAX)]);
        assert_eq!(layout.passed(), [InodeId(7), InodeId(u64::MAX)]);
    }

    #[test]
    fn newer_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("worker.properties"), "format=2\ncluster=c\nworker=1\n").unwrap();
        let error = Layout::open(dir.path()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotSupported);
        assert!(error.message.contains("newer"), "{error}");
    }

    #[test]
    fn names_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        let name = |path: PathBuf| Name::parse(path.file_name().unwrap().to_str().unwrap());
        assert_eq!(name(layout.sidecar(InodeId(255))), Some(Name::Sidecar(InodeId(255))));
        assert_eq!(
            name(layout.data(InodeId(1), u64::MAX)),
            Some(Name::Data(InodeId(1), u64::MAX))
        );
        assert_eq!(Name::parse("x.meta"), None);
        assert_eq!(Name::parse("1.data"), None);
    }
}
