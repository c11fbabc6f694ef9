//! A folder of this host, or of whatever is mounted there.
//!
//! Promises: nothing outside the folder is read or written, whatever links lie in it; what a call has done is durable when it
//! returns (files, names and new folders are fsynced); a file is never seen half written. A read that overlaps a change in
//! place fails rather than mixing versions, as far as `mtime_ns-length-inode` tells. Left out: hard links, extended
//! attributes, and writes to a file system mounted beneath the folder (its files can be read).

mod errno;
mod inside;
mod listing;
mod names;
mod names_of_uploads;
mod over;
mod reading;
mod root;
mod writing;

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alluxio_proto::types::FileKind;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use nix::errno::Errno;
use nix::fcntl;
use nix::unistd::{self, UnlinkatFlags};

use crate::inside::Exported;
use crate::{
    BaseObject, Capabilities, Expect, Export, Inside, PageToken, UfsAttributes, UfsError, UfsErrorKind, UfsMetrics,
    UfsPage, UfsResult, UfsSpace, UfsStatus, UnderFileSystem, UploadSource, path,
};
use errno::error;
pub(crate) use over::BaseFile;
use reading::RangeRead;
use root::{Root, sync_directory};
use writing::TempFile;

/// Taken from the source of a write at a time.
const WRITE_BYTES: u64 = 4 << 20;

/// The store.
#[derive(Debug)]
pub(crate) struct PosixUfs {
    root: Arc<Root>,
}

impl PosixUfs {
    pub fn new(root: PathBuf) -> Self {
        Self {
            root: Arc::new(Root::new(root)),
        }
    }

    /// Runs what may block on a thread that may.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Root>) -> UfsResult<T> + Send + 'static,
    ) -> UfsResult<T> {
        let root = self.root.clone();
        off_thread(move || work(&root)).await
    }
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> UfsResult<T> + Send + 'static) -> UfsResult<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| UfsError::new(UfsErrorKind::Other, format!("a thread for file system calls: {error}")))?
}

/// Writes a range of a source, a bounded piece at a time.
async fn write_range(mut temp: TempFile, source: &dyn UploadSource, range: Range<u64>) -> UfsResult<TempFile> {
    let mut offset = range.start;
    while offset < range.end {
        let wanted = WRITE_BYTES.min(range.end - offset);
        let bytes = source.read_at(offset, wanted).await?;
        if bytes.len() as u64 != wanted {
            let why = format!(
                "the upload's source gave {} bytes instead of {wanted} at {offset}",
                bytes.len()
            );
            return Err(UfsError::new(UfsErrorKind::Other, why));
        }
        temp = off_thread(move || temp.write_at(offset, &bytes).map(|()| temp)).await?;
        offset += wanted;
    }
    Ok(temp)
}

