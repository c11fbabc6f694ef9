//! A panic is a broken invariant of ours: it is logged with where it was, and ends the role, in order as far as that still goes.
//!
//! One that comes while the role ends anyway is only logged.

use alluxio_proto::{ErrorKind, FsError, FsResult};
use std::panic::PanicHookInfo;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the orderly end may take; then the process ends as it is. What was acknowledged survives that.
const END_TIME_MAX: Duration = Duration::from_secs(90);
/// Status of a process whose orderly end took too long: EX_SOFTWARE.
const STATUS_SOFTWARE: i32 = 70;

/// A panic has ended the role.
static PANICKED: AtomicBool = AtomicBool::new(false);
/// What ends the role.
static STOP: Mutex<Option<CancellationToken>> = Mutex::new(None);

/// From now on a panic on any thread cancels `stop`.
pub fn end_role(stop: &CancellationToken) {
    let first = lock().replace(stop.clone()).is_none();
    if first {
        std::panic::set_hook(Box::new(|info| {
            panicked(info, |time| drop(std::thread::spawn(move || end_after(time))))
        }));
    }
}

/// The result of the role, or that it panicked.
///
/// # Errors
/// Those of the role; `Internal` after a panic.
pub fn result_of<T>(result: FsResult<T>) -> FsResult<T> {
    if result.is_ok() && PANICKED.load(Ordering::Relaxed) {
        let why =
            "ended because of a mistake in alluxio itself; the log has the panic and where it was: please report it";
        return Err(FsError::new(ErrorKind::Internal, why));
    }
    result
}

fn panicked(info: &PanicHookInfo<'_>, end_after: impl FnOnce(Duration)) {
    let thread = std::thread::current();
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let what = info.payload_as_str().unwrap_or("a value that is no text");
    let backtrace = std::backtrace::Backtrace::force_capture();
    let name = thread.name().unwrap_or("?");
    if alluxio_common::panics::is_expected() {
        return tracing::warn!(thread = name, location, "{what}");
    }
    tracing::error!(thread = name, location, "panic: {what}\n{backtrace}");
    let stop = lock().clone();
    if let Some(stop) = stop.filter(|stop| !stop.is_cancelled()) {
        PANICKED.store(true, Ordering::Relaxed);
        tracing::error!("the role ends because of this panic");
        end_after(END_TIME_MAX);
        stop.cancel();
    }
}

fn end_after(time: Duration) {
    std::thread::sleep(time);
    eprintln!(
        "alluxio: the end after a panic takes more than {} s; ending as it is",
        time.as_secs()
    );
    std::process::exit(STATUS_SOFTWARE);
}

/// A hook must not panic itself.
fn lock() -> std::sync::MutexGuard<'static, Option<CancellationToken>> {
    STOP.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For how long the watchdog was to wait.
    static WATCHED: Mutex<Option<Duration>> = Mutex::new(None);

    /// On the hook's own terms but without its watchdog, which would end the process of the tests.
    #[test]
    fn a_panic_on_any_thread_ends_the_role_with_an_error() {
        let stop = CancellationToken::new();
        *lock() = Some(stop.clone());
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(|info| {
            if std::thread::current().name() == Some("ours") {
                panicked(info, |time| *WATCHED.lock().unwrap() = Some(time));
            }
        }));
        assert!(result_of(Ok(())).is_ok());
        let thread = std::thread::Builder::new()
            .name("ours".into())
            .spawn(|| panic!("an invariant"));
        assert!(thread.unwrap().join().is_err());
        std::panic::set_hook(before);
        assert!(stop.is_cancelled());
        assert_eq!(*WATCHED.lock().unwrap(), Some(END_TIME_MAX));
        let error = result_of(Ok(())).unwrap_err();
        assert!(error.message.contains("mistake in alluxio"), "{error}");
        PANICKED.store(false, Ordering::Relaxed);
        *lock() = None;
    }

    /// Says to the test below that it is the process that panics.
    const CHILD: &str = "ALLUXIO_TEST_PANICS";

    /// The whole way, in a process of its own: what [`super::super::run`] installs, and what the program makes of it.
    #[test]
    fn a_panic_of_a_task_ends_the_process_with_a_message_and_a_status() {
        if std::env::var_os(CHILD).is_some() {
            std::process::exit(i32::from(crate::report(panicking_role())));
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg("roles::panics::tests::a_panic_of_a_task_ends_the_process_with_a_message_and_a_status")
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = [&output.stderr[..], &output.stdout[..]].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(i32::from(crate::STATUS_FAILED)), "{said}");
        for line in [
            "panic: an invariant of ours",
            "roles/panics.rs",
            "the role ends because of this panic",
            "it ended in order",
            "alluxio: ended because of a mistake in alluxio itself",
        ] {
            assert!(said.contains(line), "{line:?} is not in:\n{said}");
        }
    }

    /// A role that waits for its end, and has a task that panics.
    fn panicking_role() -> crate::commands::Done {
        let conf = alluxio_common::config::Configuration::default();
        crate::logging::start(&conf, crate::logging::Default::Info)?;
        super::super::run(|stop| async move {
            let task = tokio::spawn(async { panic!("an invariant of ours") });
            let _: Result<(), tokio::task::JoinError> = task.await;
            // Without a hook nothing would end it.
            match tokio::time::timeout(Duration::from_secs(30), stop.cancelled()).await {
                Ok(()) => eprintln!("it ended in order"),
                Err(_) => eprintln!("nobody ends it"),
            }
            Ok(())
        })?;
        Ok(())
    }
}
