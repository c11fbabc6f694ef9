//! The mount table: `mount`, `unmount`.

use super::Shell;
use super::contents::about;
use crate::args::Format;
use crate::args::fs::MountArgs;
use crate::commands::{CommandError, Done, caller, fsadmin};
use crate::output::complain;
use alluxio_common::config::{self, Meaning, keys};
use alluxio_proto::master::{Empty, GetMounts, Mount, MountInfo, MountTable, Unmount};
use alluxio_proto::types::Property;
use alluxio_proto::{ErrorKind, FsError};
use std::time::Duration;

/// How long the master may take to mount: it tries some times to reach the store. Nothing is tried again here: what cannot be
/// reached now is more likely misspelt than about to come up, and a person looks on.
const MOUNT_MAX: Duration = Duration::from_secs(20);

/// Whether the arguments go together: a path wants what to mount there, unless it is mounted already.
pub fn check(args: &MountArgs) -> Result<(), CommandError> {
    match args.path.is_some() && args.uri.is_none() && !args.update {
        true => Err(CommandError::Usage(
            "mount: <URI> is missing: what is to be mounted there? Without arguments the mount table is printed"
                .to_owned(),
        )),
        false => Ok(()),
    }
}

/// Mounts an under-storage, or prints what is mounted.
pub async fn mount(shell: &mut Shell<'_>, args: &MountArgs) -> Done {
    if args.path.is_none() {
        return table(shell, args).await;
    }
    let uri = args.uri.as_deref().unwrap_or_default();
    let path = shell.paths.pop().unwrap_or_default();
    let mount = Mount {
        path: path.clone().into(),
        uri: uri.to_owned(),
        read_only: args.readonly,
        shared: args.shared,
        options: options(args)?,
        update: args.update,
    };
    let doing = match args.update {
        true => "change the options of the mount at".to_owned(),
        false => format!("mount {uri} at"),
    };
    let options = mount.options.clone();
    let caller = caller(shell.conf);
    let asking = shell.fs.master().once(&caller, mount);
    let answer: Result<MountInfo, FsError> = tokio::time::timeout(MOUNT_MAX, asking).await.unwrap_or_else(|_| {
        let why = format!("the master has not answered for {MOUNT_MAX:?}, since the store does not answer it");
        Err(FsError::new(ErrorKind::Timeout, why))
    });
    let mounted = match answer {
        Ok(mounted) => mounted,
        Err(error) if error.kind == ErrorKind::Busy => return Err(busy(shell, error, &doing, &path).await.into()),
        Err(error) => return Err(refused(error, &doing, &path, uri, &options).into()),
    };
    let done = if args.update {
        "Changed the options of"
    } else {
        "Mounted"
    };
    shell.out.line(format!("{done} {} at {path}", mounted.uri))?;
    shell.finish().await
}

/// What is mounted at the path already, if that is why.
async fn busy(shell: &Shell<'_>, error: FsError, doing: &str, path: &str) -> FsError {
    let table: Result<MountTable, FsError> = shell.fs.ask(GetMounts::default()).await;
    let mounts = table.map(|table| table.mounts).unwrap_or_default();
    match mounts.iter().find(|mount| mount.path == path.as_bytes()) {
        Some(mount) => {
            let why = format!(
                "{doing} {path}: {} is mounted there already; --update gives that mount other options, \
                 `alluxio fs unmount {path}` takes it off",
                mount.uri
            );
            FsError::new(error.kind, why)
        }
        None => about(error, doing, path),
    }
}

/// Why it was not mounted, and what to look at.
fn refused(error: FsError, doing: &str, path: &str, uri: &str, options: &[Property]) -> FsError {
    if error.kind == ErrorKind::NotEmpty {
        let why = format!("{doing} {path}: it has entries; name a path that is free, or an empty folder");
        return FsError::new(error.kind, why);
    }
    let (endpoint, key, secret) = (
        keys::underfs::S3_ENDPOINT.name,
        keys::underfs::S3_ACCESS_KEY.name,
        keys::underfs::S3_SECRET_KEY.name,
    );
    // With --update the URI may be left out; the options are of an S3 store all the same.
    let of_s3 = uri.starts_with("s3") || options.iter().any(|option| option.key == endpoint);
    let given = options.iter().find(|option| option.key == endpoint);
    let hint = match (error.kind, given) {
        _ if !of_s3 => String::new(),
        (ErrorKind::Unavailable | ErrorKind::Timeout, Some(given)) => format!(
            "; is {endpoint}={} right, and does the master's host reach it?",
            given.value
        ),
        (ErrorKind::Unavailable | ErrorKind::Timeout, None) => format!(
            "; no {endpoint} is among the options, so it is that of the servers, or AWS; name another with --option \
             {endpoint}=http://HOST:PORT"
        ),
        (ErrorKind::UfsDenied, _) => format!("; {key} and {secret} go into --option-file, else the servers' own count"),
        _ => String::new(),
    };
    let mut error = about(error, doing, path);
    error.message += &hint;
    error
}

/// Starts of the names of options of under-storages.
const FAMILIES: [&str; 2] = ["alluxio.underfs.", "s3a."];

