//! Trees: removal, persisting, freeing, counting, wildcards.

use super::FileSystem;
use alluxio_proto::FsResult;
use alluxio_proto::master::*;
use alluxio_proto::types::{Entry, FileKind};
use bytes::Bytes;

impl FileSystem {
    /// Removes a path; a directory with entries only if `recursive`.
    ///
    /// # Errors
    /// `NotEmpty`, `NotFound`, …
    pub async fn delete(&self, path: &str, recursive: bool, alluxio_only: bool) -> FsResult<Counted> {
        self.change(Delete {
            path: bytes_of(path),
            recursive,
            alluxio_only,
        })
        .await
        .map_err(|error| error.context(format!("remove {path}")))
    }

    /// Waits until what is due under a path is in its under-storage.
    ///
    /// # Errors
    /// `Timeout` with the last failure; at once a failure that time does not heal.
    pub async fn persist(&self, path: &str, schedule: bool, timeout_ms: u64) -> FsResult<Counted> {
        self.ask(WaitPersisted {
            path: bytes_of(path),
            schedule,
            timeout_ms,
            expedite: true,
        })
        .await
        .map_err(|error| error.context(format!("persist {path}")))
    }

    /// Drops cached data that the under-storage has.
    ///
    /// # Errors
    /// Those of the master.
    pub async fn free(&self, path: &str, force: bool) -> FsResult<Counted> {
        self.change(Free {
            path: bytes_of(path),
            force,
        })
        .await
        .map_err(|error| error.context(format!("free {path}")))
    }

    /// Files, directories and bytes under a path.
    ///
    /// # Errors
    /// Those of the master.
    pub async fn count(&self, path: &str) -> FsResult<Counted> {
        self.ask(Count { path: bytes_of(path) })
            .await
            .map_err(|error| error.context(format!("count {path}")))
    }

    /// Paths that match a pattern with `*` in any components, in the order of names. A pattern without `*` is itself,
    /// whether it exists or not.
    ///
    /// # Errors
    /// Those of listing.
    pub async fn glob(&self, pattern: &str) -> FsResult<Vec<String>> {
        if !pattern.contains('*') {
            return Ok(vec![pattern.to_owned()]);
        }
        let mut found = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for base in found {
                if part.contains('*') {
                    next.extend(self.matching(&base, part).await?);
                } else {
                    next.push(format!("{base}/{part}"));
                }
            }
            found = next;
        }
        // Parts after a wildcard may be absent beneath some of what matched.
        let mut existing = Vec::with_capacity(found.len());
        for path in found {
            if self.exists(&path).await? {
                existing.push(path);
            }
        }
        Ok(existing)
    }

    async fn matching(&self, base: &str, part: &str) -> FsResult<Vec<String>> {
        let directory = if base.is_empty() { "/" } else { base };
        if self
            .stat(directory)
            .await
            .is_ok_and(|attr| attr.kind() != FileKind::Directory)
        {
            return Ok(Vec::new());
        }
        let entries = self.list(directory).await?;
        Ok(entries
            .iter()
            .filter_map(name_of)
            .filter(|name| matches(part, name))
            .map(|name| format!("{base}/{name}"))
            .collect())
    }
}

/// A name as text; names that are no UTF-8 have none, and no command line can spell them.
fn name_of(entry: &Entry) -> Option<&str> {
    std::str::from_utf8(&entry.name).ok()
}

fn bytes_of(path: &str) -> Bytes {
    Bytes::copy_from_slice(path.as_bytes())
}

/// Whether a name matches a pattern in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut left) = name.strip_prefix(head) else {
        return false;
    };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let tail = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "a"),
            ("a*", "a"),
            ("a*c", "abc"),
            ("*b*", "abc"),
            ("a*b*c", "aXbYbZc"),
            ("*.txt", ".txt"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a*", "b"), ("a*c", "ab"), ("a*a", "a"), ("*b*", "ac"), ("ab", "abc")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