#[async_trait::async_trait]
impl UnderFileSystem for PosixUfs {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ufs_type: "posix",
            real_directories: true,
            atomic_rename: true,
            conditional_write: true,
            copies_ranges: true,
            symlinks: true,
            keeps_attributes: true,
        }
    }

    fn metrics(&self) -> Arc<UfsMetrics> {
        self.root.metrics.clone()
    }

    fn check_path(&self, path: &[u8]) -> UfsResult<()> {
        self.root.check(path)
    }

    async fn probe(&self) -> UfsResult<()> {
        self.blocking(|root| root.list(b"", None, 1).map(drop)).await
    }

    async fn status(&self, path: &[u8]) -> UfsResult<UfsStatus> {
        let path = path.to_vec();
        self.blocking(move |root| root.status(&path)).await
    }

    async fn list(&self, dir: &[u8], token: Option<PageToken>, limit: usize) -> UfsResult<UfsPage> {
        let dir = dir.to_vec();
        self.blocking(move |root| root.list(&dir, token.as_ref(), limit.max(1)))
            .await
    }

    async fn read(
        &self,
        path: &[u8],
        range: Range<u64>,
        fingerprint: &str,
    ) -> UfsResult<BoxStream<'static, UfsResult<Bytes>>> {
        let (path, fingerprint) = (path.to_vec(), fingerprint.to_owned());
        let read = self
            .blocking(move |root| RangeRead::open(root.clone(), path, range, fingerprint))
            .await?;
        let next = |mut read: RangeRead| off_thread(move || Ok(read.next()?.map(|chunk| (chunk, read))));
        Ok(stream::try_unfold(read, next).boxed())
    }

    async fn write(
        &self,
        path: &[u8],
        source: &dyn UploadSource,
        expect: &Expect,
        attributes: &UfsAttributes,
    ) -> UfsResult<UfsStatus> {
        let (path, length) = (path.to_vec(), source.length());
        let temp = self.blocking(move |root| TempFile::create(root.clone(), path)).await?;
        let temp = write_range(temp, source, 0..length).await?;
        let (expect, attributes) = (expect.clone(), attributes.clone());
        off_thread(move || temp.publish(&expect, &attributes)).await
    }

    async fn write_over(
        &self,
        path: &[u8],
        source: &dyn UploadSource,
        base: &BaseObject,
        expect: &Expect,
        attributes: &UfsAttributes,
    ) -> UfsResult<UfsStatus> {
        let length = source.length();
        base.check(length)?;
        let (path, owned) = (path.to_vec(), base.clone());
        let mut temp = self
            .blocking(move |root| {
                let base = BaseFile::open(root, owned)?;
                let temp = TempFile::create(root.clone(), path)?;
                temp.set_length(length)?;
                base.copy_clean(temp.file())?;
                Ok(temp)
            })
            .await?;
        for range in base.dirty(length) {
            temp = write_range(temp, source, range).await?;
        }
        let (expect, attributes) = (expect.clone(), attributes.clone());
        off_thread(move || temp.publish(&expect, &attributes)).await
    }

    async fn delete_if(&self, path: &[u8], fingerprint: &str) -> UfsResult<()> {
        let (path, fingerprint) = (path.to_vec(), fingerprint.to_owned());
        self.blocking(move |root| root.delete_if(&path, &fingerprint)).await
    }

    async fn delete(&self, paths: &[Bytes]) -> Vec<UfsResult<()>> {
        let wanted = paths.to_vec();
        let done = self.blocking(move |root| Ok(root.delete(&wanted))).await;
        done.unwrap_or_else(|error| paths.iter().map(|_| Err(error.clone())).collect())
    }

    async fn mkdir(&self, path: &[u8], attributes: &UfsAttributes) -> UfsResult<()> {
        let (path, attributes) = (path.to_vec(), attributes.clone());
        self.blocking(move |root| root.mkdir(&path, &attributes)).await
    }

    async fn rmdir(&self, path: &[u8]) -> UfsResult<()> {
        let path = path.to_vec();
        self.blocking(move |root| root.rmdir(&path)).await
    }

    async fn symlink(&self, path: &[u8], target: &[u8], _attributes: &UfsAttributes) -> UfsResult<()> {
        let (path, target) = (path.to_vec(), target.to_vec());
        self.blocking(move |root| root.symlink(&path, &target)).await
    }

    async fn rename(&self, from: &[u8], to: &[u8]) -> UfsResult<UfsStatus> {
        let (from, to) = (from.to_vec(), to.to_vec());
        self.blocking(move |root| root.rename(&from, &to)).await
    }

    /// Every folder of this host: whether two are of one file system is for the kernel to say.
    fn store(&self) -> Option<String> {
        Some("file".to_owned())
    }

    async fn export(&self, path: &[u8], fingerprint: &str) -> UfsResult<Export> {
        let (path, fingerprint) = (path.to_vec(), fingerprint.to_owned());
        let file = self
            .blocking(move |root| BaseFile::whole(root, &path, fingerprint))
            .await?;
        Ok(Export(Exported::File(Arc::new(file))))
    }

    async fn import(
        &self,
        export: &Export,
        path: &[u8],
        expect: &Expect,
        attributes: &UfsAttributes,
        how: Inside,
    ) -> UfsResult<UfsStatus> {
        let Exported::File(file) = &export.0 else {
            let why = "what is to be copied is no file of this host";
            return Err(UfsError::new(UfsErrorKind::Unsupported, why));
        };
        let (file, path) = (Arc::clone(file), path.to_vec());
        let (expect, attributes) = (expect.clone(), attributes.clone());
        self.blocking(move |root| inside::import(root, &file, path, &expect, &attributes, how))
            .await
    }

    async fn set_attributes(
        &self,
        path: &[u8],
        _kind: FileKind,
        attributes: &UfsAttributes,
        fingerprint: &str,
    ) -> UfsResult<Option<String>> {
        let (path, attributes, fingerprint) = (path.to_vec(), attributes.clone(), fingerprint.to_owned());
        self.blocking(move |root| root.set_attributes(&path, &attributes, &fingerprint).map(Some))
            .await
    }

    async fn abort_stale_uploads(&self, age: Duration) -> UfsResult<u64> {
        self.blocking(move |root| root.remove_stale_temps(age)).await
    }

    async fn space(&self) -> UfsResult<Option<UfsSpace>> {
        self.blocking(|root| {
            let directory = root.open()?;
            let stat = nix::sys::statvfs::fstatvfs(&directory).map_err(|errno| error(errno, "statvfs", b""))?;
            let unit = stat.fragment_size();
            Ok(Some(UfsSpace {
                total_bytes: stat.blocks().saturating_mul(unit),
                used_bytes: stat.blocks().saturating_sub(stat.blocks_free()).saturating_mul(unit),
                available_bytes: stat.blocks_available().saturating_mul(unit),
            }))
        })
        .await
    }
}

