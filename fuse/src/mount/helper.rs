//! `mount -t alluxio`: mount(8) runs /sbin/mount.alluxio, which is the `alluxio` binary under another name.
//!
//! The helper forks: the child mounts and stays as the daemon, the parent waits for its word and ends with the status that
//! mount(8) expects: 0 once the mount serves, 32 after saying on standard error why not.

use super::options::{MountOptions, Unknown};
use alluxio_client::AlluxioUri;
use alluxio_common::crashsafe;
use alluxio_proto::{ErrorKind, FsError, FsResult};
use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Where mount(8) looks for the helper of `-t alluxio`.
pub const HELPER_PATH: &str = "/sbin/mount.alluxio";
/// Where mount(8) looks for it when the type comes from the mount table, as with `mount -o remount DIR`. Without it the helper of
/// all FUSE types is run, which takes what is behind the dot of the type for a program.
pub const HELPER_PATH_BY_TABLE: &str = "/sbin/mount.fuse.alluxio";

/// Exit status "mount failure" of mount(8).
pub const MOUNT_FAILURE: i32 = 32;

/// What the daemon says when it serves; anything else it says is an error.
const READY: &[u8] = b"\0ready";

/// Longest error text that is passed to the parent.
const MESSAGE_BYTES_MAX: u64 = 64 << 10;

const USAGE: &str = "usage: mount.alluxio HOST:PORT[,HOST:PORT...]/PATH DIR [-sfnv] [-o OPTIONS]";

/// Whether a program called by this name (argv 0) is the mount helper.
pub fn is_helper_name(program: &OsStr) -> bool {
    Path::new(program)
        .file_name()
        .is_some_and(|name| name == "mount.alluxio" || name == "mount.fuse.alluxio")
}

/// What mount(8) asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperRequest {
    /// What to mount, as it was written; shown in /proc/mounts.
    pub source: String,
    /// The same, taken apart.
    pub uri: AlluxioUri,
    /// Where, as an absolute path: the daemon leaves the working directory.
    pub dir: PathBuf,
    /// `-o`.
    pub options: MountOptions,
    /// `-f`: do everything but mount.
    pub fake: bool,
    /// `-v`.
    pub verbose: bool,
}

impl HelperRequest {
    /// Parses the arguments after argv 0, as mount(8) gives them: `SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`.
    ///
    /// # Errors
    /// `InvalidArgument` for what is missing or not known.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> FsResult<HelperRequest> {
        let mut arguments = arguments.into_iter();
        let (mut places, mut lists) = (Vec::new(), Vec::new());
        let (mut sloppy, mut fake, mut verbose) = (false, false, false);
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy();
            let Some(flags) = text.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
                places.push(argument);
                continue;
            };
            let mut letters = flags.chars();
            while let Some(letter) = letters.next() {
                match letter {
                    's' => sloppy = true,
                    'f' => fake = true,
                    'v' => verbose = true,
                    // There is no /etc/mtab to leave alone.
                    'n' => {}
                    'o' | 't' | 'N' => {
                        let value = value_of(letter, letters.as_str(), &mut arguments)?;
                        // The type is in our name, and mount(8) has entered the namespace before it ran us.
                        if letter == 'o' {
                            lists.push(value);
                        }
                        break;
                    }
                    _ => return Err(usage(&format!("{text} is not known"))),
                }
            }
        }
        let [source, dir] = <[OsString; 2]>::try_from(places).map_err(|_| usage("a source and a folder are needed"))?;
        let unknown = if sloppy { Unknown::Ignore } else { Unknown::Refuse };
        let mut options = MountOptions::default();
        for list in &lists {
            options.apply(list, unknown)?;
        }
        let source = source
            .into_string()
            .map_err(|source| usage(&format!("{} is not UTF-8", source.to_string_lossy())))?;
        Ok(HelperRequest {
            uri: AlluxioUri::parse_source(&source)?,
            source,
            dir: std::path::absolute(&dir)
                .map_err(|error| FsError::from_io(format!("mount point {}", dir.to_string_lossy()), &error))?,
            options,
            fake,
            verbose,
        })
    }
}

/// The value of a letter: the rest of its word (`-oro`) or the next one (`-o ro`).
fn value_of(letter: char, rest: &str, arguments: &mut impl Iterator<Item = OsString>) -> FsResult<String> {
    if !rest.is_empty() {
        return Ok(rest.to_owned());
    }
    arguments
        .next()
        .map(|value| value.to_string_lossy().into_owned())
        .ok_or_else(|| usage(&format!("-{letter} needs a value")))
}

fn usage(what: &str) -> FsError {
    FsError::new(ErrorKind::InvalidArgument, format!("mount.alluxio: {what}. {USAGE}"))
}

