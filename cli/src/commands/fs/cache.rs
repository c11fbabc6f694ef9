//! Where data is: `persist`, `free`, `load`.

use super::Shell;
use super::contents::about;
use super::walk::{Item, Walk};
use crate::args::fs::{LoadArgs, Parallel};
use crate::commands::Done;
use crate::output::{away_lines, complain, text};
use alluxio_client::FileSystem;
use alluxio_common::config::keys;
use alluxio_proto::master::{Counted, GetReport, Report};
use alluxio_proto::types::FileKind;
use alluxio_proto::{ErrorKind, FsError};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::time::{Duration, Instant};

/// After so long without an end it is told what is waited for, and again when that changes.
const PROGRESS_PAUSE: Duration = Duration::from_secs(5);

/// Waits until files are in the under-storage, for `limit` from `begun` on.
pub async fn persist(shell: &mut Shell<'_>, begun: Instant, limit: Duration) -> Done {
    let left = || limit.saturating_sub(begun.elapsed());
    let over = || format!("{limit:?} (-t) are over; it goes on in the background");
    let late = |_| FsError::new(ErrorKind::Timeout, format!("persist: look the paths up: {}", over()));
    let paths = tokio::time::timeout(left(), shell.expanded("persist"))
        .await
        .map_err(late)??;
    for path in paths {
        if left().is_zero() {
            let why = format!("persist {path}: not waited for: {}", over());
            shell.note(Err(FsError::new(ErrorKind::Timeout, why).into()))?;
            continue;
        }
        match persist_one(shell, &path, left()).await {
            Ok(_) => shell.out.line(format!("persisted {path}"))?,
            Err(error) => shell.note(Err(about(error, "persist", &path).into()))?,
        }
    }
    shell.finish().await
}

/// Persists one path; a wait of some length is told, with what is waited for.
async fn persist_one(shell: &mut Shell<'_>, path: &str, limit: Duration) -> Result<Counted, FsError> {
    let waiting = shell.fs.persist(path, true, limit);
    tokio::pin!(waiting);
    let pattern = shell.conf.string(&keys::user::DATE_FORMAT);
    let mut said = String::new();
    let started = Instant::now();
    loop {
        tokio::select! {
            done = &mut waiting => return done,
            () = tokio::time::sleep(PROGRESS_PAUSE) => {}
        }
        // Both at once: what is told must not keep anybody waiting.
        let state = tokio::select! {
            done = &mut waiting => return done,
            state = waited_for(&shell.fs, &pattern) => state,
        };
        if state != said {
            let left = limit.saturating_sub(started.elapsed());
            // What was printed so far comes before it; a closed stdout is found out by the next result.
            let _ = shell.out.flush();
            complain(format_args!(
                "persist {path}: waiting for {} s at most: {state}",
                left.as_secs()
            ));
            said = state;
        }
    }
}

/// What the master has to do yet, and which stores do not answer.
async fn waited_for(fs: &FileSystem, pattern: &str) -> String {
    let report: Result<Report, FsError> = fs.ask(GetReport::default()).await;
    match report {
        Ok(report) => {
            let mut parts = vec![match report.persist_pending {
                1 => "1 change to go".to_owned(),
                changes => format!("{changes} changes to go"),
            }];
            parts.extend(away_lines(&report.away, pattern));
            parts.join("; ")
        }
        Err(error) => format!("the master does not answer: {error}"),
    }
}

/// Asks for cached data to be dropped. Workers do it with their next heartbeat, as in Alluxio: nobody is waited for.
pub async fn free(shell: &mut Shell<'_>, force: bool) -> Done {
    for path in shell.expanded("free").await? {
        match shell.fs.free(&path, force).await {
            Ok(_) => shell.out.line(format!("{path} is being freed from Alluxio space."))?,
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
            // Also what the master believes to be there: a worker may be about to drop it.
            Some(Ok(item)) if item.attr.kind() == FileKind::File && item.attr.size > 0 => match utf8_path(&item) {
                Ok(path) => running.push(load_file(shell.fs.clone(), path)),
                Err(error) => shell.note(Err(error.into()))?,
            },
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
