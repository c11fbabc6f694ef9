//! What is noted of each request of the kernel: its latency, a span with id, operation, inode and caller, and, where
//! `-o access_log=FILE` asks for it, a line in a file.

use crate::transport::operations::{Asker, Errno, Node};
use alluxio_common::metrics::{Metrics, OpTimers};
use alluxio_proto::{FsError, FsResult};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::Span;

/// Lines that wait for the disk; more are dropped, and counted, rather than that a slow disk slows the mount.
const LINES_MAX: usize = 16_384;

/// Notes requests of one mount.
#[derive(Debug)]
pub struct Observer {
    timers: OpTimers,
    access: Option<AccessLog>,
}

impl Observer {
    /// Counts in `metrics`, and writes to `access_log` if there is one.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub fn new(metrics: &Metrics, access_log: Option<&Path>) -> FsResult<Arc<Observer>> {
        Ok(Arc::new(Observer {
            timers: OpTimers::new(metrics, "Fuse", Some("Fuse.TotalCalls"), &names()),
            access: access_log.map(AccessLog::open).transpose()?,
        }))
    }

    /// Whether names and ranges of requests are wanted.
    pub fn wants_detail(&self) -> bool {
        self.access.is_some()
    }
}

/// A request that is being observed.
#[derive(Debug)]
pub struct Observed {
    observer: Option<Arc<Observer>>,
    code: u32,
    node: Node,
    by: Asker,
    detail: String,
    started: Instant,
    span: Span,
}

impl Observed {
    /// Begins. `detail` is what a line of the access log says of it, empty if nobody wants it.
    pub fn begin(
        observer: Option<&Arc<Observer>>,
        unique: u64,
        code: u32,
        node: Node,
        by: Asker,
        detail: String,
    ) -> Self {
        let span = tracing::debug_span!(
            "request",
            id = unique,
            op = name_of(code),
            inode = node.0,
            uid = by.uid,
            pid = by.pid
        );
        Self {
            observer: observer.cloned(),
            code,
            node,
            by,
            detail,
            started: Instant::now(),
            span,
        }
    }

    /// The span to work on it in.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    /// It is answered.
    pub fn end(self, errno: Option<Errno>) {
        let took = self.started.elapsed();
        let errno = errno.map_or(0, |errno| errno.0);
        if !self.span.is_disabled() {
            self.span.in_scope(|| tracing::debug!(?took, errno, "answered"));
        }
        let Some(observer) = &self.observer else { return };
        observer.timers.observe(self.code as usize, took);
        if let Some(access) = &observer.access {
            access.write(self.line(took, errno));
        }
    }

    /// `TIME uid=0 gid=0 pid=7 Lookup inode=1 name="a" errno=0 took_us=12`.
    fn line(&self, took: Duration, errno: i32) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Asker { uid, gid, pid } = self.by;
        format!(
            "{}.{:06} uid={uid} gid={gid} pid={pid} {} inode={}{} errno={errno} took_us={}\n",
            now.as_secs(),
            now.subsec_micros(),
            name_of(self.code),
            self.node.0,
            self.detail,
            took.as_micros(),
        )
    }
}

