//! Where the programs are that tests need. `cargo xtask test` installs them and sets the variables.

use std::path::{Path, PathBuf};

/// The `alluxio` binary under test: `ALLUXIO_TEST_BIN`, or the one beside the test binaries.
pub fn alluxio() -> PathBuf {
    if let Some(path) = std::env::var_os("ALLUXIO_TEST_BIN") {
        return path.into();
    }
    // target/debug/deps/test-abc -> target/debug/alluxio
    let mut path = std::env::current_exe().expect("path of the running test");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    let path = path.join("alluxio");
    assert!(
        path.is_file(),
        "{} is missing: run `cargo xtask test`, which builds it",
        path.display()
    );
    path
}

/// A program named by a variable, or found on PATH.
///
/// # Panics
/// If it is nowhere, saying how to get it.
pub fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is missing ({variable} is not set): run `cargo xtask test`, which installs it")
    })
}

/// Folder for scratch data: `ALLUXIO_TEST_TMP`, or the system's.
pub fn scratch(prefix: &str) -> tempfile::TempDir {
    let base = std::env::var_os("ALLUXIO_TEST_TMP").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(&base)
        .expect("make a scratch folder")
}

/// Text of a path, for command lines.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("scratch paths are UTF-8")
}