/// The whole helper: parses, forks, and serves in the background. Returns the exit status of this process, in the parent
/// as well as in the daemon. `serve` mounts, calls [`Readiness::ready`] when the mount answers, and returns when it ended.
///
/// Call it first in `main`, before any thread is started.
pub fn run_helper(
    arguments: impl IntoIterator<Item = OsString>,
    serve: impl FnOnce(HelperRequest, &mut Readiness) -> FsResult<()>,
) -> i32 {
    let refuse = |error: FsError| {
        eprintln!("{error}");
        MOUNT_FAILURE
    };
    let request = match HelperRequest::parse(arguments) {
        Ok(request) if request.fake => return 0,
        Ok(request) => request,
        Err(error) => return refuse(error),
    };
    match daemonize() {
        Ok(Side::Parent(status)) => status,
        Ok(Side::Daemon(mut readiness)) => match serve(request, &mut readiness) {
            Ok(()) => readiness.finish(),
            Err(error) => readiness.fail(&error),
        },
        Err(error) => refuse(error),
    }
}

/// Which of the two processes goes on.
#[derive(Debug)]
pub enum Side {
    /// The one that was called: end with this status now.
    Parent(i32),
    /// The one in the background.
    Daemon(Readiness),
}

/// The daemon's word to the process that waits for it. Dropped unsaid, the wait ends with the daemon, in failure.
#[derive(Debug)]
pub struct Readiness {
    parent: Option<File>,
}

impl Readiness {
    /// Lets the parent end with success, and lets go of the terminal: standard input, output and error become /dev/null.
    ///
    /// # Errors
    /// If the parent is gone or /dev/null cannot be opened. The mount serves all the same.
    pub fn ready(&mut self) -> FsResult<()> {
        let Some(mut parent) = self.parent.take() else {
            return Ok(());
        };
        let failed = |error: std::io::Error| FsError::from_io("detach from the terminal", &error);
        parent.write_all(READY).map_err(failed)?;
        drop(parent);
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(failed)?;
        dup2_stdin(&null).map_err(|errno| failed(errno.into()))?;
        dup2_stdout(&null).map_err(|errno| failed(errno.into()))?;
        dup2_stderr(&null).map_err(|errno| failed(errno.into()))
    }

    /// Answers the daemon's exit status after an error. Before [`ready`](Self::ready) the parent prints it, too.
    pub fn fail(&mut self, error: &FsError) -> i32 {
        match self.parent.take() {
            Some(mut parent) => {
                if let Err(lost) = parent.write_all(error.message.as_bytes()) {
                    tracing::error!(%error, %lost, "mount failed, and whoever asked for it is gone");
                }
            }
            None => tracing::error!(%error, "the mount ended"),
        }
        MOUNT_FAILURE
    }

    fn finish(&mut self) -> i32 {
        if self.parent.is_none() {
            return 0;
        }
        // It ended well without ever being ready: unmounted while it started.
        self.fail(&FsError::new(
            ErrorKind::Cancelled,
            "the mount was ended before it served",
        ))
    }
}

/// Forks a daemon: a session leader in `/`, which keeps the terminal until it is ready. The parent waits for its word.
///
/// # Errors
/// `Internal` if this process has more than one thread: their locks would be held for ever in the child.
pub fn daemonize() -> FsResult<Side> {
    let threads = std::fs::read_dir("/proc/self/task")
        .map_err(|error| FsError::from_io("count the threads of this process", &error))?
        .count();
    if threads != 1 {
        return Err(FsError::new(
            ErrorKind::Internal,
            format!("go to the background: {threads} threads run already; it must happen first in main"),
        ));
    }
    let failed = |errno: nix::errno::Errno| FsError::from_io("go to the background", &errno.into());
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    // SAFETY: this is the only thread, as counted above, so the child inherits no lock that another thread holds.
    match unsafe { fork() }.map_err(failed)? {
        ForkResult::Parent { child } => {
            drop(writer);
            Ok(Side::Parent(wait_for_word(File::from(reader), child)))
        }
        ForkResult::Child => {
            drop(reader);
            let mut readiness = Readiness {
                parent: Some(File::from(writer)),
            };
            if let Err(error) = setsid()
                .map_err(failed)
                .and_then(|_| nix::unistd::chdir("/").map_err(failed))
            {
                // Must not return an error here: two processes would report it.
                std::process::exit(readiness.fail(&error));
            }
            Ok(Side::Daemon(readiness))
        }
    }
}

