//! `alluxio fs …`: files by path.

mod cache;
mod change;
mod consistency;
mod contents;
mod copy;
mod ls;
mod mode;
mod mounts;
mod stat;
mod sums;
mod walk;

use super::connect::Targets;
use super::{CommandError, Done};
use crate::args::fs::FsCommand;
use crate::output::{Out, complain};
use alluxio_client::FileSystem;
use alluxio_common::config::{Configuration, keys};
use alluxio_proto::types::WriteType;
use alluxio_proto::{ErrorKind, FsError};
use std::time::{Duration, Instant};

/// Permission bits of a new file before the umask.
const FILE_MODE: u32 = 0o666;
/// Permission bits of a new folder before the umask.
const FOLDER_MODE: u32 = 0o777;

/// Runs one command.
pub fn fs(conf: &Configuration, command: FsCommand, out: &mut Out) -> Done {
    crate::logging::start(conf, crate::logging::Default::Error)?;
    crate::runtime()?.block_on(run(conf, command, out))
}

async fn run(conf: &Configuration, command: FsCommand, out: &mut Out) -> Done {
    match command {
        FsCommand::Ls(args) => ls::ls(&mut Shell::open(conf, &args.paths, out).await?, &args).await,
        FsCommand::Cat { paths } => contents::cat(&mut Shell::open(conf, &paths, out).await?).await,
        FsCommand::Head(args) => contents::head(&mut Shell::open(conf, &args.paths, out).await?, args.bytes).await,
        FsCommand::Tail(args) => contents::tail(&mut Shell::open(conf, &args.paths, out).await?, args.bytes).await,
        FsCommand::Checksum { paths } => contents::checksum(&mut Shell::open(conf, &paths, out).await?).await,
        FsCommand::Stat(args) => stat::stat(&mut Shell::open(conf, &args.paths, out).await?, &args).await,
        FsCommand::Test(args) => stat::test(&mut Shell::open(conf, [&args.path], out).await?, &args).await,
        FsCommand::Location { paths } => stat::location(&mut Shell::open(conf, &paths, out).await?).await,
        FsCommand::Du(args) => sums::du(&mut Shell::open(conf, &args.paths, out).await?, &args).await,
        FsCommand::Count {
            human, format, paths, ..
        } => sums::count(&mut Shell::open(conf, &paths, out).await?, human, format).await,
        FsCommand::Mkdir { parents, paths } => change::mkdir(&mut Shell::open(conf, &paths, out).await?, parents).await,
        FsCommand::Touch { paths } => change::touch(&mut Shell::open(conf, &paths, out).await?).await,
        FsCommand::Mv { source, target } => change::mv(&mut Shell::open(conf, [&source, &target], out).await?).await,
        FsCommand::Rm(args) => change::rm(&mut Shell::open(conf, &args.paths, out).await?, &args).await,
        FsCommand::Chmod(args) => mode::chmod(&mut Shell::open(conf, &args.paths, out).await?, &args).await,
        FsCommand::Chown(args) => mode::chown(&mut Shell::open(conf, &args.paths, out).await?, &args).await,
        FsCommand::Chgrp(args) => mode::chgrp(&mut Shell::open(conf, &args.paths, out).await?, &args).await,
        FsCommand::Mount(args) => {
            mounts::check(&args)?;
            mounts::mount(&mut Shell::open(conf, &args.path, out).await?, &args).await
        }
        FsCommand::Unmount { paths } => mounts::unmount(&mut Shell::open(conf, &paths, out).await?).await,
        FsCommand::Persist(args) => {
            let (begun, limit) = (Instant::now(), Duration::from_millis(args.timeout.max(1)));
            let late = |_| {
                let why = format!("persist: no master has answered for {limit:?} (-t); is one running?");
                FsError::new(ErrorKind::Timeout, why)
            };
            let mut shell = tokio::time::timeout(limit, Shell::open(conf, &args.paths, out))
                .await
                .map_err(late)??;
            cache::persist(&mut shell, begun, limit).await
        }
        FsCommand::CheckConsistency { repair, paths } => {
            consistency::check(&mut Shell::open(conf, &paths, out).await?, repair).await
        }
        FsCommand::Free { force, paths } => cache::free(&mut Shell::open(conf, &paths, out).await?, force).await,
        FsCommand::Load(args) => cache::load(&mut Shell::open(conf, &args.paths, out).await?, &args).await,
        FsCommand::Cp(args) => copy::cp(conf, &args, out).await,
        FsCommand::CopyFromLocal(args) => copy::from_local(conf, &args, out).await,
        FsCommand::CopyToLocal(args) => copy::to_local(conf, &args, out).await,
    }
}

/// What a command works with: a file system, the paths that were typed, and where to print.
struct Shell<'a> {
    conf: &'a Configuration,
    fs: FileSystem,
    /// Absolute, wildcards not yet replaced.
    paths: Vec<String>,
    out: &'a mut Out,
    failures: u64,
}

impl<'a> Shell<'a> {
    async fn open<'p>(
        conf: &'a Configuration,
        paths: impl IntoIterator<Item = &'p String>,
        out: &'a mut Out,
    ) -> Result<Shell<'a>, CommandError> {
        let targets = Targets::parse(paths)?;
        let fs = targets.connect(conf).await?;
        Ok(Self {
            conf,
            fs,
            paths: targets.paths,
            out,
            failures: 0,
        })
    }

    /// All paths, wildcards replaced. A pattern that matches nothing is a failure of its own.
    async fn expanded(&mut self, doing: &str) -> Result<Vec<String>, CommandError> {
        let mut all = Vec::new();
        for pattern in std::mem::take(&mut self.paths) {
            let found = self.fs.glob(&pattern).await;
            let found = found.map_err(|error| contents::about(error, doing, &pattern));
            match found {
                Ok(found) if found.is_empty() => {
                    let why = format!("{doing} {pattern}: nothing matches");
                    self.note(Err(FsError::new(ErrorKind::NotFound, why).into()))?;
                }
                Ok(found) => all.extend(found),
                Err(error) => self.note(Err(error.into()))?,
            }
        }
        Ok(all)
    }

    /// Tells a failure with one of several things, and goes on with the next; without readers there is no going on.
    fn note(&mut self, done: Done) -> Done {
        match done {
            Err(CommandError::Failed(error)) => {
                // What was printed so far comes before what is said now.
                self.out.flush()?;
                complain(error);
                self.failures += 1;
                Ok(())
            }
            other => other,
        }
    }

    /// Ends the session; the status says whether all was done.
    async fn finish(&mut self) -> Done {
        // A session that cannot be closed expires; nothing that was promised depends on it.
        if let Err(error) = self.fs.close().await {
            tracing::warn!(%error, "close the session");
        }
        if self.failures == 0 {
            Ok(())
        } else {
            Err(CommandError::Status(1))
        }
    }

    /// Permission bits of something new.
    fn new_mode(&self, mode: u32) -> u32 {
        mode & !self.conf.octal(&keys::general::UMASK)
    }

    /// When what is written reaches the under-storage.
    fn write_type(&self) -> WriteType {
        match self.conf.string(&keys::user::WRITE_TYPE).as_str() {
            "MUST_CACHE" => WriteType::MustCache,
            "CACHE_THROUGH" => WriteType::CacheThrough,
            "THROUGH" => WriteType::Through,
            _ => WriteType::AsyncThrough,
        }
    }
}

/// `parent/name`, where the parent may be the root.
fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = parent.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