impl Root {
    fn delete(&self, paths: &[Bytes]) -> Vec<UfsResult<()>> {
        let mut results: Vec<UfsResult<()>> = paths.iter().map(|path| self.unlink(path)).collect();
        // Each folder is synced once, whatever the number of names that went from it.
        let mut by_parent: std::collections::BTreeMap<&[u8], Vec<usize>> = std::collections::BTreeMap::new();
        for (index, path) in paths.iter().enumerate().filter(|(index, _)| results[*index].is_ok()) {
            by_parent.entry(path::split(path).0).or_default().push(index);
        }
        for (parent, indexes) in by_parent {
            let synced = self
                .open_beneath(parent, fcntl::OFlag::O_PATH | fcntl::OFlag::O_DIRECTORY)
                .and_then(|directory| {
                    sync_directory(&directory).map_err(|errno| error(errno, "sync the folder", parent))
                });
            if let Err(failure) = synced
                // The folder is gone too.
                && !matches!(failure.kind, UfsErrorKind::NotFound | UfsErrorKind::NotADirectory)
            {
                for index in indexes {
                    results[index] = Err(failure.clone());
                }
            }
        }
        results
    }

    /// Compared and deleted under the lock that keeps writers of this process out; another program's rename between the two is lost.
    fn delete_if(&self, path: &[u8], fingerprint: &str) -> UfsResult<()> {
        let _one_writer_of_this_path = self.lock_of(path).lock();
        match self.status(path) {
            Ok(there) if there.fingerprint == fingerprint => {
                self.delete(&[Bytes::copy_from_slice(path)]).into_iter().collect()
            }
            Ok(_) => {
                let why = format!("delete {}: it is another one now", path::show(path));
                Err(UfsError::new(UfsErrorKind::PreconditionFailed, why))
            }
            Err(error) if matches!(error.kind, UfsErrorKind::NotFound | UfsErrorKind::NotADirectory) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn unlink(&self, path: &[u8]) -> UfsResult<()> {
        UfsMetrics::add(&self.metrics.requests, 1);
        if path.is_empty() {
            return Err(UfsError::new(
                UfsErrorKind::IsADirectory,
                "delete /: the root is a directory",
            ));
        }
        let (directory, name) = match self.parent(path) {
            Ok(found) => found,
            // Absent counts as done.
            Err(error) if matches!(error.kind, UfsErrorKind::NotFound | UfsErrorKind::NotADirectory) => return Ok(()),
            Err(error) => return Err(error),
        };
        match unistd::unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(error(errno, "delete", path)),
        }
    }

    fn mkdir(&self, path: &[u8], attributes: &UfsAttributes) -> UfsResult<()> {
        UfsMetrics::add(&self.metrics.requests, 1);
        let made = self.make_directories(path);
        let (_, made) = made.map_err(|error| match (error.kind, self.status(path)) {
            (UfsErrorKind::NotADirectory, Ok(there)) if there.kind != FileKind::Directory => {
                let why = format!("make the folder {}: a file is there", path::show(path));
                UfsError::new(UfsErrorKind::AlreadyExists, why)
            }
            _ => error,
        })?;
        if made {
            self.set_attributes(path, attributes, "").map(drop)
        } else {
            Ok(())
        }
    }

    fn rmdir(&self, path: &[u8]) -> UfsResult<()> {
        UfsMetrics::add(&self.metrics.requests, 1);
        if path.is_empty() {
            return Err(UfsError::new(UfsErrorKind::Invalid, "the root cannot be removed"));
        }
        let (directory, name) = match self.parent(path) {
            Ok(found) => found,
            Err(error) if error.kind == UfsErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        match unistd::unlinkat(&directory, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => sync_directory(&directory).map_err(|errno| error(errno, "sync the folder of", path)),
            Err(Errno::ENOENT) => Ok(()),
            Err(Errno::EEXIST) => Err(error(Errno::ENOTEMPTY, "remove the folder", path)),
            Err(errno) => Err(error(errno, "remove the folder", path)),
        }
    }

    fn symlink(&self, path: &[u8], target: &[u8]) -> UfsResult<()> {
        UfsMetrics::add(&self.metrics.requests, 1);
        self.check(path)?;
        let fail = |errno| error(errno, "make the symbolic link", path);
        if path.is_empty() {
            return Err(fail(Errno::EEXIST));
        }
        let (parent, name) = path::split(path);
        let (directory, _) = self.make_directories(parent)?;
        unistd::symlinkat(OsStr::from_bytes(target), &directory, OsStr::from_bytes(name)).map_err(fail)?;
        sync_directory(&directory).map_err(fail)
    }

    fn rename(&self, from: &[u8], to: &[u8]) -> UfsResult<UfsStatus> {
        UfsMetrics::add(&self.metrics.requests, 1);
        self.check(to)?;
        if from.is_empty() || to.is_empty() {
            return Err(UfsError::new(UfsErrorKind::Invalid, "the root cannot be renamed"));
        }
        let fail = |errno| match errno {
            Errno::EEXIST => error(Errno::ENOTEMPTY, "rename", from),
            _ => error(errno, "rename", from),
        };
        match self.status(from) {
            Ok(_) => {}
            // Done by an earlier call, whose answer was lost?
            Err(error) if error.kind == UfsErrorKind::NotFound => return self.status(to).map_err(|_| error),
            Err(error) => return Err(error),
        }
        let (source, source_name) = self.parent(from)?;
        let (parent, target_name) = path::split(to);
        let (target, _) = self.make_directories(parent)?;
        let target_name = OsStr::from_bytes(target_name);
        {
            let _one_writer_of_this_path = self.lock_of(to).lock();
            fcntl::renameat(&source, source_name, &target, target_name).map_err(fail)?;
        }
        sync_directory(&target).map_err(fail)?;
        sync_directory(&source).map_err(fail)?;
        self.named_status_at(&target, target_name).map_err(fail)
    }
}
