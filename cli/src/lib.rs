//! The one binary: every role and every command.
//!
//! [`run`] is the whole program but for what `main` wires. [`args`] says what can be asked, `commands` are the things that
//! ask a running cluster and end, `roles` are the ones that serve until they are told to stop.
//!
//! **Promises:** the exit status tells the truth (0 done, 1 not done, 2 asked wrongly); a failure is one line on stderr:
//! what was being done, why it failed, what to try.

pub mod args;
mod commands;
mod logging;
mod output;
pub mod roles;

use alluxio_common::config::{Configuration, Sources};
use args::Command;
use clap::error::ErrorKind;
use commands::{CommandError, Done};
use output::{Out, complain};
use std::ffi::OsString;

/// Not done.
const STATUS_FAILED: u8 = 1;
/// Asked wrongly: unknown flags, keys, values.
const STATUS_USAGE: u8 = 2;
/// The reader of our output went away: what a shell shows for SIGPIPE.
const STATUS_PIPE: u8 = 128 + 13;

/// Whether mount.fuse, the helper of all FUSE types, runs us where ours is not installed: `alluxio SOURCE DIR -o OPTIONS`. No
/// command of ours has a colon.
fn is_call_of_fuse_helper(arguments: &[OsString]) -> bool {
    let has_colon = |text: &OsString| text.to_string_lossy().contains(':');
    matches!(arguments, [_, source, _, option, ..] if has_colon(source) && option == "-o")
}

/// Runs the program with its arguments, its name first, and returns the exit status.
pub fn run(arguments: Vec<OsString>) -> u8 {
    // mount(8) calls us by another name, and wants a fork before any thread is started.
    let named = arguments
        .first()
        .is_some_and(|name| alluxio_fuse::mount::is_helper_name(name));
    if named || is_call_of_fuse_helper(&arguments) {
        return u8::try_from(roles::helper(arguments.into_iter().skip(1))).unwrap_or(STATUS_FAILED);
    }
    let cli = match args::parse(arguments.clone()) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, arguments),
    };
    let sources = match cli.sources() {
        Ok(sources) => sources,
        Err(error) => return report(Err(CommandError::Usage(error.to_string()))),
    };
    report(dispatch(cli.command, &sources))
}

fn dispatch(command: Command, sources: &Sources) -> Done {
    let mut out = Out::stdout();
    let done = match command {
        Command::Local(args) => role(sources, |conf| roles::local(conf, &args)),
        Command::Master => role(sources, |conf| roles::master(conf).map(|()| 0)),
        Command::Worker => role(sources, |conf| roles::worker(conf).map(|()| 0)),
        Command::Version => commands::version(&mut out),
        Command::GetConf(args) => commands::get_conf(&load(sources, Warnings::All)?, &args, &mut out),
        Command::Format(args) => commands::format(&load(sources, Warnings::All)?, &args, &mut out),
        Command::Fuse { command } => commands::fuse(&load(sources, Warnings::OfThisCall)?, command, &mut out),
        Command::Fs { command } => commands::fs(&load(sources, Warnings::OfThisCall)?, command, &mut out),
        Command::Fsadmin { command } => commands::fsadmin(&load(sources, Warnings::OfThisCall)?, command, &mut out),
    };
    // What was found out before a failure is worth seeing; the failure itself comes first.
    let flushed = out.flush();
    done?;
    Ok(flushed?)
}

/// Runs what serves, with logging; its status is the process's.
fn role(sources: &Sources, run: impl FnOnce(&Configuration) -> alluxio_proto::FsResult<u8>) -> Done {
    let conf = load(sources, Warnings::All)?;
    logging::start(&conf, logging::Default::Info)?;
    match run(&conf)? {
        0 => Ok(()),
        status => Err(CommandError::Status(status)),
    }
}

/// Which oddities of the configuration a call tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Warnings {
    /// All: the call is about the configuration, or starts a role.
    All,
    /// Those of its own `-D`; what the site file holds was told when the roles started.
    OfThisCall,
}

fn load(sources: &Sources, warnings: Warnings) -> Result<Configuration, CommandError> {
    let conf = Configuration::load(sources).map_err(|error| CommandError::Usage(error.to_string()))?;
    let own = alluxio_common::config::Source::Property.to_string();
    for warning in conf.warnings() {
        if warnings == Warnings::All || warning.contains(&own) {
            complain(format_args!("warning: {warning}"));
        }
    }
    Ok(conf)
}

/// The one place where a runtime is made.
fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::failed(format!("start the runtime: {error}")))
}

fn usage(error: &clap::Error, arguments: Vec<OsString>) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nobody is left to be told that this failed.
            let _ = error.print();
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            STATUS_USAGE
        }
        _ => report(Err(CommandError::Usage(args::one_line(error, arguments)))),
    }
}

fn report(done: Done) -> u8 {
    match done {
        Ok(()) => 0,
        Err(CommandError::Failed(error)) => {
            complain(error);
            STATUS_FAILED
        }
        Err(CommandError::Usage(what)) => {
            complain(what);
            STATUS_USAGE
        }
        Err(CommandError::Status(status)) => status,
        Err(CommandError::Pipe) => STATUS_PIPE,
    }
}