/// Lines on their way to a file, written by a thread of their own.
#[derive(Debug)]
struct AccessLog {
    lines: SyncSender<String>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    fn open(path: &Path) -> FsResult<AccessLog> {
        let failed =
            |error: std::io::Error| FsError::from_io(format!("open the access log {}", path.display()), &error);
        // Names of files are nobody else's business.
        let file = File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let (lines, taken) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_lines(&taken, file, &counted))
            .map_err(failed)?;
        Ok(AccessLog { lines, dropped })
    }

    fn write(&self, line: String) {
        match self.lines.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Writes until nobody sends any more. Whole lines reach the file when none waits.
fn write_lines(lines: &Receiver<String>, file: File, dropped: &AtomicU64) {
    let mut file = BufWriter::new(file);
    let mut is_broken = false;
    while let Ok(first) = lines.recv() {
        let mut written = file.write_all(first.as_bytes());
        while let Ok(line) = lines.try_recv() {
            written = written.and_then(|()| file.write_all(line.as_bytes()));
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            written =
                written.and_then(|()| writeln!(file, "# {lost} lines were dropped: the disk is slower than the mount"));
        }
        match written.and_then(|()| file.flush()) {
            Ok(()) => is_broken = false,
            // Once: a full disk would otherwise fill the other log, too.
            Err(error) if !is_broken => {
                is_broken = true;
                tracing::warn!(%error, "write the access log; lines are lost");
            }
            Err(_) => {}
        }
    }
}

/// Operations as Alluxio names them, by the kernel's number.
const NAMES: [(u32, &str); 42] = [
    (1, "Lookup"),
    (3, "Getattr"),
    (4, "Setattr"),
    (5, "Readlink"),
    (6, "Symlink"),
    (8, "Mknod"),
    (9, "Mkdir"),
    (10, "Unlink"),
    (11, "Rmdir"),
    (12, "Rename"),
    (13, "Link"),
    (14, "Open"),
    (15, "Read"),
    (16, "Write"),
    (17, "Statfs"),
    (18, "Release"),
    (20, "Fsync"),
    (21, "Setxattr"),
    (22, "Getxattr"),
    (23, "Listxattr"),
    (24, "Removexattr"),
    (25, "Flush"),
    (27, "Opendir"),
    (28, "Readdir"),
    (29, "Releasedir"),
    (30, "Fsyncdir"),
    (31, "Getlk"),
    (32, "Setlk"),
    (33, "Setlkw"),
    (34, "Access"),
    (35, "Create"),
    (43, "Fallocate"),
    (44, "Readdirplus"),
    (45, "Rename2"),
    (46, "Lseek"),
    (47, "CopyFileRange"),
    (51, "Tmpfile"),
    (52, "Statx"),
    (53, "CopyFileRange64"),
    // Answered without being observed; named for the log.
    (26, "Init"),
    (38, "Destroy"),
    (39, "Ioctl"),
];

fn name_of(code: u32) -> &'static str {
    let found = NAMES.iter().find(|(known, _)| *known == code);
    found.map_or("Other", |(_, name)| name)
}

/// Names in the order of the numbers, empty where there is none.
fn names() -> Vec<&'static str> {
    let last = NAMES.iter().map(|(code, _)| *code).max().unwrap_or(0);
    let mut names = vec![""; last as usize + 1];
    for (code, name) in NAMES {
        names[code as usize] = name;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_asked_what_and_what_came_of_it() {
        let by = Asker { uid: 1, gid: 2, pid: 3 };
        let observed = Observed::begin(None, 9, 1, Node(7), by, " name=\"a\"".to_owned());
        let line = observed.line(Duration::from_micros(12), 2);
        let rest = line.split_once(' ').unwrap().1;
        assert_eq!(rest, "uid=1 gid=2 pid=3 Lookup inode=7 name=\"a\" errno=2 took_us=12\n");
    }

    #[test]
    fn what_is_answered_is_counted_and_written() {
        let dir = tempfile::tempdir().unwrap();
        let (metrics, path) = (Metrics::new(), dir.path().join("access"));
        let observer = Observer::new(&metrics, Some(&path)).unwrap();
        for _ in 0..3 {
            let by = Asker { uid: 0, gid: 0, pid: 0 };
            Observed::begin(Some(&observer), 1, 15, Node(1), by, String::new()).end(None);
        }
        assert_eq!(metrics.value("Fuse.Read"), Some(3));
        assert_eq!(metrics.value("Fuse.TotalCalls"), Some(3));
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::fs::read_to_string(&path).unwrap().lines().count() < 3 {
            assert!(Instant::now() < deadline, "the lines are not written");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(Observer::new(&metrics, Some(&dir.path().join("no/such"))).is_err());
    }
}
