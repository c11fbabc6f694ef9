//! Trees: folders are made as they are met, files are copied several at once.

use super::Manner;
use super::file::FileCopier;
use super::location::Location;
use crate::commands::fs::Shell;
use crate::commands::fs::cache::utf8_path;
use crate::commands::fs::walk::{Item, Walk};
use crate::commands::{CommandError, Done};
use crate::output::text;
use alluxio_client::fs::split;
use alluxio_proto::master::{LinkTarget, ReadLink, SetAttr, Symlink};
use alluxio_proto::types::{Attr, FileKind, WriteType};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressStyle};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Folders whose owner and times are kept in mind until what is in them is there.
const FOLDERS_MAX: usize = 200_000;
/// Levels of folders of this host that are open at once.
const LEVELS_MAX: usize = 1024;
const PROGRESS: &str = "{spinner} {binary_bytes} copied, {binary_bytes_per_sec}, {msg}";

/// Copies trees, one after the other.
pub struct Copier {
    files: FileCopier,
    manner: Manner,
    write_type: WriteType,
    running: FuturesUnordered<BoxFuture<'static, FsResult<()>>>,
    /// With `preserve`, in the order they were met.
    folders: Vec<(Location, Meta)>,
    copied: u64,
}

/// What is known of a file that is to be copied, wherever it is.
#[derive(Clone, Debug)]
struct Meta {
    kind: FileKind,
    mode: u32,
    owner: String,
    group: String,
    atime_ns: i64,
    mtime_ns: i64,
    /// In Alluxio.
    inode: u64,
}

impl Copier {
    /// Shows progress if stderr is a terminal.
    pub fn new(shell: &Shell<'_>, manner: Manner) -> Self {
        let progress = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template(PROGRESS) {
            progress.set_style(style);
        }
        progress.enable_steady_tick(Duration::from_millis(200));
        let umask = 0o777 & !shell.new_mode(0o777);
        let files = FileCopier {
            fs: shell.fs.clone(),
            umask,
            write_type: shell.write_type(),
            replace_local: manner.replace_local,
            progress,
        };
        Self {
            files,
            manner,
            write_type: shell.write_type(),
            running: FuturesUnordered::new(),
            folders: Vec::new(),
            copied: 0,
        }
    }

    /// Takes the progress off the screen.
    pub fn finish(&self) {
        self.files.progress.finish_and_clear();
    }

    /// Copies what is at `source` to `target`, and says how many files that were.
    pub async fn copy(
        &mut self,
        shell: &mut Shell<'_>,
        source: &Location,
        target: &Location,
    ) -> Result<u64, CommandError> {
        self.copied = 0;
        let meta = self.meta(source).await?;
        if meta.kind == FileKind::Directory && !self.manner.recursive {
            let why = format!("copy {source}: it is a folder; -R copies it with all that is in it");
            return Err(FsError::new(ErrorKind::IsADirectory, why).into());
        }
        self.step(shell, source, target, meta.clone()).await?;
        if meta.kind == FileKind::Directory {
            match source {
                Location::Alluxio(path) => self.alluxio_tree(shell, path, meta.inode, target).await?,
                Location::Local(path) => self.local_tree(shell, path, target).await?,
            }
        }
        self.drain(shell, 0).await?;
        while let Some((folder, meta)) = self.folders.pop() {
            let done = preserve(&self.files, &folder, &meta).await;
            self.note(shell, done)?;
        }
        Ok(self.copied)
    }

    async fn alluxio_tree(&mut self, shell: &mut Shell<'_>, path: &str, inode: u64, target: &Location) -> Done {
        let mut walk = Walk::new(shell.fs.clone(), path, inode, true, false);
        while let Some(item) = walk.next().await {
            let located = item.and_then(|item| {
                let below = item
                    .path
                    .get(path.trim_end_matches('/').len() + 1..)
                    .unwrap_or_default();
                let target = beneath(target, below)?;
                Ok((Location::Alluxio(utf8_path(&item)?), target, Meta::of(&item)))
            });
            match located {
                Ok((source, target, meta)) => self.step(shell, &source, &target, meta).await?,
                Err(error) => self.note(shell, Err(error))?,
            }
        }
        Ok(())
    }

