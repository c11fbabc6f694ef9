//! What the documents promise is held against what there is.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Words between backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// `file::test`, `file::module::test` or `file::module`, with `…` for the file named last.
fn is_test_name(word: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '…')
    };
    word.contains("::") && word.split("::").all(is_part)
}

/// Whether there is such a test beneath `tests/tests`.
fn exists(name: &str) -> bool {
    let tests = root().join("tests/tests");
    let (file, test) = name.rsplit_once("::").unwrap();
    let source = tests.join(file.replace("::", "/")).with_extension("rs");
    if tests.join(name.replace("::", "/")).with_extension("rs").is_file() {
        return true;
    }
    std::fs::read_to_string(source).is_ok_and(|text| text.contains(&format!("\nfn {test}()")))
}

#[test]
fn each_test_that_the_table_of_posix_names_is_there() {
    let text = std::fs::read_to_string(root().join("docs/posix.md")).unwrap();
    let (mut found, mut missing, mut file) = (0, Vec::new(), String::new());
    for line in text.lines().filter(|line| line.starts_with('|')) {
        for word in quoted(line).filter(|word| is_test_name(word)) {
            let name = word.replace('…', &file);
            file = name.rsplit_once("::").unwrap().0.to_owned();
            found += 1;
            if !exists(&name) {
                missing.push(name);
            }
        }
    }
    assert!(found > 40, "only {found} names of tests were read");
    assert!(
        missing.is_empty(),
        "docs/posix.md names tests that are not there: {missing:?}"
    );
}

/// Each row of the tables says by what it is shown.
#[test]
fn each_row_of_the_table_of_posix_points_at_a_test() {
    let text = std::fs::read_to_string(root().join("docs/posix.md")).unwrap();
    let suites = ["reference", "pjdfstest", "the same", "cargo xtask bench"];
    let mut bare = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let last = line.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap().trim();
        let is_head = last == "test";
        let shows = quoted(last).any(is_test_name) || suites.iter().any(|suite| last.contains(suite));
        if !is_head && !shows {
            bare.push(line);
        }
    }
    assert!(bare.is_empty(), "rows without a test: {bare:#?}");
}
