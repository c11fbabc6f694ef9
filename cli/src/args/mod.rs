//! The command line: what can be asked, and the help that teaches it.
//!
//! Words and flags are Alluxio's where it has them. [`parse`] also takes the spellings that Alluxio's own parser takes and
//! clap does not: `-D` anywhere, and long options with one dash (`-live`).

pub mod fs;

use alluxio_common::config::{ConfigError, Sources};
use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// One namespace over many storages, cached, mounted.
///
/// Alluxio puts object stores and file systems into one tree, keeps what is read close by, and mounts the tree, so that
/// every program can use it.
#[derive(Debug, Parser)]
#[command(
    name = "alluxio",
    version,
    styles = STYLES,
    max_term_width = 110,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "Examples:
  alluxio local --mount /mnt/a                          # over a local folder
  alluxio local --mount /mnt/a --ufs s3://bucket/data   # over a bucket
  alluxio fs ls /                                       # what is there
  alluxio getConf --source                              # settings, and why

Settings are Alluxio's properties: alluxio-site.properties, the environment (ALLUXIO_MASTER_HOSTNAME), -D key=value."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// A property, over whatever else sets it; may be repeated.
    #[arg(short = 'D', value_name = "KEY=VALUE", global = true, action = ArgAction::Append, help_heading = "Settings")]
    pub properties: Vec<String>,
}

impl Cli {
    /// Environment, `-D` and the flags that stand for properties.
    ///
    /// # Errors
    /// If a `-D` is no `key=value`.
    pub fn sources(&self) -> Result<Sources, ConfigError> {
        let mut sources = Sources::from_environment();
        for property in &self.properties {
            sources.add_property(property)?;
        }
        Ok(sources)
    }
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Master, worker and mount in one process: the quickest start.
    Local(LocalArgs),
    /// Runs a master, which holds the namespace, in the foreground.
    Master,
    /// Runs a worker, which caches data, in the foreground.
    Worker,
    /// Mounts the namespace, unmounts it, lists mounts.
    Fuse {
        /// What to do.
        #[command(subcommand)]
        command: FuseCommand,
    },
    /// Works with files and mounted storages.
    Fs {
        /// What to do.
        #[command(subcommand)]
        command: fs::FsCommand,
    },
    /// Tells how the cluster is.
    Fsadmin {
        /// What to do.
        #[command(subcommand)]
        command: FsadminCommand,
    },
    /// Prints properties in force.
    #[command(name = "getConf")]
    GetConf(GetConfArgs),
    /// Removes journal, metadata and cache, to start with an empty namespace.
    Format(FormatArgs),
    /// Prints the version.
    Version,
}

/// `alluxio local`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  alluxio local --mount /mnt/a
  alluxio local --mount /mnt/a --ufs s3://bucket/data
  AWS_PROFILE=work alluxio local --mount /mnt/a --ufs s3://bucket/data
  alluxio local --mount /mnt/a --ufs /srv/data -- sh -c 'cp -a ~/photos /mnt/a/'

Credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), from a profile (~/.aws/credentials), or \
from alluxio-site.properties (s3a.accessKeyId, s3a.secretKey). Not from the command line: every user sees that in `ps`.

With COMMAND it waits until the mount serves, runs it, waits until everything written is in the under-storage, unmounts, \
says what was persisted and where, and exits with COMMAND's status. Without, Ctrl-C or SIGTERM does the same, for 60 s at \
most; a second Ctrl-C or SIGTERM ends it at once. What was not persisted goes on at the next start.

