//! `alluxio format`: removes journal, metadata and cache. The most destructive thing there is, so it asks, it refuses folders
//! that are in use or hold something that is not ours, and it looks at all of them before it removes anything.

use super::{CommandError, Done};
use crate::args::FormatArgs;
use crate::output::Out;
use alluxio_common::config::{Configuration, Key, keys};
use alluxio_common::crashsafe;
use alluxio_proto::{ErrorKind, FsError};
use nix::fcntl::{Flock, FlockArg};
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Locked by the process that uses the folder.
const LOCK: &str = "lock";

/// A folder with state of ours.
struct Store {
    what: &'static str,
    key: &'static Key,
    /// Names that it may hold, `*.x` for all that end so. Others mean that it is not the folder it should be.
    names: &'static [&'static str],
}

impl Store {
    fn knows(&self, name: &OsStr) -> bool {
        let known = |pattern: &&str| match pattern.strip_prefix('*') {
            Some(end) => name.as_encoded_bytes().ends_with(end.as_bytes()),
            None => name == *pattern,
        };
        self.names.iter().any(known) || crashsafe::is_temporary(name)
    }
}

/// In the order of removal: the journal goes last, since a journal without what is derived from it still makes sense, and
/// nothing makes sense without its journal.
const STORES: [Store; 3] = [
    Store {
        what: "metadata",
        key: &keys::master::METASTORE_DIR,
        names: &["keyspaces", "version", "*.jnl"],
    },
    Store {
        what: "cached data",
        key: &keys::worker::WORKER_TIER0_PATH,
        names: &[
            "worker.properties",
            "data",
            "held",
            "boot",
            "worker.sock",
            "order",
            "scrub",
            "damaged",
            "ballast",
            "running",
        ],
    },
    Store {
        what: "the journal",
        key: &keys::master::JOURNAL_FOLDER,
        names: &["format", "vote", "log", "snapshots"],
    },
];

/// Asks, and removes.
pub fn format(conf: &Configuration, args: &FormatArgs, out: &mut Out) -> Done {
    let journal = conf.path(&keys::master::JOURNAL_FOLDER);
    if args.only_if_new && alluxio_journal::is_formatted(&journal) {
        let line = format!("{} holds a journal already; nothing was done", journal.display());
        return Ok(out.line(line)?);
    }
    let mut found = Vec::new();
    for store in &STORES {
        if let Some(opened) = Opened::open(store, conf.path(store.key))? {
            found.push(opened);
        }
    }
    if found.iter().all(|opened| opened.entries.is_empty()) {
        return Ok(out.line("There is nothing to remove.")?);
    }
    if !args.yes {
        confirm(&found)?;
    }
    for opened in found {
        opened.clear()?;
        out.line(format!("Removed {} in {}", opened.store.what, opened.dir.display()))?;
    }
    Ok(())
}

/// A folder that nobody else uses, and what is in it.
struct Opened {
    store: &'static Store,
    dir: PathBuf,
    entries: Vec<OsString>,
    /// Absent if the folder has never been used.
    _lock: Option<Flock<File>>,
}

impl Opened {
    /// `None` if there is no such folder.
    fn open(store: &'static Store, dir: PathBuf) -> Result<Option<Self>, CommandError> {
        let doing = format!("format {} in {}", store.what, dir.display());
        let listed = match std::fs::read_dir(&dir) {
            Ok(listed) => listed.collect::<io::Result<Vec<_>>>(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        };
        let listed = listed.map_err(|error| FsError::from_io(&doing, &error))?;
        let mut entries = Vec::new();
        for name in listed.into_iter().map(|entry| entry.file_name()) {
            let kept = name == LOCK || name == "lost+found";
            if !kept && !store.knows(&name) {
                let why = format!(
                    "{doing}: {} is not ours, so the folder may be another one; see {}",
                    dir.join(&name).display(),
                    store.key.name
                );
                return Err(FsError::new(ErrorKind::InvalidArgument, why).into());
            }
            if !kept {
                entries.push(name);
            }
        }
        let lock = lock(&dir.join(LOCK), &doing)?;
        Ok(Some(Self {
            store,
            dir,
            entries,
            _lock: lock,
        }))
    }

    fn clear(&self) -> Result<(), FsError> {
        let doing = |path: &Path| format!("remove {}", path.display());
        for name in &self.entries {
            let path = self.dir.join(name);
            let folder = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
            let removed = if folder {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(FsError::from_io(doing(&path), &error));
                }
                _ => {}
            }
        }
        crashsafe::sync_dir(&self.dir).map_err(|error| FsError::from_io(doing(&self.dir), &error))
    }
}

fn lock(path: &Path, doing: &str) -> Result<Option<Flock<File>>, FsError> {
    let file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FsError::from_io(doing, &error)),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err(_) => {
            let why = format!("{doing}: a process uses it; stop it first");
            Err(FsError::new(ErrorKind::Busy, why))
        }
    }
}

fn confirm(found: &[Opened]) -> Done {
    let folders: Vec<String> = found.iter().map(|opened| opened.dir.display().to_string()).collect();
    let folders = folders.join(", ");
    if !io::stdin().is_terminal() {
        let why = format!("format {folders}: nobody can be asked; -y does it without asking");
        return Err(CommandError::Usage(why));
    }
    let question = format!(
        "This removes everything in {folders}.\nNames, owners and whatever is not yet in an under-storage are lost; what is \
         there already stays there.\nType yes to go on: "
    );
    let mut stderr = io::stderr();
    let asked = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush());
    asked.map_err(|error| FsError::from_io("ask whether to format", &error))?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| FsError::from_io("read the answer", &error))?;
    if answer.trim() == "yes" {
        Ok(())
    } else {
        Err(CommandError::failed("format: not done, since the answer was not yes"))
    }
}
