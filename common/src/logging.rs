//! Logs go to standard error: lines for people, or one JSON object a line (`alluxio.log.format`).
//!
//! What is written is chosen by a filter of `tracing`'s form (`debug`, `info,alluxio_master=trace`): the property
//! `alluxio.log`, which `$ALLUXIO_LOG` and `-D` set as they set any other, else `$RUST_LOG`, else a default. It can be changed
//! while the process runs ([`set_filter`]). Libraries that tell their inner life at `info` stay at `warn` unless it names them.
//!
//! **Promise:** a filter that would not do what it says is an error, never silence: [`check_filter`] also refuses a word that is
//! neither a level nor the name of something that logs, which `tracing` takes for a target that never comes, and a target that
//! reads like one of ours and is none.

use crate::config::{Configuration, keys};
use crate::sync::Mutex;
use std::io::IsTerminal;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// In front of what the user asks for.
const QUIET: &str = "info,fuser=warn,openraft=warn,hyper=warn,hyper_util=warn,h2=warn,fjall=warn,lsm_tree=warn,\
                     value_log=warn,reqwest=warn,rustls=warn,object_store=warn,tonic=warn,tower=warn";

/// Crates of ours that log.
const OURS: [&str; 9] = [
    "alluxio",
    "alluxio_client",
    "alluxio_common",
    "alluxio_fuse",
    "alluxio_journal",
    "alluxio_master",
    "alluxio_proto",
    "alluxio_ufs",
    "alluxio_worker",
];

/// The variable that counts where no property is set.
const RUST_LOG: &str = "RUST_LOG";

/// The filter of the running process, to be looked at and changed.
struct Running {
    handle: reload::Handle<EnvFilter, Registry>,
    text: String,
}

static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

/// What is logged where nobody asks for anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// For what serves: `info`, libraries at `warn`.
    Info,
    /// Warnings only: helpers whose standard error a person reads.
    Warn,
    /// For commands, whose failure is theirs to tell.
    Error,
}

/// Starts logging as the configuration says, also of crates that log by `log`. A second start in one process, as in tests,
/// changes nothing.
///
/// # Errors
/// If the filter is none; nothing is logged then.
pub fn start(conf: &Configuration, default: Default) -> Result<(), LogError> {
    let (origin, asked) = asked(conf, std::env::var(RUST_LOG).ok());
    let text = match (asked, default) {
        (Some(asked), _) => checked(&origin, &asked)?,
        (None, Default::Info) => QUIET.to_owned(),
        (None, Default::Warn) => "warn".to_owned(),
        (None, Default::Error) => "error".to_owned(),
    };
    let (filter, handle) = reload::Layer::new(parse(&text).map_err(|why| LogError::Filter {
        origin,
        value: text.clone(),
        why,
    })?);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = if conf.string(&keys::general::LOG_FORMAT) == "JSON" {
        lines.json().flatten_event(true).with_span_list(false).boxed()
    } else {
        lines.boxed()
    };
    if tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .is_ok()
    {
        *RUNNING.lock() = Some(Running { handle, text });
    }
    Ok(())
}

/// The filter in force; `None` before [`start`].
pub fn filter() -> Option<String> {
    RUNNING.lock().as_ref().map(|running| running.text.clone())
}

/// Changes what is logged from now on: a whole filter, as `alluxio.log` takes it.
///
/// # Errors
/// If it is none, or logging has not started; all stays as it was then.
pub fn set_filter(asked: &str) -> Result<(), LogError> {
    let text = checked("the request", asked)?;
    let filter = parse(&text).map_err(|why| LogError::Filter {
        origin: "the request".to_owned(),
        value: asked.to_owned(),
        why,
    })?;
    let mut running = RUNNING.lock();
    let Some(running) = running.as_mut() else {
        return Err(LogError::NotStarted);
    };
    running.handle.reload(filter).map_err(|_| LogError::NotStarted)?;
    // Records of the `log` crate above this are dropped before the filter sees them.
    log::set_max_level(log::LevelFilter::Trace);
    running.text = text;
    Ok(())
}

/// Changes the level of one target and all beneath it, and leaves the others as they are.
///
/// # Errors
/// As [`set_filter`]; [`LogError::Target`] for a name that nothing here logs by.
pub fn set_level(target: &str, level: &str) -> Result<(), LogError> {
    if !is_known(target) {
        return Err(LogError::Target {
            target: target.to_owned(),
        });
    }
    let before = filter().ok_or(LogError::NotStarted)?;
    let start = format!("{target}=");
    let mut words: Vec<String> = directives(&before)
        .filter(|word| !word.starts_with(&start))
        .map(str::to_owned)
        .collect();
    words.push(format!("{start}{level}"));
    set_filter(&words.join(","))
}

/// Where a filter comes from, and what it is.
fn asked(conf: &Configuration, rust_log: Option<String>) -> (String, Option<String>) {
    let key = &keys::general::LOG;
    let property = conf.string(key);
    if !property.trim().is_empty() {
        return (format!("{} (from {})", key.name, conf.source(key.name)), Some(property));
    }
    (RUST_LOG.to_owned(), rust_log.filter(|text| !text.trim().is_empty()))
}

/// The whole filter for what was asked: later directives win over earlier ones for the same target.
fn checked(origin: &str, asked: &str) -> Result<String, LogError> {
    check_filter(asked).map_err(|why| LogError::Filter {
        origin: origin.to_owned(),
        value: asked.to_owned(),
        why,
    })?;
    let asked = joined(asked);
    Ok(if asked.starts_with(QUIET) {
        asked
    } else {
        format!("{QUIET},{asked}")
    })
}

fn parse(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(text).map_err(|error| error.to_string())
}