It listens on the default ports, on 127.0.0.1 unless alluxio.master.bind.host and alluxio.worker.bind.host say otherwise, \
so that all other commands on this host work against it. A second one on this host needs a --data and ports of its own: \
-D alluxio.master.rpc.port=PORT and -D alluxio.worker.rpc.port=PORT.")]
pub struct LocalArgs {
    /// Folder to mount the namespace on; made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub mount: PathBuf,
    /// What to mount at /: a local path, file://, s3://bucket/prefix. Default: a folder under --data.
    #[arg(long, value_name = "URI")]
    pub ufs: Option<String>,
    /// Folder of journal, metadata, cache and secret. Default: alluxio.work.dir if that is set; otherwise
    /// $XDG_DATA_HOME/alluxio or ~/.local/share/alluxio, for root /var/lib/alluxio.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Command to run while it is mounted, after `--`.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `alluxio fuse …`.
#[derive(Debug, Subcommand)]
pub enum FuseCommand {
    /// Mounts a folder of the namespace, says so, and serves it in the foreground.
    #[command(after_help = "Examples:
  alluxio fuse mount / /mnt/a
  alluxio fuse mount -o ro,allow_other alluxio://master:19998/data /mnt/a")]
    Mount {
        /// Mount options, separated by commas, as in fstab.
        #[arg(short = 'o', value_name = "OPTIONS", action = ArgAction::Append)]
        options: Vec<String>,
        /// Folder of the namespace, or alluxio://HOST:PORT/PATH. Default: alluxio.fuse.mount.alluxio.path.
        path: Option<String>,
        /// Existing folder to mount it on. Default: alluxio.fuse.mount.point.
        dir: Option<PathBuf>,
    },
    /// Unmounts.
    #[command(visible_alias = "unmount")]
    Umount {
        /// Detach now, clean up when nothing uses it any more.
        #[arg(short = 'l', long)]
        lazy: bool,
        /// Mount point.
        dir: PathBuf,
    },
    /// Lists the mounts on this host.
    #[command(visible_alias = "stat")]
    List {
        /// How to print.
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        format: Format,
    },
    /// Puts /sbin/mount.alluxio there, so that `mount -t alluxio` and fstab work.
    InstallHelper,
}

/// `alluxio fsadmin …`.
#[derive(Debug, Subcommand)]
pub enum FsadminCommand {
    /// Reports on masters, workers and under-storages.
    #[command(after_help = "Examples:
  alluxio fsadmin report
  alluxio fsadmin report capacity -live
  alluxio fsadmin report metrics
  alluxio fsadmin report ufs --format json")]
    Report(ReportArgs),
    /// Shows changes that an under-storage refuses, and decides on them.
    #[command(after_help = "Examples:
  alluxio fsadmin intents list
  alluxio fsadmin intents retry 17 18
  alluxio fsadmin intents retry --all
  alluxio fsadmin intents forget 17

What is given up by forget: an upload (the file stays in the cache; `alluxio fs persist` schedules it again), a deletion \
(the object stays in the under-storage), new attributes. A rename or a new folder cannot be given up: what is beneath \
depends on it.")]
    Intents(IntentsArgs),
}

/// `alluxio fsadmin intents`.
#[derive(Args, Debug)]
pub struct IntentsArgs {
    /// What to do.
    #[arg(value_enum)]
    pub action: IntentsAction,
    /// retry, forget: all that `list` shows.
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
    /// retry, forget: which, by the numbers that `list` shows.
    #[arg(value_name = "ID")]
    pub ids: Vec<u64>,
}

/// What `fsadmin intents` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IntentsAction {
    /// Prints them, with their numbers and reasons.
    List,
    /// Tries them again now.
    Retry,
    /// Gives them up.
    Forget,
}

/// `alluxio fsadmin report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// What to report on.
    #[arg(value_enum, default_value_t)]
    pub category: ReportCategory,
    /// capacity: of live workers only.
    #[arg(long, conflicts_with_all = ["lost", "workers"])]
    pub live: bool,
    /// capacity: of lost workers only.
    #[arg(long, conflicts_with = "workers")]
    pub lost: bool,
    /// capacity: of these workers only, by host, separated by commas.
    #[arg(long, value_name = "HOSTS", value_delimiter = ',')]
    pub workers: Vec<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}

