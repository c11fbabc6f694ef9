//! Programs that people run, unmodified, on a real mount: with passthrough, through the daemon, and with a data folder that
//! cannot hold what they write.
//!
//! Each test ends by persisting all, starting everything anew, and holding the under-storage against the mount, file by file:
//! what the programs left is there after a restart, and also where it had to be fetched again.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod build;
mod copy;
mod database;
mod edit;

use alluxio_tests::modes::Mode;
use alluxio_tests::process::{Output, run};
use alluxio_tests::{LocalBuilder, tools, tree};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// None needs half of this on two busy cores.
const LIMIT: Duration = Duration::from_secs(300);

/// Where a program works.
struct Place<'a> {
    /// The mount point.
    mount: &'a Path,
    /// A folder beside it on the native file system.
    scratch: &'a Path,
    mode: Mode,
}

impl Place<'_> {
    /// Runs a shell script with `M` (the mount) and `S` (the scratch folder) in its environment; it must succeed.
    #[track_caller]
    fn sh(&self, script: &str) -> String {
        self.sh_output(script).ok()
    }

    #[track_caller]
    fn sh_output(&self, script: &str) -> Output {
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", script])
            .env("M", self.mount)
            .env("S", self.scratch)
            .env("HOME", self.scratch)
            // A build started from a test must not write into this one's target folder.
            .env_remove("CARGO_TARGET_DIR");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_") {
                command.env_remove(name);
            }
        }
        keep_cargo_home(&mut command);
        run(&mut command, LIMIT)
    }
}

/// Cargo and rustup find their toolchain under the real home.
fn keep_cargo_home(command: &mut Command) {
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
    for (variable, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        let value = std::env::var_os(variable).unwrap_or_else(|| Path::new(&home).join(folder).into_os_string());
        command.env(variable, value);
    }
}

/// Runs `work` on a fresh mount in every mode, `after` on the same once everything was started anew, and then checks what is in
/// the under-storage. `small_quota` is less than what the program writes.
#[track_caller]
fn everywhere(name: &str, small_quota: &str, work: impl Fn(&Place<'_>), after: impl Fn(&Place<'_>)) {
    for mode in Mode::ALL {
        let start = Instant::now();
        let dir = tools::scratch(&format!("{name}-"));
        // Some programs give up root.
        open_to_all(dir.path());
        let (ufs, scratch) = (dir.path().join("ufs"), dir.path().join("scratch"));
        for folder in [&ufs, &scratch] {
            std::fs::create_dir(folder).unwrap();
        }
        open_to_all(&scratch);
        let builder = LocalBuilder::at(dir.path()).ufs(tools::text(&ufs));
        let local = mode.apply(builder, small_quota).start();
        let mount = local.mount().to_owned();
        let place = Place {
            mount: &mount,
            scratch: &scratch,
            mode,
        };
        work(&place);
        local.alluxio(&["fs", "persist", "/"]).ok();
        let (local, log) = local.restart(LIMIT);
        assert_untroubled(name, mode, &log);
        after(&place);
        local.alluxio(&["fs", "persist", "/"]).ok();
        assert_persisted(local.mount(), &ufs);
        let (code, log) = local.stop(LIMIT);
        assert_eq!(code, 0, "{name}, {}: {log}", mode.name());
        assert_untroubled(name, mode, &log);
        println!("{name}, {}: {:?}", mode.name(), start.elapsed());
    }
}

/// Nothing more is to be looked at after a restart than the files themselves.
fn files_are_enough(_: &Place<'_>) {}

#[track_caller]
fn assert_untroubled(name: &str, mode: Mode, log: &str) {
    assert!(
        !log.contains("panicked") && !log.contains("ERROR"),
        "{name}, {}: {log}",
        mode.name()
    );
}

fn open_to_all(dir: &Path) {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Every regular file of the mount is in the under-storage under its own name, with its bytes, and nothing else is there.
/// Further names of a file live in the namespace alone.
#[track_caller]
fn assert_persisted(mount: &Path, ufs: &Path) {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let (ours, stored) = (tree::files(mount), tree::files(ufs));
    assert!(!ours.is_empty(), "the program left nothing on the mount");
    for (name, bytes) in &ours {
        let path = mount.join(OsStr::from_bytes(name));
        match stored.get(name) {
            Some(there) => assert!(there == bytes, "{} differs in the under-storage", path.display()),
            None => {
                let links = std::fs::metadata(&path).unwrap().nlink();
                assert!(links > 1, "{} is not in the under-storage", path.display());
            }
        }
    }
    let extra: Vec<_> = stored
        .keys()
        .filter(|name| !ours.contains_key(*name))
        .map(|name| String::from_utf8_lossy(name))
        .collect();
    assert!(extra.is_empty(), "in the under-storage and not on the mount: {extra:?}");
}
