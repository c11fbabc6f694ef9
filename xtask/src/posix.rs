//! The public suite `pjdfstest` on real mounts, held against a native ext4 in the same run.
//!
//! It passes when nothing fails and nothing is skipped that ext4 runs, in every mode of the mount, but [`NOT_ON_FUSE`].

use alluxio_tests::disk::Disk;
use alluxio_tests::modes::Mode;
use alluxio_tests::process::{Output, run};
use alluxio_tests::{LocalBuilder, tools};
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Tests that no FUSE mount can be given. The one asks pathconf(3) how many links a file may have; glibc answers that by the
/// type of the file system, without asking it, and does not know FUSE. Tests of the master's state look at EMLINK.
const NOT_ON_FUSE: [&str; 1] = ["link::link_count_max"];

/// Three users that every Debian has; the suite acts as each of them in turn.
const USERS: [(&str, &str); 3] = [("nobody", "nogroup"), ("daemon", "daemon"), ("bin", "bin")];
/// What the suite tests only when told that the file system can do it.
const FEATURES: [&str; 5] = [
    "posix_fallocate",
    "rename_ctime",
    "utimensat",
    "utime_now",
    "stat_st_birthtime",
];
/// Pause between two changes whose times are compared: more than the kernel's coarse clock ticks apart.
const NAP_SECONDS: f64 = 0.02;
/// The suite takes some 30 s on ext4 and on a mount; a hung operation must not hang the run.
const LIMIT: Duration = Duration::from_secs(600);
/// Less than the suite writes; its largest files are sparse.
const SMALL_QUOTA: &str = "1MB";

/// How one run of the suite ended.
struct Outcome {
    on: String,
    passed: usize,
    skipped: Vec<String>,
    /// Name and the first line of why.
    failed: Vec<(String, String)>,
}

/// Runs the suite on ext4 and on mounts in every mode; prints a table of failures by category.
///
/// # Errors
/// If a test failed, or was skipped that ext4 runs.
pub fn run_suite(program: &Path) -> anyhow::Result<()> {
    let dir = tools::scratch("pjdfstest-");
    let configuration = dir.path().join("pjdfstest.toml");
    std::fs::write(&configuration, toml()).context("write the suite's configuration")?;
    // The suite enters as other users.
    open_to_all(dir.path())?;

    let disk = Disk::new("pjdfstest-ext4", 2);
    let native = suite(program, &configuration, "ext4", disk.path())?;
    println!("{}", native.summary());
    ensure!(
        native.failed.is_empty(),
        "pjdfstest fails on ext4 itself, so this run says nothing: {:?}",
        native.failed
    );
    let mut bad = Vec::new();
    for mode in Mode::ALL {
        let base = dir.path().join(mode.name());
        std::fs::create_dir(&base)?;
        open_to_all(&base)?;
        let local = mode.apply(LocalBuilder::at(&base), SMALL_QUOTA).start();
        let outcome = suite(program, &configuration, mode.name(), local.mount())?;
        println!("{}", outcome.summary());
        print!("{}", outcome.table());
        let mut lacking: Vec<&String> = outcome.skipped.iter().collect();
        lacking.retain(|name| !native.skipped.contains(name));
        for name in &lacking {
            println!("  skipped here and run on ext4: {name}");
        }
        lacking.retain(|name| !NOT_ON_FUSE.contains(&name.as_str()));
        if !outcome.failed.is_empty() || !lacking.is_empty() {
            bad.push(outcome.summary());
        }
    }
    ensure!(bad.is_empty(), "pjdfstest: {}", bad.join("; "));
    Ok(())
}

fn open_to_all(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).context("open a folder to all users")
}

/// The suite's configuration.
fn toml() -> String {
    let users: Vec<String> = USERS
        .iter()
        .map(|(user, group)| format!("[{user:?}, {group:?}]"))
        .collect();
    let mut text = String::from("[features]\n");
    for feature in FEATURES {
        let _ = writeln!(text, "{feature} = {{}}");
    }
    let _ = writeln!(text, "[settings]\nnaptime = {NAP_SECONDS}");
    let _ = writeln!(text, "[dummy_auth]\nentries = [{}]", users.join(", "));
    text
}

fn suite(program: &Path, configuration: &Path, on: &str, dir: &Path) -> anyhow::Result<Outcome> {
    let output: Output = run(
        Command::new(program)
            .arg("-c")
            .arg(configuration)
            .arg("-p")
            .arg(dir)
            .env("NO_COLOR", "1")
            .env("RUST_BACKTRACE", "0"),
        LIMIT,
    );
    let outcome = Outcome::parse(on, &output.stdout);
    let total = outcome.passed + outcome.skipped.len() + outcome.failed.len();
    let said = output
        .stdout
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("Summary: "));
    // What was parsed is what the suite counted; otherwise a failure could hide in words that are not known here.
    ensure!(
        said.is_some_and(|said| said.ends_with(&format!("{total} total"))),
        "pjdfstest on {on}: {total} results were read, and it says {said:?}; it printed\n{}",
        output.stderr
    );
    Ok(outcome)
}

impl Outcome {
    fn parse(on: &str, printed: &str) -> Outcome {
        let mut outcome = Outcome {
            on: on.to_owned(),
            passed: 0,
            skipped: Vec::new(),
            failed: Vec::new(),
        };
        let mut lines = printed.lines().peekable();
        while let Some(line) = lines.next() {
            let Some((name, word)) = line.rsplit_once(' ').filter(|_| !line.starts_with(char::is_whitespace)) else {
                continue;
            };
            let name = name.trim().to_owned();
            match word {
                "ok" => outcome.passed += 1,
                "skipped" => outcome.skipped.push(name),
                "FAILED" => {
                    let why = lines.next_if(|next| next.starts_with('\t')).unwrap_or_default();
                    outcome.failed.push((name, why.trim().to_owned()));
                }
                _ => {}
            }
        }
        outcome
    }

    fn summary(&self) -> String {
        format!(
            "{}: {} failed, {} skipped, {} passed",
            self.on,
            self.failed.len(),
            self.skipped.len(),
            self.passed
        )
    }

    /// Failures by system call, with every test and its reason.
    fn table(&self) -> String {
        let mut calls: BTreeMap<&str, Vec<&(String, String)>> = BTreeMap::new();
        for failure in &self.failed {
            let call = failure.0.split("::").next().unwrap_or_default();
            calls.entry(call).or_default().push(failure);
        }
        let mut text = String::new();
        for (call, failures) in calls {
            let _ = writeln!(text, "  {call:<18} {:>3}", failures.len());
            for (name, why) in failures {
                let _ = writeln!(text, "      {name:<52} {why}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_as_the_suite_prints_them() {
        let printed = "chmod::eacces                   ok\n\
                       link::erofs_named               skipped\n\tRemounts are not allowed\n\
                       link::remove_link::fifo         FAILED\n\tcalled `Result::unwrap()` on an `Err` value: EPERM\n\
                       \nSummary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total\n";
        let outcome = Outcome::parse("here", printed);
        assert_eq!(outcome.summary(), "here: 1 failed, 1 skipped, 1 passed");
        assert_eq!(outcome.failed[0].0, "link::remove_link::fifo");
        assert!(
            outcome.table().contains("link                 1"),
            "{}",
            outcome.table()
        );
        assert!(outcome.table().contains("EPERM"), "{}", outcome.table());
    }
}