/// Refuses an option that is a slip of the fingers: the store would be used without it, perhaps another store altogether. What
/// else has no effect is said.
fn check_name(name: &str) -> Result<(), CommandError> {
    let of_store = FAMILIES.iter().any(|start| name.starts_with(start));
    let said = match config::meaning(name) {
        Meaning::Honoured(_) if of_store => return Ok(()),
        Meaning::Honoured(_) => "no effect on a mount".to_owned(),
        Meaning::NoEffect => "accepted, no effect".to_owned(),
        Meaning::Unknown | Meaning::PassedThrough if of_store && config::nearest(name).is_some() => {
            let near = config::nearest(name).unwrap_or_default();
            return Err(CommandError::Usage(format!(
                "option {name} is unknown; did you mean {near}?"
            )));
        }
        Meaning::PassedThrough => return Ok(()),
        Meaning::Unknown => match config::nearest(name) {
            Some(near) => format!("unknown; did you mean {near}?"),
            None => "unknown, no effect".to_owned(),
        },
    };
    complain(format_args!("warning: option {name}: {said}"));
    Ok(())
}

/// Those of the file, then those of the command line, which win.
fn options(args: &MountArgs) -> Result<Vec<Property>, CommandError> {
    let mut options: Vec<Property> = Vec::new();
    let text = match &args.option_file {
        None => String::new(),
        Some(path) if path.as_os_str() == "-" => std::io::read_to_string(std::io::stdin())
            .map_err(|error| FsError::from_io("read the options from standard input", &error))?,
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| FsError::from_io(format!("read the options in {}", path.display()), &error))?,
    };
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    for text in lines.chain(args.options.iter().map(String::as_str)) {
        let option = property(text)?;
        options.retain(|known| known.key != option.key);
        options.push(option);
    }
    for option in &options {
        check_name(&option.key)?;
    }
    Ok(options)
}

async fn table(shell: &mut Shell<'_>, args: &MountArgs) -> Done {
    if args.path.is_some() || args.readonly || args.shared || !args.options.is_empty() || args.option_file.is_some() {
        let why = "mount: name a path and an under-storage, such as `alluxio fs mount /s3 s3://bucket/prefix`";
        return Err(CommandError::Usage(why.to_owned()));
    }
    let table: MountTable = shell
        .fs
        .ask(GetMounts::default())
        .await
        .map_err(|error| error.context("list mounts"))?;
    match args.format {
        Format::Json => shell.out.json_pretty(&fsadmin::mounts_json(&table.mounts))?,
        Format::Text => {
            for line in fsadmin::mount_lines(&table.mounts) {
                shell.out.line(line)?;
            }
        }
    }
    shell.finish().await
}

fn property(text: &str) -> Result<Property, CommandError> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok(Property {
            key: key.trim().to_owned(),
            value: value.to_owned(),
        }),
        _ => Err(CommandError::Usage(format!("--option {text:?}: must be key=value"))),
    }
}

/// Takes mounts off the tree.
pub async fn unmount(shell: &mut Shell<'_>) -> Done {
    for path in std::mem::take(&mut shell.paths) {
        let unmount = Unmount {
            path: path.clone().into(),
        };
        let done: Result<Empty, _> = shell.fs.change(unmount).await;
        match done {
            Ok(Empty {}) => shell.out.line(format!("Unmounted {path}"))?,
            Err(error) => shell.note(Err(about(error, "unmount", &path).into()))?,
        }
    }
    shell.finish().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_are_slips_are_refused() {
        for (name, meant) in [
            ("alluxio.underfs.s3.endpont", "alluxio.underfs.s3.endpoint"),
            ("alluxio.underfs.s3.regin", "alluxio.underfs.s3.region"),
            ("s3a.accesskeyid", "s3a.accessKeyId"),
            ("s3a.secretKye", "s3a.secretKey"),
        ] {
            let Err(CommandError::Usage(why)) = check_name(name) else {
                panic!("{name} is taken")
            };
            assert!(
                why.contains(name) && why.contains(&format!("did you mean {meant}?")),
                "{why}"
            );
        }
        // Known, of no effect, or for others to understand.
        for name in [
            "alluxio.underfs.s3.endpoint",
            "s3a.accessKeyId",
            "alluxio.underfs.s3.inherit.acl",
            "alluxio.underfs.something.else.altogether",
            "fs.azure.account.key.x",
            "alluxio.master.hostname",
        ] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_store_that_is_not_reached_names_the_property() {
        let said = |kind, options: &[Property]| {
            let error = FsError::new(kind, "mount s3://b/y at /d: it is away");
            refused(error, "mount s3://b/y at", "/d", "s3://b/y", options).message
        };
        let option = property("alluxio.underfs.s3.endpoint=http://far:1").unwrap();
        let given = said(ErrorKind::Unavailable, &[option]);
        assert!(
            given.contains("alluxio.underfs.s3.endpoint=http://far:1") && given.contains("master's host"),
            "{given}"
        );
        assert!(said(ErrorKind::Timeout, &[]).contains("--option alluxio.underfs.s3.endpoint="));
        assert!(said(ErrorKind::UfsDenied, &[]).contains("s3a.secretKey"));
        assert_eq!(said(ErrorKind::NotFound, &[]), "mount s3://b/y at /d: it is away");
        let filled = said(ErrorKind::NotEmpty, &[]);
        assert!(filled.starts_with("mount s3://b/y at /d: it has entries"), "{filled}");
    }
}
