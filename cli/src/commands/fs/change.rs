//! Names: `mkdir`, `touch`, `mv`, `rm`.

use super::contents::about;
use super::{FILE_MODE, FOLDER_MODE, Shell};
use crate::args::fs::RmArgs;
use crate::commands::{CommandError, Done};
use alluxio_client::fs::split;
use alluxio_common::config::{Configuration, keys};
use alluxio_proto::master::SetAttr;
use alluxio_proto::types::{Attr, FileKind};
use alluxio_proto::{ErrorKind, FsError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Makes folders, with those above them. The folder itself must be new, unless `parents`.
pub async fn mkdir(shell: &mut Shell<'_>, parents: bool) -> Done {
    for path in std::mem::take(&mut shell.paths) {
        match make_folder(shell, &path, parents).await {
            Ok(()) => shell.out.line(format!("Successfully created directory {path}"))?,
            Err(error) => shell.note(Err(about(error, "make folder", &path).into()))?,
        }
    }
    shell.finish().await
}

async fn make_folder(shell: &Shell<'_>, path: &str, parents: bool) -> Result<(), FsError> {
    let (mode, write_type) = (shell.new_mode(FOLDER_MODE), shell.write_type());
    if !parents {
        let (above, _) = split(path)?;
        if above != "/" {
            shell.fs.mkdir(above, mode, true, write_type).await?;
        }
    }
    match shell.fs.mkdir(path, mode, parents, write_type).await {
        Err(error) if error.kind == ErrorKind::AlreadyExists && !parents => {
            let why = format!("make folder {path}: it exists; -p makes that no error");
            Err(FsError::new(ErrorKind::AlreadyExists, why))
        }
        made => made.map(drop),
    }
}

/// Makes empty files; of what exists the times become now.
pub async fn touch(shell: &mut Shell<'_>) -> Done {
    for path in std::mem::take(&mut shell.paths) {
        match touch_one(shell, &path).await {
            Ok(true) => shell.out.line(format!("{path} has been created"))?,
            Ok(false) => shell.out.line(format!("{path} has been touched"))?,
            Err(error) => shell.note(Err(about(error, "touch", &path).into()))?,
        }
    }
    shell.finish().await
}

/// Whether the file is new.
async fn touch_one(shell: &Shell<'_>, path: &str) -> Result<bool, FsError> {
    match shell.fs.stat(path).await {
        Ok(attr) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let now_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
            let set = SetAttr {
                inode: attr.inode,
                atime_ns: Some(now_ns),
                mtime_ns: Some(now_ns),
                times_now: true,
                ..Default::default()
            };
            let _: Attr = shell.fs.change(set).await?;
            Ok(false)
        }
        Err(error) if error.kind == ErrorKind::NotFound => {
            let (mode, write_type) = (shell.new_mode(FILE_MODE), shell.write_type());
            shell.fs.create(path, mode, false, write_type).await?.finish().await?;
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// Renames. Several sources, by a wildcard, need a folder to go to.
pub async fn mv(shell: &mut Shell<'_>) -> Done {
    let target = shell.paths.pop().unwrap_or_default();
    let sources = shell.expanded("rename").await?;
    let into = match shell.fs.stat(&target).await {
        Ok(attr) => attr.kind() == FileKind::Directory,
        Err(error) if error.kind == ErrorKind::NotFound => false,
        Err(error) => return Err(about(error, "rename to", &target).into()),
    };
    if sources.len() > 1 && !into {
        let why = format!("rename {} files to {target}: it is no folder", sources.len());
        return Err(FsError::new(ErrorKind::NotADirectory, why).into());
    }
    for source in sources {
        let done = rename(shell, &source, &target, into).await;
        shell.note(done)?;
    }
    shell.finish().await
}

async fn rename(shell: &mut Shell<'_>, source: &str, target: &str, into: bool) -> Done {
    let (_, name) = split(source)?;
    let target = if into {
        format!("{}/{name}", target.trim_end_matches('/'))
    } else {
        target.to_owned()
    };
    if target == source || target.strip_prefix(source).is_some_and(|rest| rest.starts_with('/')) {
        let why = format!("rename {source} to {target}: a folder cannot go into itself");
        return Err(CommandError::from(FsError::new(ErrorKind::InvalidArgument, why)));
    }
    shell
        .fs
        .rename(source, &target, false)
        .await
        .map_err(|error| rename_failed(error, source, &target, shell.conf))?;
    Ok(shell.out.line(format!("Renamed {source} to {target}"))?)
}

/// What to do about a rename that is refused.
fn rename_failed(error: FsError, source: &str, target: &str, conf: &Configuration) -> FsError {
    let across = &keys::user::RENAME_ACROSS_MOUNTS;
    let why = match error.kind {
        ErrorKind::AlreadyExists => {
            format!("{target} exists, and mv replaces nothing: remove it with `alluxio fs rm`, or name another target")
        }
        // With the property, what is refused is refused for a reason of its own.
        ErrorKind::CrossesMounts if !conf.bool(across) => format!(
            "they are on different mounts: copy with `alluxio fs cp -R` and remove the source, or let renames move data with \
             -D {}=true",
            across.name
        ),
        _ => return about(error, "rename", source),
    };
    FsError::new(error.kind, format!("rename {source} to {target}: {why}"))
}

/// Removes files, and folders if asked to.
pub async fn rm(shell: &mut Shell<'_>, args: &RmArgs) -> Done {
    for path in shell.expanded("remove").await? {
        match remove(shell, args, &path).await {
            Ok(()) if args.alluxio_only => {
                shell
                    .out
                    .line(format!("{path} has been removed from Alluxio space only"))?;
            }
            Ok(()) => shell.out.line(format!("{path} has been removed"))?,
            Err(error) => shell.note(Err(about(error, "remove", &path).into()))?,
        }
    }
    shell.finish().await
}

async fn remove(shell: &Shell<'_>, args: &RmArgs, path: &str) -> Result<(), FsError> {
    split(path)?;
    let attr = shell.fs.stat(path).await?;
    if attr.kind() == FileKind::Directory && !args.recursive {
        let why = format!("remove {path}: it is a folder; -R removes it with all that is in it");
        return Err(FsError::new(ErrorKind::IsADirectory, why));
    }
    shell.fs.delete(path, args.recursive, args.alluxio_only).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_rename_says_what_to_do() {
        let said = |kind, conf: &Configuration| {
            let error = FsError::new(kind, "rename /a to /b: \"a\" would move to another mount");
            rename_failed(error, "/a", "/b", conf).message
        };
        let mut conf = Configuration::default();
        let across = said(ErrorKind::CrossesMounts, &conf);
        for word in [
            "rename /a to /b: ",
            "fs cp -R",
            "alluxio.user.rename.across.mounts=true",
        ] {
            assert!(across.contains(word), "{across}");
        }
        let exists = said(ErrorKind::AlreadyExists, &conf);
        assert!(
            exists.starts_with("rename /a to /b: /b exists") && exists.contains("fs rm"),
            "{exists}"
        );
        conf.set(keys::user::RENAME_ACROSS_MOUNTS.name, "true");
        let refused = said(ErrorKind::CrossesMounts, &conf);
        assert_eq!(refused, "rename /a to /b: \"a\" would move to another mount");
    }
}
