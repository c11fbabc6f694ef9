//! `cp`, `copyFromLocal`, `copyToLocal`: trees between Alluxio and this host, several files at once.
//!
//! A file appears under its name when it is complete, in Alluxio by its commit, on this host by a rename. Links are copied as
//! links, what is neither file, folder nor link is told and left out. One failure does not stop the others; the exit status
//! tells.

mod file;
mod location;
mod tree;

use super::Shell;
use super::cache::threads;
use super::contents::about;
use crate::args::fs::{CopyArgs, CopyFromLocalArgs, CopyToLocalArgs};
use crate::commands::{CommandError, Done};
use crate::output::Out;
use alluxio_common::config::Configuration;
use alluxio_proto::{ErrorKind, FsError};
use location::Location;
use tree::Copier;

/// How a copy is done.
#[derive(Clone, Copy, Debug)]
struct Manner {
    recursive: bool,
    preserve: bool,
    /// An existing file of this host is replaced. In Alluxio it never is, as in Alluxio's own shell.
    replace_local: bool,
    /// Files at once.
    threads: usize,
}

/// Copies within Alluxio, into it, or out of it.
pub async fn cp(conf: &Configuration, args: &CopyArgs, out: &mut Out) -> Done {
    let (source, target) = (Location::parse(&args.source)?, Location::parse(&args.target)?);
    if matches!((&source, &target), (Location::Local(_), Location::Local(_))) {
        let why = "copy: both locations are on this host; one must be in Alluxio";
        return Err(CommandError::Usage(why.to_owned()));
    }
    let manner = Manner {
        recursive: args.recursive,
        preserve: args.preserve,
        replace_local: false,
        threads: threads(args.parallel),
    };
    copy(conf, vec![source], target, args.target.ends_with('/'), manner, out).await
}

/// Copies from this host into Alluxio.
pub async fn from_local(conf: &Configuration, args: &CopyFromLocalArgs, out: &mut Out) -> Done {
    let sources = args
        .sources
        .iter()
        .map(|path| Location::local(path))
        .collect::<Result<_, _>>()?;
    let target = match Location::parse(&args.target)? {
        Location::Local(_) => {
            return Err(CommandError::Usage(format!(
                "copy to {}: name a path in Alluxio",
                args.target
            )));
        }
        target => target,
    };
    let manner = Manner {
        recursive: true,
        preserve: false,
        replace_local: false,
        threads: threads(args.parallel),
    };
    copy(conf, sources, target, args.target.ends_with('/'), manner, out).await
}

/// Copies out of Alluxio to this host.
pub async fn to_local(conf: &Configuration, args: &CopyToLocalArgs, out: &mut Out) -> Done {
    let source = match Location::parse(&args.source)? {
        Location::Local(_) => {
            return Err(CommandError::Usage(format!(
                "copy {}: name a path in Alluxio",
                args.source
            )));
        }
        source => source,
    };
    let into = args.target.as_os_str().as_encoded_bytes().ends_with(b"/");
    let manner = Manner {
        recursive: true,
        preserve: false,
        replace_local: true,
        threads: threads(args.parallel),
    };
    copy(conf, vec![source], Location::local(&args.target)?, into, manner, out).await
}

/// `folder`: the target was written as a folder.
async fn copy(
    conf: &Configuration,
    sources: Vec<Location>,
    target: Location,
    folder: bool,
    manner: Manner,
    out: &mut Out,
) -> Done {
    let typed: Vec<String> = sources.iter().chain([&target]).filter_map(Location::typed).collect();
    let mut shell = Shell::open(conf, &typed, out).await?;
    // The shell has the paths without their masters, in the same order.
    let mut paths = std::mem::take(&mut shell.paths).into_iter();
    let mut expanded = Vec::new();
    for source in sources {
        match source {
            Location::Alluxio(_) => {
                shell.paths.extend(paths.next());
                expanded.extend(shell.expanded("copy").await?.into_iter().map(Location::Alluxio));
            }
            local @ Location::Local(_) => expanded.push(local),
        }
    }
    let target = match target {
        Location::Alluxio(_) => Location::Alluxio(paths.next().unwrap_or_default()),
        local @ Location::Local(_) => local,
    };
    let into = into_folder(&shell, &target, folder || expanded.len() > 1).await?;
    let mut copier = Copier::new(&shell, manner);
    for source in expanded {
        let done = one(&mut shell, &mut copier, &source, &target, into).await;
        shell.note(done)?;
    }
    copier.finish();
    shell.finish().await
}

/// Whether the target is a folder to copy into. It is made if `wanted` and absent.
async fn into_folder(shell: &Shell<'_>, target: &Location, wanted: bool) -> Result<bool, CommandError> {
    match target.is_folder(&shell.fs).await? {
        Some(false) if wanted => {
            let why = format!("copy to {target}: it is no folder");
            Err(FsError::new(ErrorKind::NotADirectory, why).into())
        }
        None if wanted => {
            target.make_folders(shell).await?;
            Ok(true)
        }
        found => Ok(found == Some(true)),
    }
}

async fn one(shell: &mut Shell<'_>, copier: &mut Copier, source: &Location, target: &Location, into: bool) -> Done {
    let target = if into {
        let name = source.name().ok_or_else(|| {
            let why = format!("copy {source} into {target}: it has no name; name the target in full");
            CommandError::Usage(why)
        })?;
        target.join(&name)
    } else {
        // Alluxio makes the folders above a new file; on this host that would hide a typing error.
        if let (Location::Alluxio(_), Some(parent)) = (target, target.parent()) {
            parent.make_folders(shell).await?;
        }
        target.clone()
    };
    if target.is_within(source) {
        let why = format!("copy {source} to {target}: a folder cannot be copied into itself");
        return Err(FsError::new(ErrorKind::InvalidArgument, why).into());
    }
    let failures = shell.failures;
    let copied = copier.copy(shell, source, &target).await.map_err(|error| match error {
        CommandError::Failed(error) => CommandError::Failed(about(error, "copy", &source.to_string())),
        other => other,
    })?;
    if shell.failures == failures {
        shell.out.line(format!("Copied {source} to {target}"))?;
    } else {
        let failed = shell.failures - failures;
        shell.out.line(format!(
            "Copied {copied} file(s) of {source} to {target}; {failed} failed"
        ))?;
    }
    Ok(())
}
