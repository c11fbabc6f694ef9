//! Logs go to standard error, filtered by `ALLUXIO_LOG` (or `RUST_LOG`), `info` by default.
//!
//! Filters are those of `tracing`: `debug`, `alluxio_master=trace,warn`. Libraries that tell their inner life at `info`
//! stay at `warn` unless a filter names them.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// In front of what the user asks for.
const QUIET: &str = "info,fuser=warn,openraft=warn,hyper=warn,hyper_util=warn,h2=warn,fjall=warn,lsm_tree=warn,\
                     value_log=warn,redb=warn,reqwest=warn,rustls=warn,object_store=warn,tonic=warn,tower=warn";

/// Starts logging, once per process.
///
/// # Errors
/// If the filter in the environment is none; nothing is logged then.
pub fn init() -> Result<(), LogError> {
    let asked = ["ALLUXIO_LOG", "RUST_LOG"].iter().find_map(|name| {
        let value = std::env::var(name).ok().filter(|value| !value.trim().is_empty())?;
        Some((*name, value))
    });
    let filter = filter(asked.as_ref().map(|(_, value)| value.as_str()));
    let filter = filter.map_err(|error| LogError::Filter {
        variable: asked.as_ref().map_or("ALLUXIO_LOG", |(name, _)| name),
        value: asked.as_ref().map(|(_, value)| value.clone()).unwrap_or_default(),
        error,
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|_| LogError::Again)?;
    if asked.is_none() {
        // Records of the `log` crate below this are dropped before they are made.
        log::set_max_level(log::LevelFilter::Warn);
    }
    Ok(())
}

fn filter(asked: Option<&str>) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    match asked {
        // Later directives win over earlier ones for the same target.
        Some(asked) => EnvFilter::try_new(format!("{QUIET},{asked}")),
        None => EnvFilter::try_new(QUIET),
    }
}

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error("{variable}={value:?} is not a log filter ({error}); write a level such as debug, or target=level,...")]
    Filter {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// Why.
        error: tracing_subscriber::filter::ParseError,
    },
    /// It had started already.
    #[error("logging is started already")]
    Again,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;

    /// What gets through a filter, as text.
    fn logged(asked: Option<&str>, emit: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Buffer(Arc<crate::sync::Mutex<Vec<u8>>>);
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
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter(asked).unwrap())
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
        assert!(filter(Some("alluxio=loud")).is_err());
    }
}
