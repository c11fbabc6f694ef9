//! Where data is: `persist`, `free`, `load`.

use super::Shell;
use super::contents::about;
use super::walk::{Item, Walk};
use crate::args::fs::{LoadArgs, Parallel};
use crate::commands::Done;
use crate::output::text;
use alluxio_client::FileSystem;
use alluxio_proto::types::FileKind;
use alluxio_proto::{ErrorKind, FsError};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

/// Waits until files are in the under-storage.
pub async fn persist(shell: &mut Shell<'_>, timeout_ms: u64) -> Done {
    for path in shell.expanded("persist").await? {
        // 0 is the master's default, and nobody who types 0 means twenty minutes.
        match shell.fs.persist(&path, true, timeout_ms.max(1)).await {
            Ok(counted) => shell.out.line(format!(
                "persisted {path}: {} file(s) in the under-storage, {} bytes",
                counted.files, counted.bytes
            ))?,
            Err(error) => shell.note(Err(about(error, "persist", &path).into()))?,
        }
    }
    shell.finish().await
}

/// Drops cached data.
pub async fn free(shell: &mut Shell<'_>, force: bool) -> Done {
    for path in shell.expanded("free").await? {
        match shell.fs.free(&path, force).await {
            Ok(_) => shell
                .out
                .line(format!("{path} was successfully freed from Alluxio space."))?,
            Err(error) => shell.note(Err(about(error, "free", &path).into()))?,
        }
    }
    shell.finish().await
}

/// Fetches files into the cache, several at once.
pub async fn load(shell: &mut Shell<'_>, args: &LoadArgs) -> Done {
    let limit = threads(args.parallel);
    for path in shell.expanded("load").await? {
        let failures = shell.failures;
        match shell.fs.stat(&path).await {
            Ok(attr) if attr.kind() == FileKind::Directory => load_tree(shell, &path, attr.inode, limit).await?,
            Ok(_) => {
                let done = load_file(shell.fs.clone(), path.clone()).await;
                shell.note(done.map_err(Into::into))?;
            }
            Err(error) => shell.note(Err(about(error, "load", &path).into()))?,
        }
        if shell.failures == failures {
            shell.out.line(format!("{path} loaded"))?;
        }
    }
    shell.finish().await
}

/// How many files at once.
pub fn threads(parallel: Parallel) -> usize {
    match parallel.threads {
        0 => 2 * std::thread::available_parallelism().map_or(1, usize::from),
        threads => usize::from(threads),
    }
}

async fn load_tree(shell: &mut Shell<'_>, path: &str, inode: u64, limit: usize) -> Done {
    let mut walk = Walk::new(shell.fs.clone(), path, inode, true, false);
    let mut running = FuturesUnordered::new();
    loop {
        let next = walk.next().await;
        let ended = next.is_none();
        match next {
            Some(Ok(item)) if item.attr.kind() == FileKind::File && item.attr.cached_bytes < item.attr.size => {
                match utf8_path(&item) {
                    Ok(path) => running.push(load_file(shell.fs.clone(), path)),
                    Err(error) => shell.note(Err(error.into()))?,
                }
            }
            Some(Ok(_)) | None => {}
            Some(Err(error)) => shell.note(Err(error.into()))?,
        }
        let allowed = if ended { 0 } else { limit.saturating_sub(1) };
        while running.len() > allowed
            && let Some(done) = running.next().await
        {
            shell.note(done.map_err(Into::into))?;
        }
        if ended {
            return Ok(());
        }
    }
}

async fn load_file(fs: FileSystem, path: String) -> Result<(), FsError> {
    let done = async {
        let reader = fs.open(&path).await?;
        reader.load().await?;
        reader.close().await
    };
    done.await.map_err(|error| about(error, "load", &path))
}

/// A path as the path-based API takes it.
pub fn utf8_path(item: &Item) -> Result<String, FsError> {
    String::from_utf8(item.path.clone()).map_err(|_| {
        let why = format!("{}: a name that is no UTF-8; use the mount for it", text(&item.path));
        FsError::new(ErrorKind::InvalidArgument, why)
    })
}
