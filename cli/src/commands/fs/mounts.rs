//! The mount table: `mount`, `unmount`.

use super::Shell;
use super::contents::about;
use crate::args::Format;
use crate::args::fs::MountArgs;
use crate::commands::{CommandError, Done, caller, fsadmin};
use alluxio_proto::FsError;
use alluxio_proto::master::{Empty, GetMounts, Mount, MountInfo, MountTable, Unmount};
use alluxio_proto::types::Property;
use std::time::Duration;

/// How long mounting is tried again: what cannot be reached now is more likely misspelt than about to come up, and a person
/// looks on.
const RETRY_TOTAL: Duration = Duration::from_secs(5);

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
    let master = shell.fs.master().clone().with_retry_total(RETRY_TOTAL);
    let mounted: MountInfo = master
        .change(&caller(shell.conf), mount)
        .await
        .map_err(|error| about(error, &doing, &path))?;
    let done = if args.update {
        "Changed the options of"
    } else {
        "Mounted"
    };
    shell.out.line(format!("{done} {} at {path}", mounted.uri))?;
    shell.finish().await
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
