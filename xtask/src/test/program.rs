//! One test program: where it is, how it is run, and what it says.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// No test program may take longer. The longest takes five minutes; CI ends everything after ninety.
const LIMIT: Duration = Duration::from_secs(25 * 60);
/// Between two looks at whether it has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// A test program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its package.
    pub package: String,
    /// Of an integration test its own name, of unit tests the package's.
    pub name: String,
    path: PathBuf,
    /// The package's folder, in which cargo runs it.
    folder: PathBuf,
}

/// How it ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// Tests that passed.
    pub passed: u64,
    /// Names of those that failed. One without a name if the program failed without naming any.
    pub failed: Vec<String>,
    /// What it printed.
    pub printed: String,
    /// How long it took.
    pub took: Duration,
}

impl Program {
    /// Reads a message of `cargo --message-format=json`; `None` if it is about something else.
    pub fn of(message: &serde_json::Value) -> Option<Program> {
        let is_test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
        let path = message["executable"].as_str().filter(|_| is_test)?;
        let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
        Some(Program {
            package: package_of(message["package_id"].as_str()?)?,
            name: message["target"]["name"].as_str()?.to_owned(),
            path: path.into(),
            folder: folder.to_owned(),
        })
    }

    /// Runs it to its end, [`LIMIT`] at most.
    pub fn run(&self, filter: Option<&str>, variables: &[(&str, &str)]) -> Ended {
        let begun = Instant::now();
        let mut ended = match self.attempt(filter, variables) {
            Ok((success, printed)) => Ended::read(success, printed, &self.name),
            Err(error) => Ended {
                failed: vec![self.name.clone()],
                printed: format!("{}: {error:#}\n", self.name),
                ..Ended::default()
            },
        };
        ended.took = begun.elapsed();
        ended
    }

    /// Whether it succeeded, and what it printed. Its output goes to a file: a pipe would have to be drained.
    fn attempt(&self, filter: Option<&str>, variables: &[(&str, &str)]) -> anyhow::Result<(bool, String)> {
        let out = tempfile::NamedTempFile::new()?;
        let mut child = Command::new(&self.path)
            .args(filter)
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::options().append(true).open(out.path())?)
            .stderr(File::options().append(true).open(out.path())?)
            .spawn()?;
        let begun = Instant::now();
        let success = loop {
            if let Some(status) = child.try_wait()? {
                break status.success();
            }
            if begun.elapsed() > LIMIT {
                child.kill()?;
                child.wait()?;
                let printed = std::fs::read(out.path())?;
                let printed = String::from_utf8_lossy(&printed);
                return Ok((false, format!("{printed}\n{} still ran after {LIMIT:?}\n", self.name)));
            }
            std::thread::sleep(PAUSE);
        };
        let printed = std::fs::read(out.path())?;
        Ok((success, String::from_utf8_lossy(&printed).into_owned()))
    }
}

/// The name in a package id: `path+file:///a/b#name@1.0`, or `path+file:///a/name#1.0`.
fn package_of(id: &str) -> Option<String> {
    let (path, rest) = id.rsplit_once('#')?;
    match rest.split_once('@') {
        Some((name, _)) => Some(name.to_owned()),
        None => path.rsplit('/').next().map(str::to_owned),
    }
}

impl Ended {
    /// Reads what a test program printed. One without the usual harness counts as one test.
    fn read(success: bool, printed: String, name: &str) -> Ended {
        let mut ended = Ended::default();
        let mut has_result = false;
        for line in printed.lines() {
            if let Some(result) = line.strip_prefix("test result: ") {
                has_result = true;
                let passed = result.split_once(". ").and_then(|(_, counts)| counts.split(' ').next());
                ended.passed += passed.and_then(|count| count.parse().ok()).unwrap_or(0);
            } else if let Some(test) = line
                .strip_prefix("test ")
                .and_then(|rest| rest.strip_suffix(" ... FAILED"))
            {
                ended.failed.push(format!("{name}::{test}"));
            }
        }
        if success && !has_result {
            // A test that ends its process must not pass for all that come after it.
            match printed.contains("\nrunning ") || printed.starts_with("running ") {
                true => ended.failed.push(format!("{name}: ended before its tests had")),
                false => ended.passed = 1,
            }
        }
        if !success && ended.failed.is_empty() {
            ended.failed.push(name.to_owned());
        }
        ended.printed = printed;
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_as_the_harness_prints_them() {
        let printed = "test a::b ... ok\ntest c ... FAILED\n\ntest result: FAILED. 7 passed; 1 failed; 0 ignored\n";
        let ended = Ended::read(false, printed.to_owned(), "file");
        assert_eq!((ended.passed, ended.failed), (7, vec!["file::c".to_owned()]));
    }

    #[test]
    fn a_program_that_dies_without_a_word_has_failed() {
        let ended = Ended::read(false, "test a ... ok\n".to_owned(), "file");
        assert_eq!(ended.failed, ["file"]);
    }

    #[test]
    fn a_program_that_ends_in_the_middle_has_failed() {
        let ended = Ended::read(true, "\nrunning 2 tests\ntest a ... ok\n".to_owned(), "file");
        assert_eq!((ended.passed, ended.failed.len()), (0, 1));
    }

    #[test]
    fn packages_are_named_as_cargo_names_them() {
        assert_eq!(
            package_of("path+file:///x/common#alluxio-common@0.1.0").as_deref(),
            Some("alluxio-common")
        );
        assert_eq!(package_of("path+file:///x/xtask#0.1.0").as_deref(), Some("xtask"));
    }
}