    async fn local_tree(&mut self, shell: &mut Shell<'_>, root: &Path, target: &Location) -> Done {
        let mut levels = Vec::new();
        self.enter(shell, &mut levels, root)?;
        while let Some(level) = levels.last_mut() {
            let path = match level.next() {
                None => {
                    levels.pop();
                    continue;
                }
                Some(Ok(entry)) => entry.path(),
                Some(Err(error)) => {
                    let error = FsError::from_io(format!("list a folder in {}", root.display()), &error);
                    levels.pop();
                    self.note(shell, Err(error))?;
                    continue;
                }
            };
            let below = path.strip_prefix(root).unwrap_or(Path::new(""));
            let source = Location::Local(path.clone());
            let located = beneath(target, below.as_os_str().as_bytes())
                .and_then(|target| Ok((target, local_meta(&path, false)?)));
            match located {
                Ok((target, meta)) => {
                    let folder = meta.kind == FileKind::Directory;
                    self.step(shell, &source, &target, meta).await?;
                    if folder {
                        self.enter(shell, &mut levels, &path)?;
                    }
                }
                Err(error) => self.note(shell, Err(error))?,
            }
        }
        Ok(())
    }

    fn enter(&self, shell: &mut Shell<'_>, levels: &mut Vec<std::fs::ReadDir>, path: &Path) -> Done {
        let listed = if levels.len() == LEVELS_MAX {
            let why = format!("list {}: more than {LEVELS_MAX} levels", path.display());
            Err(FsError::new(ErrorKind::NameTooLong, why))
        } else {
            std::fs::read_dir(path).map_err(|error| FsError::from_io(format!("list {}", path.display()), &error))
        };
        match listed {
            Ok(level) => levels.push(level),
            Err(error) => self.note(shell, Err(error))?,
        }
        Ok(())
    }

    /// One file, folder or link. Files go on in the background, as many as are allowed.
    async fn step(&mut self, shell: &mut Shell<'_>, source: &Location, target: &Location, meta: Meta) -> Done {
        match meta.kind {
            FileKind::Directory => {
                let done = self.folder(target, meta).await;
                self.note(shell, done.map_err(|error| copying(error, source)))
            }
            FileKind::Symlink => {
                let done = self.link(source, target, &meta).await;
                self.copied += u64::from(done.is_ok());
                self.note(shell, done.map_err(|error| copying(error, source)))
            }
            FileKind::File => {
                let (files, source, target) = (self.files.clone(), source.clone(), target.clone());
                let keep = self.manner.preserve;
                self.running.push(Box::pin(async move {
                    let done = async {
                        files.copy(&source, &target, meta.mode).await?;
                        if keep {
                            preserve(&files, &target, &meta).await
                        } else {
                            Ok(())
                        }
                    };
                    done.await.map_err(|error| copying(error, &source))
                }));
                self.drain(shell, self.manner.threads.saturating_sub(1)).await
            }
            _ => {
                let why = format!("copy {source}: it is no file, folder or link");
                self.note(shell, Err(FsError::new(ErrorKind::NotSupported, why)))
            }
        }
    }

    /// Waits until not more than `allowed` files are being copied.
    async fn drain(&mut self, shell: &mut Shell<'_>, allowed: usize) -> Done {
        while self.running.len() > allowed
            && let Some(done) = self.running.next().await
        {
            self.copied += u64::from(done.is_ok());
            self.files.progress.set_message(format!("{} files", self.copied));
            self.note(shell, done)?;
        }
        Ok(())
    }

    fn note(&self, shell: &mut Shell<'_>, done: FsResult<()>) -> Done {
        match done {
            Ok(()) => Ok(()),
            failed => self.files.progress.suspend(|| shell.note(failed.map_err(Into::into))),
        }
    }

