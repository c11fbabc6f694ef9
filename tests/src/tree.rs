//! Trees of files: made, and compared.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Makes `count` files of `bytes` bytes each in folders of 100, with contents that depend on seed and index.
pub fn make(root: &Path, count: usize, bytes: usize, seed: u64) {
    for index in 0..count {
        let dir = root.join(format!("d{:04}", index / 100));
        if index % 100 == 0 {
            std::fs::create_dir_all(&dir).expect("make a folder");
        }
        std::fs::write(
            dir.join(format!("f{index:06}")),
            contents(seed.wrapping_add(index as u64), bytes),
        )
        .expect("write a file");
    }
}

/// Reproducible bytes that do not compress or repeat.
pub fn contents(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        // xorshift64: enough that no two blocks are alike.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// Regular files under `root` by relative path, with their bytes.
pub fn files(root: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut stack = vec![root.to_owned()];
    while let Some(dir) = stack.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("list {}: {error}", dir.display())) {
            let entry = entry.expect("read a directory entry");
            let kind = entry.file_type().expect("type of an entry");
            if kind.is_dir() {
                stack.push(entry.path());
            } else if kind.is_file() {
                let name = entry
                    .path()
                    .strip_prefix(root)
                    .expect("beneath the root")
                    .as_os_str()
                    .as_bytes()
                    .to_vec();
                found.insert(name, std::fs::read(entry.path()).expect("read a file"));
            }
        }
    }
    found
}

/// Asserts that both trees have the same regular files with the same bytes.
#[track_caller]
pub fn assert_same_files(left: &Path, right: &Path) {
    let (a, b) = (files(left), files(right));
    let names = |tree: &BTreeMap<Vec<u8>, Vec<u8>>, other: &BTreeMap<Vec<u8>, Vec<u8>>| {
        tree.keys()
            .filter(|name| !other.contains_key(*name))
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .take(10)
            .collect::<Vec<_>>()
    };
    let (only_left, only_right) = (names(&a, &b), names(&b, &a));
    assert!(
        only_left.is_empty() && only_right.is_empty(),
        "only in {left:?}: {only_left:?}; only in {right:?}: {only_right:?}"
    );
    for (name, bytes) in &a {
        assert!(
            &b[name] == bytes,
            "{} differs between {left:?} and {right:?}",
            String::from_utf8_lossy(name)
        );
    }
}