/// What `fsadmin report` reports on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportCategory {
    /// The cluster in short.
    #[default]
    Summary,
    /// Space of each worker.
    Capacity,
    /// The mounted under-storages.
    Ufs,
    /// What the master counts, from its web port.
    Metrics,
}

/// `alluxio getConf`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  alluxio getConf alluxio.master.rpc.port
  alluxio getConf --source alluxio.master.rpc.port
  alluxio getConf --unit MB alluxio.user.block.size.bytes.default
  alluxio getConf --source --format json")]
pub struct GetConfArgs {
    /// Print where the value came from: alone for one KEY, behind the value for all.
    #[arg(long)]
    pub source: bool,
    /// Print a size in B, KB, MB, GB, TB, PB or a time in MS, S, M, H, D, rounded down.
    #[arg(long, value_name = "UNIT", requires = "key", ignore_case = true)]
    pub unit: Option<Unit>,
    /// How to print.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
    /// The property; without it, all.
    pub key: Option<String>,
}

/// Units of `getConf --unit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
#[allow(missing_docs)]
pub enum Unit {
    B,
    KB,
    MB,
    GB,
    TB,
    PB,
    MS,
    S,
    M,
    H,
    D,
}

/// `alluxio format`.
#[derive(Args, Debug)]
#[command(
    after_help = "Under-storages are left as they are; what was not persisted yet is lost. The roles must not run."
)]
pub struct FormatArgs {
    /// Do not ask.
    #[arg(short = 'y', long)]
    pub yes: bool,
    /// Do nothing where there is a journal already.
    #[arg(short = 's')]
    pub only_if_new: bool,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, as Alluxio prints it.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Long options that Alluxio's scripts write with one dash.
const ONE_DASH: [&str; 8] = [
    "-fileId",
    "-live",
    "-lost",
    "-workers",
    "-sort",
    "-memory",
    "-readonly",
    "-shared",
];

/// Parses the arguments of the process, its name first.
///
/// # Errors
/// What is wrong, or the help that was asked for.
pub fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(normalized(arguments))
}

/// Puts each `-D` in front, since clap keeps only the last place where a global option stands, and gives long options
/// their second dash. What follows `--` is someone else's.
fn normalized(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let mut front: Vec<OsString> = arguments.next().into_iter().collect();
    let mut rest = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            rest.push(argument);
            break;
        }
        if argument == "-D" {
            front.push(argument);
            front.extend(arguments.next());
        } else if argument.as_bytes().starts_with(b"-D") {
            front.push(argument);
        } else if ONE_DASH.iter().any(|word| argument == *word) {
            let mut long = OsString::from("-");
            long.push(&argument);
            rest.push(long);
        } else {
            rest.push(argument);
        }
    }
    rest.extend(arguments);
    front.extend(rest);
    front
}

/// A usage error as one line: what is wrong, what was probably meant, where the help is. `arguments` are those of the process.
pub fn one_line(error: &clap::Error, arguments: Vec<OsString>) -> String {
    let text = error.to_string();
    let mut what = Vec::new();
    let mut tips = Vec::new();
    let mut has_usage = false;
    for line in text.lines().map(str::trim) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            // How to pass what looks like a flag as a value is not what somebody who mistyped one asks.
            if !tip.starts_with("to pass ") {
                tips.push(tip);
            }
        } else if line.starts_with("Usage: ") {
            has_usage = true;
        } else if !line.is_empty() && !has_usage && !line.starts_with("For more information") {
            what.push(line.strip_prefix("error: ").unwrap_or(line));
        }
    }
    let mut line = what.join(" ");
    for tip in tips {
        line.push_str("; ");
        line.push_str(tip);
    }
    format!("{line}; see `{} --help`", command_of(arguments))
}

