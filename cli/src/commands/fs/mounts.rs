//! The mount table: `mount`, `unmount`.

use super::Shell;
use super::contents::about;
use crate::args::Format;
use crate::args::fs::MountArgs;
use crate::commands::{CommandError, Done, fsadmin};
use alluxio_proto::master::{Empty, GetMounts, Mount, MountInfo, MountTable, Op, Unmount};
use alluxio_proto::types::Property;

/// Mounts an under-storage, or prints what is mounted.
pub async fn mount(shell: &mut Shell<'_>, args: &MountArgs) -> Done {
    let Some(uri) = &args.uri else {
        return table(shell, args).await;
    };
    let path = shell.paths.pop().unwrap_or_default();
    let mount = Mount {
        path: path.clone().into(),
        uri: uri.clone(),
        read_only: args.readonly,
        shared: args.shared,
        options: args
            .options
            .iter()
            .map(|text| property(text))
            .collect::<Result<_, _>>()?,
    };
    let mounted: MountInfo = shell
        .fs
        .change(Op::Mount(mount))
        .await
        .map_err(|error| error.context(format!("mount {uri} at {path}")))?;
    shell.out.line(format!("Mounted {} at {path}", mounted.uri))?;
    shell.finish().await
}

async fn table(shell: &mut Shell<'_>, args: &MountArgs) -> Done {
    if args.readonly || args.shared || !args.options.is_empty() {
        let why = "mount: name a path and an under-storage, such as `alluxio fs mount /s3 s3://bucket/prefix`";
        return Err(CommandError::Usage(why.to_owned()));
    }
    let table: MountTable = shell
        .fs
        .ask(Op::GetMounts(GetMounts { for_worker: 0 }))
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
        let done: Result<Empty, _> = shell.fs.change(Op::Unmount(unmount)).await;
        match done {
            Ok(Empty {}) => shell.out.line(format!("Unmounted {path}"))?,
            Err(error) => shell.note(Err(about(error, "unmount", &path).into()))?,
        }
    }
    shell.finish().await
}