/// Whether a filter does what it says.
///
/// # Errors
/// Which word is wrong.
pub fn check_filter(text: &str) -> Result<(), String> {
    for word in directives(text) {
        if word.parse::<LevelFilter>().is_ok() {
            continue;
        }
        let target = word.split(['=', '[']).next().unwrap_or_default();
        if target.starts_with("alluxio") && !is_known(target) {
            return Err(format!("{target:?} is no target; ours are {}", OURS.join(", ")));
        }
        if word.contains(['=', '[']) || is_known(word) || word.contains("::") {
            continue;
        }
        return Err(format!(
            "{word:?} is neither a level (error, warn, info, debug, trace, off) nor a target"
        ));
    }
    parse(&joined(text)).map(drop)
}

/// Libraries that log and that we know.
fn libraries() -> impl Iterator<Item = &'static str> {
    directives(QUIET).filter_map(|quiet| Some(quiet.split_once('=')?.0))
}

/// Whether a target is a crate that logs, or a module of one.
fn is_known(target: &str) -> bool {
    let of = target.split("::").next().unwrap_or_default();
    OURS.contains(&of) || libraries().any(|library| library == of)
}

/// Without the blanks that a filter may not have.
fn joined(text: &str) -> String {
    directives(text).collect::<Vec<_>>().join(",")
}

/// The words of a filter; commas within brackets do not part them.
fn directives(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0usize;
    text.split(move |c| {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|word| !word.is_empty())
}

/// Why logging did not start, or was not changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error("{origin} = {value:?} is no log filter ({why}); write a level such as debug, or target=level,...")]
    Filter {
        /// Property or variable.
        origin: String,
        /// Its value.
        value: String,
        /// Which word is wrong.
        why: String,
    },
    /// Nothing logs by this name.
    #[error(
        "{target:?} is no log target; there are {}, modules beneath them (alluxio_master::service), and of libraries {}",
        OURS.join(", "),
        libraries().collect::<Vec<_>>().join(", ")
    )]
    Target {
        /// What was asked for.
        target: String,
    },
    /// Nothing is logged in this process.
    #[error("change the log filter: logging has not started")]
    NotStarted,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;

    /// What gets through a filter, as text.
    fn logged(asked: Option<&str>, emit: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Buffer(Arc<Mutex<Vec<u8>>>);
        impl Write for Buffer {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let text = asked.map_or_else(|| QUIET.to_owned(), |asked| checked("test", asked).unwrap());
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(parse(&text).unwrap())
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, emit);
        let bytes = buffer.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn emit() {
        tracing::info!(target: "alluxio_master", "ours info");
        tracing::debug!(target: "alluxio_master", "ours debug");
        tracing::info!(target: "fuser::session", "theirs info");
        tracing::warn!(target: "openraft", "theirs warn");
    }

    #[test]
    fn libraries_are_quiet_unless_asked_for() {
        let seen = |asked| {
            let text = logged(asked, emit);
            ["ours info", "ours debug", "theirs info", "theirs warn"].map(|line| text.contains(line))
        };
        assert_eq!(seen(None), [true, false, false, true]);
        assert_eq!(seen(Some("debug")), [true, true, false, true]);
        assert_eq!(seen(Some("fuser=info")), [true, false, true, true]);
        assert_eq!(seen(Some("warn")), [false, false, false, true]);
    }

    #[test]
    fn a_wrong_filter_is_an_error() {
        for wrong in [
            "alluxio=loud",
            "debgu",
            "info,wran",
            "a=b=c",
            "alluxio_mastr=debug",
            "info,alluxio_workr",
            "alluxio.master=debug",
        ] {
            assert!(check_filter(wrong).is_err(), "{wrong}");
        }
        for right in [
            "debug",
            "INFO, alluxio_worker=trace",
            "alluxio_fuse::transport",
            "hyper",
            "mio=trace",
            "off,[request{inode=7}]=debug",
            "alluxio_fuse[request{op=\"Read\"}]=trace",
        ] {
            assert_eq!(check_filter(right), Ok(()), "{right}");
        }
    }

    /// A crate that is not in the list could not be asked for.
    #[test]
    fn every_crate_of_ours_is_known() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let workspace = std::fs::read_to_string(format!("{root}/Cargo.toml")).unwrap();
        let members = workspace
            .split_once("members = [")
            .unwrap()
            .1
            .split_once(']')
            .unwrap()
            .0;
        let mut names: Vec<String> = members
            .split('"')
            .filter(|member| !member.trim().trim_matches(',').is_empty())
            .filter(|member| !["tests", "xtask"].contains(member))
            .map(|member| {
                let manifest = std::fs::read_to_string(format!("{root}/{member}/Cargo.toml")).unwrap();
                let name = manifest.split_once("name = \"").unwrap().1.split_once('"').unwrap().0;
                name.replace('-', "_")
            })
            .collect();
        names.sort();
        assert_eq!(names, OURS);
        assert_eq!(
            set_level("alluxio_mastr", "debug")
                .unwrap_err()
                .to_string()
                .matches("alluxio_master")
                .count(),
            2
        );
        assert!(is_known("alluxio_master::service") && is_known("hyper") && !is_known("alluxio_masters"));
    }

    #[test]
    fn the_property_counts_before_the_variable() {
        let mut conf = Configuration::default();
        assert_eq!(asked(&conf, None).1, None);
        assert_eq!(
            asked(&conf, Some("trace".into())),
            ("RUST_LOG".to_owned(), Some("trace".to_owned()))
        );
        conf.set("alluxio.log", "debug");
        assert_eq!(asked(&conf, Some("trace".into())).1.as_deref(), Some("debug"));
    }
}