/// The command that arguments are for, as far as there is one: `alluxio fs head`. Errors about values do not name it.
fn command_of(arguments: Vec<OsString>) -> String {
    let mut at = &Cli::command();
    let mut names = vec![at.get_name().to_owned()];
    let mut words = normalized(arguments).into_iter().skip(1);
    while let Some(word) = words.next() {
        if word == "-D" {
            words.next();
        } else if !word.as_bytes().starts_with(b"-") {
            let Some(next) = at.find_subcommand(&word) else { break };
            names.push(next.get_name().to_owned());
            at = next;
        }
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// clap wraps: a line that is broken by hand is broken twice. Examples are to be pasted, so they are not to be wrapped.
    #[test]
    fn help_leaves_the_wrapping_to_clap() {
        fn check(command: &clap::Command, checked: &mut u32) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<&str> = help.lines().collect();
            for (line, next) in lines.iter().zip(lines.iter().skip(1)) {
                let is_text = |line: &str| !line.is_empty() && !line.starts_with(' ');
                let heads_examples = line.ends_with(':');
                let broken = is_text(line) && is_text(next) && !heads_examples;
                assert!(!broken, "{}: a line broken by hand: {line}", command.get_name());
            }
            for line in lines.iter().filter(|line| line.starts_with(' ')) {
                assert!(
                    line.len() <= 80,
                    "{}: too long to be pasted: {line}",
                    command.get_name()
                );
                *checked += 1;
            }
            command.get_subcommands().for_each(|command| check(command, checked));
        }
        let mut checked = 0;
        check(&Cli::command(), &mut checked);
        assert!(checked > 20, "{checked} examples");
    }

    #[test]
    fn properties_stand_anywhere_but_behind_two_dashes() {
        let cli = parse(words("alluxio -D a=1 local -Db=2 --mount /m -D c=3 -- cmd -De=5 -live")).unwrap();
        assert_eq!(cli.properties, ["a=1", "b=2", "c=3"]);
        let Command::Local(local) = cli.command else {
            panic!("not local")
        };
        assert_eq!(local.mount, PathBuf::from("/m"));
        assert_eq!(local.command, words("cmd -De=5 -live"));
    }

    #[test]
    fn one_dash_is_enough_for_long_options() {
        let cli = parse(words("alluxio fsadmin report capacity -workers a,b")).unwrap();
        let Command::Fsadmin {
            command: FsadminCommand::Report(report),
        } = cli.command
        else {
            panic!("not a report")
        };
        assert_eq!(report.category, ReportCategory::Capacity);
        assert_eq!(report.workers, ["a", "b"]);
    }

    #[test]
    fn usage_errors_are_one_line() {
        let line = |text: &str| one_line(&parse(words(text)).unwrap_err(), words(text));
        assert_eq!(
            line("alluxio local --mont /x"),
            "unexpected argument '--mont' found; a similar argument exists: '--mount'; see `alluxio local --help`"
        );
        assert_eq!(
            line("alluxio local"),
            "the following required arguments were not provided: --mount <DIR>; see `alluxio local --help`"
        );
        let lss = line("alluxio fs lss /");
        assert!(lss.starts_with("unrecognized subcommand 'lss'; "), "{lss}");
        assert!(lss.contains("'ls'"), "{lss}");
        assert!(lss.ends_with("; see `alluxio fs --help`"), "{lss}");
        assert!(line("alluxio fsadmin report everything").contains("capacity"));
        // Errors about values name no command by themselves.
        for (text, command) in [
            ("alluxio fs head -c much /x", "alluxio fs head"),
            ("alluxio fs persist -t soon /x", "alluxio fs persist"),
            ("alluxio fsadmin report everything", "alluxio fsadmin report"),
            ("alluxio -D fs=ls getConf --unit mile x", "alluxio getConf"),
            ("alluxio fs ls --sort beauty / -D a=b", "alluxio fs ls"),
            ("alluxio fs cp --thread many fs ls", "alluxio fs cp"),
        ] {
            let line = line(text);
            assert!(line.ends_with(&format!("; see `{command} --help`")), "{line}");
        }
    }
}
