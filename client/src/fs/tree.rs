//! Trees: removal, persisting, freeing, counting, wildcards.

use super::{FileSystem, about};
use alluxio_common::retry::RetryPolicy;
use alluxio_proto::master::*;
use alluxio_proto::types::{Entry, FileKind};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// How much later than the time that was set the master's answer may come, which says what was waited for.
const LATE_MAX: Duration = Duration::from_millis(500);

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
        .map_err(|error| match error.kind {
            ErrorKind::NotEmpty => super::about_name(error, "remove", path),
            _ => about(error, "remove", path),
        })
    }

    /// Waits until what is due under a path is in its under-storage, for `limit` at most, whatever is in the way: the store, the
    /// master, or the way to it.
    ///
    /// # Errors
    /// `Timeout` with what was waited for; at once a failure that time does not heal.
    pub async fn persist(&self, path: &str, schedule: bool, limit: Duration) -> FsResult<Counted> {
        let started = Instant::now();
        let policy = RetryPolicy {
            total: limit,
            ..self.master.retry_policy()
        };
        let mut last = None;
        let asking = async {
            let mut backoff = policy.start();
            loop {
                let left = limit.saturating_sub(started.elapsed());
                let wait = WaitPersisted {
                    path: bytes_of(path),
                    schedule,
                    // 0 would be the master's default.
                    timeout_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1),
                    expedite: true,
                };
                match self.master.once(&self.caller, wait).await {
                    // That the time is up is an answer, not something to ask again for.
                    Err(error) if error.kind == ErrorKind::Unavailable => {
                        let goes_on = backoff.pause(&error).await;
                        last = Some(error);
                        if !goes_on {
                            return None;
                        }
                    }
                    answer => return Some(answer),
                }
            }
        };
        match tokio::time::timeout(limit.saturating_add(LATE_MAX), asking).await {
            Ok(Some(answer)) => answer.map_err(|error| about(error, "persist", path)),
            Ok(None) | Err(_) => {
                let why = last.map_or_else(|| "the master has not answered".to_owned(), |error| error.message);
                let why = format!("persist {path}: not done after {limit:.1?}: {why}");
                Err(FsError::new(ErrorKind::Timeout, why))
            }
        }
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
        .map_err(|error| about(error, "free", path))
    }

    /// Files, directories and bytes under a path.
    ///
    /// # Errors
    /// Those of the master.
    pub async fn count(&self, path: &str) -> FsResult<Counted> {
        self.ask(Count { path: bytes_of(path) })
            .await
            .map_err(|error| about(error, "count", path))
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
    use super::*;
    use crate::{DirectWorkers, MasterClient};
    use alluxio_proto::types::Caller;
    use alluxio_proto::{MasterApi, SessionId, WatchStream};
    use async_trait::async_trait;
    use std::sync::Arc;

    /// A master that waits as long as it is asked to, or for ever, in vain.
    struct InVain {
        hangs: bool,
    }

    #[async_trait]
    impl MasterApi for InVain {
        async fn call(&self, request: MasterRequest) -> FsResult<Reply> {
            let Some(Op::WaitPersisted(wait)) = request.op else {
                return Err(FsError::new(ErrorKind::NotSupported, "nothing else is asked"));
            };
            match self.hangs {
                true => std::future::pending().await,
                false => tokio::time::sleep(Duration::from_millis(wait.timeout_ms)).await,
            }
            let why = "persist /x: not done, 1 changes pending: the store is away";
            Err(FsError::new(ErrorKind::Timeout, why))
        }

        async fn watch(&self, _session: SessionId) -> FsResult<WatchStream> {
            Err(FsError::new(ErrorKind::NotSupported, "nothing changes"))
        }
    }

    /// Asking again after the master's time was up would wait for minutes, with an answer there.
    #[tokio::test]
    async fn persisting_is_waited_for_as_long_as_was_said() {
        let limit = Duration::from_millis(300);
        for (hangs, said) in [(false, "the store is away"), (true, "the master has not answered")] {
            let master = MasterClient::new(Arc::new(InVain { hangs }));
            let fs = FileSystem::new(master, Arc::new(DirectWorkers::default()), Caller::default());
            let started = Instant::now();
            let waiting = tokio::time::timeout(Duration::from_secs(60), fs.persist("/x", true, limit));
            let error = waiting.await.expect("it ends").unwrap_err();
            assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
            assert_eq!(error.kind, ErrorKind::Timeout);
            assert!(error.message.starts_with("persist /x: not done"), "{error}");
            assert!(error.message.contains(said), "{error}");
        }
    }

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
