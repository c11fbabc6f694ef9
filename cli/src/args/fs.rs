//! `alluxio fs …`: Alluxio's words and flags.
//!
//! Where `-h` means "human readable", help is `--help` only, as in Alluxio.

use super::Format;
use clap::{ArgAction, ArgGroup, Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// What is done to files. A PATH is `/path` or `alluxio://host:port/path`; `*` stands for any text within a name.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  alluxio fs ls /                              # what is there
  alluxio fs copyFromLocal big.csv /data/      # copy in
  alluxio fs mount /s3 s3://bucket/prefix --option-file bucket.properties
  alluxio fs mount --update /s3 --option-file new.properties
  alluxio fs load /s3/models                   # fetch into the cache

PATH is /path or alluxio://host:port/path; * stands for any text within a name (quote it from the shell).")]
pub enum FsCommand {
    /// Lists files: mode, owner, group, size, persistence state, time, part in Alluxio, path.
    #[command(disable_help_flag = true)]
    Ls(LsArgs),
    /// Prints files.
    Cat {
        /// Files.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Copies within Alluxio, and between Alluxio and this host (file:///path).
    #[command(after_help = "Examples:
  alluxio fs cp /data/a /data/b
  alluxio fs cp -R file:///srv/photos /photos
  alluxio fs cp -R /photos file:///tmp/photos")]
    Cp(CopyArgs),
    /// Renames, within one mount. An existing target is not replaced.
    Mv {
        /// What, with wildcards if the target is a folder.
        source: String,
        /// New path, or a folder to put it in.
        target: String,
    },
    /// Removes files, also from the under-storage.
    Rm(RmArgs),
    /// Makes folders, with those above them.
    Mkdir {
        /// An existing folder is no error.
        #[arg(short = 'p', long)]
        parents: bool,
        /// Folders.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Makes empty files; of existing ones the time becomes now.
    Touch {
        /// Files.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Prints all there is to know of a file or folder.
    #[command(
        after_help = "FORMAT holds %N name, %z size, %u owner, %g group, %y time, %Y milliseconds since 1970, %b blocks.

Examples:
  alluxio fs stat /data/a
  alluxio fs stat -f '%N %z' '/data/*'
  alluxio fs stat -fileId 42"
    )]
    Stat(StatArgs),
    /// Prints the start of a file.
    Head(EndArgs),
    /// Prints the end of a file.
    Tail(EndArgs),
    /// Prints sizes, and how much of them is in Alluxio.
    #[command(disable_help_flag = true)]
    Du(DuArgs),
    /// Counts files, folders and bytes.
    #[command(disable_help_flag = true)]
    Count {
        /// Sizes as 1.50GB.
        #[arg(short = 'h')]
        human: bool,
        /// Prints help.
        #[arg(long, action = ArgAction::Help)]
        help: Option<bool>,
        /// How to print.
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        format: Format,
        /// Folders.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Tests a path: the exit status is 0 if it is so and 1 if not.
    Test(TestArgs),
    /// Changes permission bits: octal, or as u+x,g-w.
    Chmod(ModeArgs),
    /// Changes the owner: USER or USER:GROUP, names that this host knows, or numbers.
    Chown(OwnerArgs),
    /// Changes the group, to a name that this host knows or a number.
    Chgrp(GroupArgs),
    /// Prints the MD5 of a file.
    Checksum {
        /// Files.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Copies a file or folder of this host into Alluxio.
    #[command(name = "copyFromLocal")]
    CopyFromLocal(CopyFromLocalArgs),
    /// Copies a file or folder out of Alluxio to this host.
    #[command(name = "copyToLocal")]
    CopyToLocal(CopyToLocalArgs),
    /// Prints which workers hold a file.
    Location {
        /// Files.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Mounts an under-storage at a path; without arguments, prints the mount table.
    #[command(after_help = "Examples:
  alluxio fs mount
  alluxio fs mount /s3 s3://bucket/prefix --option-file bucket.properties
  alluxio fs mount --update /s3 --option-file new.properties
  alluxio fs mount --readonly /public s3://bucket/prefix \\
    --option alluxio.underfs.s3.endpoint=http://host:9000

Credentials (s3a.accessKeyId, s3a.secretKey) go into the file, one key=value a line: every user sees a command line in \
`ps`. Without, the servers' own environment or profile counts. An option that is a slip of the fingers is refused; others \
that are not known are told.")]
    Mount(MountArgs),
    /// Takes a mounted under-storage off the tree; the storage stays as it is.
    Unmount {
        /// Mount points.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Waits until files are in the under-storage, also those that would never go there by themselves.
    Persist(PersistArgs),
    /// Lists what an under-storage refuses, so that it and the namespace do not say the same; exit status 1 if there is some.
    #[command(name = "checkConsistency")]
    CheckConsistency {
        /// Have it tried again now.
        #[arg(short = 'r', long)]
        repair: bool,
        /// Files and folders.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Drops cached data that the under-storage has.
    #[command(
        after_help = "It returns at once; workers drop the data a moment later, and `alluxio fs ls` shows it until they have. \
What is open, or not persisted yet, stays."
    )]
    Free {
        /// Also what is pinned.
        #[arg(short = 'f', long)]
        force: bool,
        /// Files and folders.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Fetches files into the cache.
    Load(LoadArgs),
}

/// `ls`.
#[derive(Args, Debug)]
pub struct LsArgs {
    /// Folders themselves, not what is in them.
    #[arg(short = 'd')]
    pub directory: bool,
    /// Look at the under-storage now, whatever was known.
    #[arg(short = 'f')]
    pub force: bool,
    /// Sizes as 1.50GB.
    #[arg(short = 'h')]
    pub human: bool,
    /// Only pinned files.
    #[arg(short = 'p')]
    pub pinned: bool,
    /// Folders below too.
    #[arg(short = 'R')]
    pub recursive: bool,
    /// Sort by this; without it, folders are printed as they are read, names in order.
    #[arg(long, value_enum, value_name = "FIELD", ignore_case = true)]
    pub sort: Option<SortField>,
    /// Reverse the order.
    #[arg(short = 'r')]
    pub reverse: bool,
    /// Which time to print.
    #[arg(
        long,
        value_enum,
        value_name = "TIME",
        default_value = "lastModificationTime",
        ignore_case = true
    )]
    pub timestamp: Timestamp,
    /// Accepted for Alluxio's sake; mounts are never printed here.
    #[arg(short = 'm', long = "omit-mount-info", hide = true)]
    pub omit_mount_info: bool,
    /// Prints help.
    #[arg(long, action = ArgAction::Help)]
    pub help: Option<bool>,
    /// How to print; json is one object per line.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
    /// Files and folders.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
}

/// Orders of `ls --sort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "camelCase")]
pub enum SortField {
    /// Bytes.
    Size,
    /// Creation.
    CreationTime,
    /// Part in Alluxio.
    #[value(alias = "inAlluxioPercentage")]
    InMemoryPercentage,
    /// Last change.
    LastModificationTime,
    /// Last access.
    LastAccessTime,
    /// Name, upper and lower case alike.
    Name,
    /// Path.
    Path,
}

/// Times of `ls --timestamp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "camelCase")]
pub enum Timestamp {
    /// Creation.
    CreationTime,
    /// Last change.
    LastModificationTime,
    /// Last access.
    LastAccessTime,
}

/// `cp`.
#[derive(Args, Debug)]
pub struct CopyArgs {
    /// Folders with all that is in them.
    #[arg(short = 'R', visible_short_alias = 'r')]
    pub recursive: bool,
    /// Keep owner, group, mode and times.
    #[arg(short = 'p', long)]
    pub preserve: bool,
    /// How many files at once.
    #[command(flatten)]
    pub parallel: Parallel,
    /// What; file:///path is on this host.
    pub source: String,
    /// Where to; an existing folder is copied into.
    pub target: String,
}

/// `copyFromLocal`. Folders are copied with all that is in them, as in Alluxio.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  alluxio fs copyFromLocal big.csv /data/
  alluxio fs copyFromLocal --thread 32 photos /photos")]
pub struct CopyFromLocalArgs {
    /// How many files at once.
    #[command(flatten)]
    pub parallel: Parallel,
    /// Files and folders of this host.
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<PathBuf>,
    /// Where to; an existing folder is copied into.
    pub target: String,
}

/// `copyToLocal`. Folders are copied with all that is in them, as in Alluxio.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  alluxio fs copyToLocal /data/big.csv .
  alluxio fs copyToLocal '/logs/*.gz' /tmp/logs/")]
pub struct CopyToLocalArgs {
    /// How many files at once.
    #[command(flatten)]
    pub parallel: Parallel,
    /// What, with wildcards if the target is a folder.
    pub source: String,
    /// Where to on this host; an existing folder is copied into, an existing file replaced.
    pub target: PathBuf,
}

/// How much happens at once.
#[derive(Args, Clone, Copy, Debug)]
pub struct Parallel {
    /// Files at once; 0: twice the processors.
    #[arg(long = "thread", value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
    /// Accepted for Alluxio's sake: data moves in pieces of 4MB.
    #[arg(long = "buffersize", value_name = "BYTES", hide = true)]
    pub buffer_bytes: Option<u64>,
}

/// `rm`.
#[derive(Args, Debug)]
pub struct RmArgs {
    /// Folders with all that is in them.
    #[arg(short = 'R', visible_short_alias = 'r')]
    pub recursive: bool,
    /// Accepted for Alluxio's sake: the under-storage is never compared first.
    #[arg(short = 'U', hide = true)]
    pub unchecked: bool,
    /// Leave the under-storage as it is; the names come back when it is looked at again.
    #[arg(long = "alluxioOnly")]
    pub alluxio_only: bool,
    /// Files and folders.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
}

/// `stat`.
#[derive(Args, Debug)]
pub struct StatArgs {
    /// Print just this.
    #[arg(short = 'f', value_name = "FORMAT", conflicts_with = "format")]
    pub pattern: Option<String>,
    /// By file id, not by path.
    #[arg(long = "fileId", value_name = "ID", conflicts_with = "paths")]
    pub file_id: Option<u64>,
    /// How to print.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
    /// Files and folders.
    #[arg(required_unless_present = "file_id", value_name = "PATH")]
    pub paths: Vec<String>,
}

/// `head` and `tail`.
#[derive(Args, Debug)]
pub struct EndArgs {
    /// How much, such as 512 or 4KB.
    #[arg(short = 'c', value_name = "BYTES", default_value = "1KB", value_parser = bytes)]
    pub bytes: u64,
    /// Files.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
}

fn bytes(text: &str) -> Result<u64, String> {
    alluxio_common::config::parse_bytes(text).ok_or_else(|| "must be a size such as 512 or 4KB".to_owned())
}

/// `du`.
#[derive(Args, Debug)]
pub struct DuArgs {
    /// One sum per PATH.
    #[arg(short = 's')]
    pub summarize: bool,
    /// Sizes as 1.50GB.
    #[arg(short = 'h')]
    pub human: bool,
    /// Also how much is in memory: nothing, unless the workers' tier is MEM.
    #[arg(short = 'm', long)]
    pub memory: bool,
    /// By worker.
    #[arg(short = 'g')]
    pub by_worker: bool,
    /// Prints help.
    #[arg(long, action = ArgAction::Help)]
    pub help: Option<bool>,
    /// Files and folders.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
}

/// `test`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("question").required(true).args(["directory", "exists", "file", "filled", "empty"])))]
pub struct TestArgs {
    /// It is a folder.
    #[arg(short = 'd')]
    pub directory: bool,
    /// It exists.
    #[arg(short = 'e')]
    pub exists: bool,
    /// It is a file.
    #[arg(short = 'f')]
    pub file: bool,
    /// It is a folder with entries, or a file with bytes.
    #[arg(short = 's')]
    pub filled: bool,
    /// It is a file without bytes.
    #[arg(short = 'z')]
    pub empty: bool,
    /// What.
    pub path: String,
}

/// `chmod`.
#[derive(Args, Debug)]
pub struct ModeArgs {
    /// Folders with all that is in them.
    #[arg(short = 'R')]
    pub recursive: bool,
    /// Octal such as 755, or changes such as u+x,go-w.
    pub mode: String,
    /// Files and folders.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
}

/// `chown`.
#[derive(Args, Debug)]
pub struct OwnerArgs {
    /// Folders with all that is in them.
    #[arg(short = 'R')]
    pub recursive: bool,
    /// USER or USER:GROUP.
    pub owner: String,
    /// Files and folders.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
}

/// `chgrp`.
#[derive(Args, Debug)]
pub struct GroupArgs {
    /// Folders with all that is in them.
    #[arg(short = 'R')]
    pub recursive: bool,
    /// The group.
    pub group: String,
    /// Files and folders.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
}

/// `mount`.
#[derive(Args, Debug)]
pub struct MountArgs {
    /// Refuse changes.
    #[arg(long, visible_alias = "read-only")]
    pub readonly: bool,
    /// Every user may use it.
    #[arg(long)]
    pub shared: bool,
    /// A setting; may be repeated. For credentials see --option-file.
    #[arg(long = "option", value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub options: Vec<String>,
    /// File of settings and credentials, one KEY=VALUE a line; - reads them from standard input.
    #[arg(long = "option-file", value_name = "FILE")]
    pub option_file: Option<PathBuf>,
    /// Give a mount that is there other options, such as new credentials; those that are not named stay.
    #[arg(long, requires = "path", conflicts_with_all = ["readonly", "shared"])]
    pub update: bool,
    /// How to print the mount table.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
    /// Where: a path that is free, or an empty folder.
    pub path: Option<String>,
    /// What: s3://bucket/prefix, file:///path, or a path on the servers' hosts.
    pub uri: Option<String>,
}

/// `persist`.
#[derive(Args, Debug)]
pub struct PersistArgs {
    /// Give up after so many milliseconds, or a time such as 20min, for all PATHs together; it goes on in the background.
    #[arg(short = 't', long, value_name = "TIME", default_value = "20min", value_parser = duration_ms)]
    pub timeout: u64,
    /// Accepted for Alluxio's sake: the master decides how much happens at once.
    #[arg(short = 'p', long = "parallelism", value_name = "N", hide = true)]
    pub parallelism: Option<u32>,
    /// Accepted for Alluxio's sake: nothing is waited for first.
    #[arg(short = 'w', long = "wait", value_name = "MS", hide = true)]
    pub wait_ms: Option<u64>,
    /// Files and folders.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
}

fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong = || "must be milliseconds, or a time such as 30s or 20min".to_owned();
    if let Ok(milliseconds) = text.parse() {
        return Ok(milliseconds);
    }
    let duration = alluxio_common::config::parse_duration(text)
        .flatten()
        .ok_or_else(wrong)?;
    u64::try_from(duration.as_millis()).map_err(|_| wrong())
}

/// `load`.
#[derive(Args, Debug)]
pub struct LoadArgs {
    /// Accepted for Alluxio's sake: data goes to the worker on this host anyway, if there is one.
    #[arg(long, hide = true)]
    pub local: bool,
    /// How many files at once.
    #[command(flatten)]
    pub parallel: Parallel,
    /// Files and folders.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
}