    async fn folder(&mut self, target: &Location, meta: Meta) -> FsResult<()> {
        // The owner keeps the right to put files in.
        let mode = (meta.mode & 0o777 | 0o700) & !self.files.umask;
        match target {
            Location::Alluxio(path) if path == "/" => {}
            Location::Alluxio(path) => {
                self.files.fs.mkdir(path, mode, true, self.write_type).await?;
            }
            Location::Local(path) => match std::fs::DirBuilder::new().mode(mode).create(path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => {}
                made => made.map_err(|error| FsError::from_io(format!("make folder {target}"), &error))?,
            },
        }
        if !self.manner.preserve {
            return Ok(());
        }
        if self.folders.len() == FOLDERS_MAX {
            let why = format!("keep owner and times of {target}: more than {FOLDERS_MAX} folders");
            return Err(FsError::new(ErrorKind::NotSupported, why));
        }
        self.folders.push((target.clone(), meta));
        Ok(())
    }

    async fn link(&self, source: &Location, target: &Location, meta: &Meta) -> FsResult<()> {
        let fs = &self.files.fs;
        let to = match source {
            Location::Alluxio(_) => {
                let link: LinkTarget = fs.ask(ReadLink { inode: meta.inode }).await?;
                link.target
            }
            Location::Local(path) => {
                let to = std::fs::read_link(path)
                    .map_err(|error| FsError::from_io(format!("read link {source}"), &error))?;
                Bytes::from(to.into_os_string().into_vec())
            }
        };
        match target {
            Location::Alluxio(path) => {
                let (parent, name) = split(path)?;
                let parent = fs.stat(parent).await?.inode;
                let link = Symlink {
                    parent,
                    name: name.to_owned().into(),
                    target: to,
                };
                let _: Attr = fs.change(link).await?;
                Ok(())
            }
            Location::Local(path) => {
                let to = PathBuf::from(std::ffi::OsString::from_vec(to.to_vec()));
                std::os::unix::fs::symlink(to, path)
                    .map_err(|error| FsError::from_io(format!("make link {target}"), &error))
            }
        }
    }

    /// What was typed is followed if it is a link.
    async fn meta(&self, location: &Location) -> FsResult<Meta> {
        match location {
            Location::Alluxio(path) => {
                let attr = self.files.fs.stat(path).await?;
                let path = path.clone().into_bytes();
                Ok(Meta::of(&Item { path, attr }))
            }
            Location::Local(path) => local_meta(path, true),
        }
    }
}

/// Where what is `below` the source goes.
fn beneath(target: &Location, below: &[u8]) -> FsResult<Location> {
    match target {
        Location::Alluxio(path) => {
            let below = std::str::from_utf8(below).map_err(|_| {
                let why = format!("copy {}: a name that is no UTF-8; use the mount for it", text(below));
                FsError::new(ErrorKind::InvalidArgument, why)
            })?;
            Ok(Location::Alluxio(format!("{}/{below}", path.trim_end_matches('/'))))
        }
        Location::Local(path) => Ok(Location::Local(path.join(std::ffi::OsStr::from_bytes(below)))),
    }
}

fn copying(mut error: FsError, source: &Location) -> FsError {
    if error.kind == ErrorKind::AlreadyExists {
        error.message += "; files are not replaced: remove it, or name another target";
    }
    error.context(format!("copy {source}"))
}

impl Meta {
    fn of(item: &Item) -> Self {
        let attr = &item.attr;
        Self {
            kind: attr.kind(),
            mode: attr.mode,
            owner: attr.owner.clone(),
            group: attr.group.clone(),
            atime_ns: attr.atime_ns,
            mtime_ns: attr.mtime_ns,
            inode: attr.inode,
        }
    }
}

fn local_meta(path: &Path, follow: bool) -> FsResult<Meta> {
    let found = if follow {
        std::fs::metadata(path)
    } else {
        std::fs::symlink_metadata(path)
    };
    let found = found.map_err(|error| FsError::from_io(format!("look up {}", path.display()), &error))?;
    let kind = found.file_type();
    let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    let user = nix::unistd::User::from_uid(found.uid().into()).ok().flatten();
    let group = nix::unistd::Group::from_gid(found.gid().into()).ok().flatten();
    Ok(Meta {
        kind: if kind.is_dir() {
            FileKind::Directory
        } else if kind.is_symlink() {
            FileKind::Symlink
        } else if kind.is_file() {
            FileKind::File
        } else {
            FileKind::Fifo
        },
        mode: found.mode() & 0o7777,
        owner: user.map_or_else(|| found.uid().to_string(), |user| user.name),
        group: group.map_or_else(|| found.gid().to_string(), |group| group.name),
        atime_ns: nanoseconds(found.atime(), found.atime_nsec()),
        mtime_ns: nanoseconds(found.mtime(), found.mtime_nsec()),
        inode: 0,
    })
}

