//! `alluxio fuse …`: what needs no cluster. `fuse mount` is a role.

use super::Done;
use crate::args::{Format, FuseCommand};
use crate::output::Out;
use alluxio_common::config::{Configuration, keys};
use alluxio_fuse::mount::{self, HELPER_PATH, HELPER_PATH_BY_TABLE, MountEntry, MountState, UnmountMode};
use alluxio_proto::FsError;
use serde_json::json;
use std::path::Path;

/// Runs one command.
pub fn fuse(conf: &Configuration, command: FuseCommand, out: &mut Out) -> Done {
    crate::logging::start(conf, crate::logging::Default::Warn)?;
    match command {
        FuseCommand::Mount { options, path, dir } => {
            let options = mount::MountOptions::parse(&options.join(","))?;
            let path = path.unwrap_or_else(|| conf.string(&keys::fuse::FUSE_MOUNT_PATH));
            let dir = dir.unwrap_or_else(|| conf.path(&keys::fuse::FUSE_MOUNT_POINT));
            Ok(crate::roles::mount(conf, &options, &path, &dir)?)
        }
        FuseCommand::Umount { lazy, dir } => umount(&dir, lazy, out),
        FuseCommand::List { format } => list(format, out),
        FuseCommand::InstallHelper => install_helper(out),
    }
}

fn umount(dir: &Path, lazy: bool, out: &mut Out) -> Done {
    let mode = if lazy { UnmountMode::Lazy } else { UnmountMode::Normal };
    mount::unmount(dir, mode)?;
    Ok(out.line(format!("Unmounted {}", dir.display()))?)
}

fn list(format: Format, out: &mut Out) -> Done {
    let mounts = mount::list()?;
    if format == Format::Json {
        let mounts: serde_json::Value = mounts.iter().map(as_json).collect();
        return Ok(out.json_pretty(&mounts)?);
    }
    for mount in &mounts {
        let dead = if mount.state() == MountState::Dead {
            "  (dead: its process is gone; `alluxio fuse umount` clears it)"
        } else {
            ""
        };
        out.line(format!(
            "{}  on  {}  ({}){dead}",
            mount.source,
            mount.point.display(),
            mount.options
        ))?;
    }
    Ok(())
}

fn as_json(mount: &MountEntry) -> serde_json::Value {
    json!({
        "source": mount.source,
        "mountPoint": mount.point.to_string_lossy(),
        "type": mount.fs_type,
        "options": mount.options,
        "dead": mount.state() == MountState::Dead,
    })
}

fn install_helper(out: &mut Out) -> Done {
    let program = std::env::current_exe().map_err(|error| FsError::from_io("find the file of this program", &error))?;
    for path in [HELPER_PATH, HELPER_PATH_BY_TABLE] {
        mount::install_helper(&program, Path::new(path))?;
    }
    Ok(out.line(format!(
        "Installed {HELPER_PATH} and {HELPER_PATH_BY_TABLE}; try `mount -t alluxio HOST:19998/ DIR`"
    ))?)
}