/// Reads until the daemon has spoken and closed its end; prints what it says unless that is "ready".
fn wait_for_word(reader: File, child: Pid) -> i32 {
    let mut word = Vec::new();
    let read = reader.take(MESSAGE_BYTES_MAX).read_to_end(&mut word);
    if word == READY {
        return 0;
    }
    if !word.is_empty() {
        eprintln!("{}", String::from_utf8_lossy(&word));
        return MOUNT_FAILURE;
    }
    let how = match (read, waitpid(child, None)) {
        (Err(error), _) => format!("it cannot be heard: {error}"),
        (_, Ok(WaitStatus::Exited(_, status))) => format!("it ended with status {status}"),
        (_, Ok(WaitStatus::Signaled(_, signal, _))) => format!("it was killed by {signal}"),
        (_, other) => format!("{other:?}"),
    };
    eprintln!("the mount daemon did not start: {how}");
    MOUNT_FAILURE
}

/// Makes `at` ([`HELPER_PATH`]) a symbolic link to `program`. A link that is there is replaced.
///
/// # Errors
/// `AlreadyExists` if something else than a link is there; `AccessDenied` if we may not.
pub fn install_helper(program: &Path, at: &Path) -> FsResult<()> {
    let doing = format!("install {}", at.display());
    let failed = |error: &std::io::Error| {
        let mut explained = FsError::from_io(&doing, error);
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            explained.message.push_str("; run it as root");
        }
        explained
    };
    match at.symlink_metadata() {
        Ok(metadata) if !metadata.is_symlink() => {
            return Err(FsError::new(
                ErrorKind::AlreadyExists,
                format!("{doing}: a file is there that is not ours; remove it first"),
            ));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&error)),
    }
    let program = program
        .canonicalize()
        .map_err(|error| FsError::from_io(format!("find {}", program.display()), &error))?;
    let mut new = at.as_os_str().to_owned();
    new.push(format!(".new-{}", std::process::id()));
    let new = PathBuf::from(new);
    std::os::unix::fs::symlink(&program, &new).map_err(|error| failed(&error))?;
    crashsafe::rename(&new, at).map_err(|error| {
        // The name is ours alone; that it stays behind is worth no second error.
        let _ = std::fs::remove_file(&new);
        failed(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn parsed(line: &str) -> FsResult<HelperRequest> {
        HelperRequest::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn as_mount_calls_it() {
        let request = parsed("h1:19998,h2/data/x /mnt/a -o rw,nosuid,attr_timeout=5 -v -t alluxio").unwrap();
        assert_eq!(request.source, "h1:19998,h2/data/x");
        assert_eq!(request.uri.masters, ["h1:19998", "h2:19998"]);
        assert_eq!(request.uri.path, "/data/x");
        assert_eq!(request.dir, Path::new("/mnt/a"));
        assert_eq!(request.options.attr_timeout, Some(Duration::from_secs(5)));
        assert!(request.verbose && !request.fake);
    }

    #[test]
    fn flags_stand_anywhere_and_together() {
        let request = parsed("-fnv -oro alluxio://h/ -s -o quiet,uid=7 m").unwrap();
        assert!(request.fake && request.options.read_only());
        assert_eq!(request.options.uid, Some(7));
        assert!(request.dir.is_absolute() && request.dir.ends_with("m"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, word) in [
            ("h:1/", "a source and a folder"),
            ("h:1/ /a /b", "a source and a folder"),
            ("h:1/ /a -o", "-o needs a value"),
            ("h:1/ /a -x", "-x is not known"),
            ("h:1/ /a -o quiet", "quiet"),
            ("h:port/ /a", "port"),
        ] {
            let error = parsed(line).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidArgument, "{line}");
            assert!(error.message.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn the_helper_knows_its_name() {
        assert!(is_helper_name(OsStr::new("/sbin/mount.alluxio")));
        assert!(is_helper_name(OsStr::new("mount.alluxio")));
        assert!(!is_helper_name(OsStr::new("/usr/bin/alluxio")));
    }

    #[test]
    fn installing_replaces_links_only() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("mount.alluxio");
        let program = std::env::current_exe().unwrap().canonicalize().unwrap();
        std::os::unix::fs::symlink("/nowhere", &at).unwrap();
        install_helper(&program, &at).unwrap();
        install_helper(&program, &at).unwrap();
        assert_eq!(std::fs::read_link(&at).unwrap(), program);
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left behind"
        );

        std::fs::remove_file(&at).unwrap();
        std::fs::write(&at, "a script of the administrator").unwrap();
        assert_eq!(
            install_helper(&program, &at).unwrap_err().kind,
            ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read(&at).unwrap(), b"a script of the administrator");
        let missing = install_helper(&dir.path().join("none"), &dir.path().join("x")).unwrap_err();
        assert_eq!(missing.kind, ErrorKind::NotFound);
    }

    #[test]
    fn a_process_with_threads_does_not_fork() {
        let error = std::thread::spawn(daemonize).join().unwrap().unwrap_err();
        assert!(error.message.contains("first in main"), "{error}");
    }
}
