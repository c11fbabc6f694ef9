//! Nothing here reads a clock or reaches a file but through `common::clock` and `common::disk`.

#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::path::{Path, PathBuf};

/// Ways round them.
const ROUNDS: [&str; 17] = [
    "std::fs",
    "fs::",
    " File::",
    "&File::",
    "OpenOptions",
    "FileExt",
    "crashsafe::write",
    "crashsafe::rename",
    "crashsafe::remove",
    "crashsafe::create",
    "crashsafe::sync",
    "private_file",
    "Instant::now",
    "SystemTime",
    ".elapsed()",
    "tokio::time",
    "thread::sleep",
];
/// Measures the machine's disk, which nobody can simulate.
const MEASURES: &str = "bench.rs";

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, into),
            false => into.push(path),
        }
    }
}

/// The lines of a source that are no test.
fn product(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| !line.starts_with("mod tests"))
}

#[test]
fn nothing_goes_round_the_clock_and_the_disk() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    files.retain(|file| {
        let name = file.file_name().unwrap();
        ![MEASURES, "tests.rs", "simulated.rs", "suite.rs"]
            .iter()
            .any(|other| name == *other)
    });
    assert!(files.len() > 20, "only {} sources were found", files.len());
    let mut found = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        for line in product(&text).filter(|line| !line.trim_start().starts_with("//")) {
            if let Some(round) = ROUNDS.iter().find(|round| line.contains(**round)) {
                found.push(format!("{}: {round}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(
        found.is_empty(),
        "these go round common::clock or common::disk: {found:#?}"
    );
}
