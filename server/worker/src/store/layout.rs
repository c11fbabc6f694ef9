//! The data folder: names, identity, lock, and what is put aside.
//!
//! ```text
//! worker.properties        format, cluster id and worker id
//! lock                     locked while a worker uses the folder
//! data/00 … data/ff        for each file held: <inode>.meta (sidecar) and <inode>.<generation>.data, numbers in hex
//! lost+found/              what could not be understood but may be somebody's only copy
//! ```

use alluxio_common::crashsafe;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// Version of the folder's layout.
const FORMAT: u32 = 1;
const SHARDS: u64 = 256;

/// A data folder, locked.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    _lock: Flock<File>,
    /// Which boot of the operating system this is.
    pub boot_id: String,
    /// Whether two writes in a row, with a look between them, always have different times.
    pub fine_times: bool,
}

/// Whose data a folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Empty before the first registration.
    pub cluster_id: String,
    /// 0 before the first registration.
    pub worker_id: u64,
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
        let lock = OpenOptions::new()
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
        for shard in 0..SHARDS {
            match std::fs::create_dir(data.join(format!("{shard:02x}"))) {
                Ok(()) => made = true,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io("make folders")(error)),
            }
        }
        if made {
            // Once for all of them: each sync costs as much as a file's.
            crashsafe::sync_dir(&data).map_err(io("sync folders"))?;
        }
        crashsafe::create_dir_all(&root.join("lost+found")).map_err(io("make folders"))?;
        crashsafe::remove_leftovers(root).map_err(io("remove leftovers"))?;
        let layout = Self {
            root: root.to_owned(),
            _lock: lock,
            boot_id: boot_id(),
            fine_times: fine_times(root).map_err(io("try timestamps"))?,
        };
        // Refuses a newer format before anything is touched.
        layout.identity()?;
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
        // A hint: lost, the quota is derived from less.
        if let Err(error) = std::fs::write(self.root.join("held"), bytes.to_string()) {
            tracing::info!(%error, "keep the number of bytes held");
        }
    }
    /// What [`Self::set_held_bytes`] kept.
    pub fn held_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(self.root.join("held")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
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
fn fine_times(root: &Path) -> std::io::Result<bool> {
    use std::io::Write;
    let path = root.join(".crashsafe-times.tmp");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let mut fine = true;
    let mut last = crate::io::stat(&file)?.ctime_ns;
    for _ in 0..8 {
        file.write_all(b"x")?;
        let now = crate::io::stat(&file)?.ctime_ns;
        fine &= now != last;
        last = now;
    }
    std::fs::remove_file(&path)?;
    Ok(fine)
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
