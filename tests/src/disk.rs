//! A journaled ext4 of our own on a loop device: the root disk of a test machine may have no journal, and its creates get
//! slow after many deletes.

use crate::mounts::MountPoint;
use crate::process::sh;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A mounted scratch disk; unmounted and removed with its guard.
#[derive(Debug)]
pub struct Disk {
    point: MountPoint,
    image: PathBuf,
}

impl Disk {
    /// Makes and mounts a disk of `gib` GiB (sparse) as `name` in the system's temporary folder. Needs root.
    pub fn new(name: &str, gib: u64) -> Disk {
        Disk::with_mib(name, gib << 10)
    }

    /// As [`Disk::new`], of `mib` MiB.
    pub fn with_mib(name: &str, mib: u64) -> Disk {
        let base = std::env::temp_dir();
        // Tests of one process may want the same name.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{name}-{}-{number}", std::process::id());
        let image = base.join(format!("{unique}.img"));
        let point = MountPoint::new(base.join(&unique));
        let (img, dir) = (image.display(), point.path().display());
        sh(
            &format!("truncate -s {mib}M {img}; mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1 {img}; mount -o loop {img} {dir}"),
            Duration::from_secs(60),
        )
        .ok();
        Disk { point, image }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.point.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.point.detach();
        // The image is sparse scratch; what could go wrong is that it is gone already.
        let _ = std::fs::remove_file(&self.image);
        let _ = std::fs::remove_dir(self.point.path());
    }
}