/// Gives the copy owner, group, mode and times of the source.
async fn preserve(files: &FileCopier, target: &Location, meta: &Meta) -> FsResult<()> {
    let doing = || format!("keep owner, mode and times of {target}");
    match target {
        Location::Alluxio(path) => {
            let inode = files.fs.stat(path).await?.inode;
            let set = SetAttr {
                inode,
                mode: Some(meta.mode & 0o7777),
                owner: Some(meta.owner.clone()),
                group: Some(meta.group.clone()),
                atime_ns: Some(meta.atime_ns),
                mtime_ns: Some(meta.mtime_ns),
                ..Default::default()
            };
            let set: FsResult<Attr> = files.fs.change(set).await;
            set.map(drop).map_err(|error| error.context(doing()))
        }
        Location::Local(path) => preserve_local(path, meta).map_err(|error| FsError::from_io(doing(), &error)),
    }
}

fn preserve_local(path: &Path, meta: &Meta) -> std::io::Result<()> {
    use std::os::unix::fs::{PermissionsExt, chown};
    let unknown = |what: &str| std::io::Error::other(format!("{what} is not known on this host"));
    let uid = match meta.owner.parse() {
        Ok(uid) => uid,
        Err(_) => nix::unistd::User::from_name(&meta.owner)?
            .ok_or_else(|| unknown(&meta.owner))?
            .uid
            .as_raw(),
    };
    let gid = match meta.group.parse() {
        Ok(gid) => gid,
        Err(_) => nix::unistd::Group::from_name(&meta.group)?
            .ok_or_else(|| unknown(&meta.group))?
            .gid
            .as_raw(),
    };
    chown(path, Some(uid), Some(gid))?;
    // After the owner: a change of owner takes setuid away.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(meta.mode & 0o7777))?;
    let time = |nanoseconds: i64| {
        let span = Duration::from_nanos(nanoseconds.unsigned_abs());
        if nanoseconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(span)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(span)
        }
        .unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let times = std::fs::FileTimes::new()
        .set_accessed(time(meta.atime_ns))
        .set_modified(time(meta.mtime_ns));
    std::fs::File::open(path)?.set_times(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_keeps_its_place() {
        let alluxio = Location::Alluxio("/t".into());
        assert_eq!(beneath(&alluxio, b"a/b").unwrap(), Location::Alluxio("/t/a/b".into()));
        assert_eq!(
            beneath(&Location::Alluxio("/".into()), b"a").unwrap(),
            Location::Alluxio("/a".into())
        );
        assert_eq!(beneath(&alluxio, b"\xff").unwrap_err().kind, ErrorKind::InvalidArgument);
        let local = beneath(&Location::Local("/l".into()), b"\xff").unwrap();
        assert_eq!(
            local,
            Location::Local(PathBuf::from(std::ffi::OsString::from_vec(b"/l/\xff".to_vec())))
        );
    }

    #[test]
    fn a_copy_of_this_host_can_be_made_alike() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "x").unwrap();
        let mut meta = local_meta(&path, false).unwrap();
        (meta.mode, meta.mtime_ns, meta.atime_ns) = (0o640, 1_500_000_001, -2_000_000_000);
        preserve_local(&path, &meta).unwrap();
        let now = local_meta(&path, false).unwrap();
        assert_eq!(
            (now.mode, now.mtime_ns, now.atime_ns),
            (0o640, 1_500_000_001, -2_000_000_000)
        );
        meta.owner = "no such user here".into();
        assert!(preserve_local(&path, &meta).is_err());
    }
}
