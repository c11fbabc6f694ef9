//! What no compiler and no lint says about the sources.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the code of the workspace is.
const CRATES: [&str; 11] = [
    "proto",
    "common",
    "ufs",
    "client",
    "server/journal",
    "server/master",
    "server/worker",
    "fuse",
    "cli",
    "tests",
    "xtask",
];
/// Libraries whose name in code is another one.
const OTHER_NAMES: [(&str, &str); 1] = [("md-5", "md5")];
/// Named for the features that it switches on in another one.
const FOR_FEATURES: [&str; 1] = ["reqwest"];
/// A file longer than this should have been two.
const LINES_MAX: usize = 900;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn text_beneath(dirs: &[PathBuf]) -> String {
    let mut files = Vec::new();
    dirs.iter().for_each(|dir| sources(dir, &mut files));
    files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect()
}

fn names(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Dependencies by section of a `Cargo.toml`.
fn dependencies(manifest: &str) -> BTreeMap<&str, Vec<&str>> {
    let (mut section, mut found) = ("", BTreeMap::<&str, Vec<&str>>::new());
    for line in manifest.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if section.ends_with("dependencies")
            && !line.starts_with('#')
            && let Some((name, _)) = line.split_once(['.', ' ', '='])
            && !name.is_empty()
        {
            found.entry(section).or_default().push(name);
        }
    }
    found
}

/// A dependency that no source names costs build time and says something untrue.
#[test]
fn each_dependency_is_used() {
    let mut idle = Vec::new();
    for dir in CRATES {
        let dir = root().join(dir);
        let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let product = text_beneath(&[dir.join("src")]);
        let all = text_beneath(&[
            dir.join("src"),
            dir.join("tests"),
            dir.join("examples"),
            dir.join("benches"),
        ]);
        for (section, list) in dependencies(&manifest) {
            let text = if section == "dependencies" { &product } else { &all };
            for name in list {
                let other = OTHER_NAMES.iter().find(|(known, _)| *known == name);
                let word = other.map_or_else(|| name.replace('-', "_"), |(_, word)| (*word).to_owned());
                if !names(text, &word) && !FOR_FEATURES.contains(&name) {
                    idle.push(format!("{} [{section}] {name}", dir.display()));
                }
            }
        }
    }
    assert!(idle.is_empty(), "dependencies that nothing names: {idle:#?}");
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut files = Vec::new();
    CRATES.iter().for_each(|dir| sources(&root().join(dir), &mut files));
    assert!(files.len() > 300, "only {} sources were found", files.len());
    let long: Vec<String> = files
        .iter()
        .map(|file| (file, std::fs::read_to_string(file).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "split by noun: {long:#?}");
}

/// A test that is ignored asserts nothing.
#[test]
fn no_test_is_ignored() {
    // In two pieces, so that this line is not found.
    let word = concat!("#[ign", "ore");
    let mut files = Vec::new();
    CRATES.iter().for_each(|dir| sources(&root().join(dir), &mut files));
    let ignored: Vec<&PathBuf> = files
        .iter()
        .filter(|file| std::fs::read_to_string(file).unwrap().contains(word))
        .collect();
    assert!(ignored.is_empty(), "tests that are never run: {ignored:?}");
}

/// Each row of the table of faults names tests that are there, or says why it needs none.
#[test]
fn each_fault_names_its_tests() {
    let text = std::fs::read_to_string(root().join("docs/faults.md")).unwrap();
    let all = text_beneath(&CRATES.map(|dir| root().join(dir)));
    let (mut rows, mut missing) = (0, Vec::new());
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let (first, last) = (cells[0].trim(), cells[cells.len() - 1]);
        if first == "line" || first.starts_with("--") {
            continue;
        }
        rows += 1;
        let tests: Vec<&str> = last
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| word.contains("::"))
            .collect();
        let is_said = last.contains("open:") || last.contains("cannot happen:");
        if tests.is_empty() && !is_said {
            missing.push(format!("{first}: no test, and neither `open:` nor `cannot happen:`"));
        }
        for test in tests {
            let name = test.rsplit("::").next().unwrap();
            let is_there =
                all.contains(&format!("fn {name}(")) || root().join("tests/tests").join(format!("{name}.rs")).is_file();
            if !is_there {
                missing.push(format!("{first}: {test} is not there"));
            }
        }
    }
    assert!(rows > 30, "only {rows} rows were read");
    assert!(missing.is_empty(), "docs/faults.md: {missing:#?}");
}
