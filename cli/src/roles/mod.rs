//! What serves until it is told to stop: master, worker, mount, and all three in one process.
//!
//! A role reads its settings, takes its ports, starts its parts in the order in which they need each other, and ends them
//! in the reverse order.

mod fuse;
mod local;
mod mounting;
mod panics;
mod parts;
mod signals;
pub(crate) mod web;

pub use fuse::{helper, mount};
pub use local::local;

use alluxio_common::config::{Configuration, keys};
use alluxio_proto::{FsError, FsResult};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The one place where a runtime is made. Its threads are as many as cores; what blocks goes to threads of its own.
fn runtime() -> FsResult<tokio::runtime::Runtime> {
    raise_open_file_limit();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("alluxio")
        // Blocking file IO: more in flight than cores, fewer than would eat the memory budget with stacks.
        .max_blocking_threads(64)
        .thread_keep_alive(Duration::from_secs(10))
        .build()
        .map_err(|error| FsError::from_io("start the runtime", &error))
}

/// How long threads that a role left behind are waited for. The one that serves a mount never ends while somebody keeps a copy
/// of it, in another mount namespace for one: it ends with the process, and its users get errors.
const LEFT_BEHIND_MAX: Duration = Duration::from_secs(5);

/// What a role makes on the local disk is for its user alone, also what crates make that know no modes. What goes into an
/// under-storage gets its mode explicitly, and requests of the kernel carry the umask of their caller.
const ROLE_UMASK: nix::sys::stat::Mode = nix::sys::stat::Mode::from_bits_truncate(0o077);

/// The umask that the process was started with.
static CALLERS_UMASK: std::sync::OnceLock<nix::sys::stat::Mode> = std::sync::OnceLock::new();

/// Starts a program of the caller's with the caller's umask. The umask is the process's, so that of the role is off for as long
/// as a fork takes; what we make ourselves meanwhile has its modes explicitly.
fn spawn_for_caller(command: &mut tokio::process::Command) -> std::io::Result<tokio::process::Child> {
    let restore = CALLERS_UMASK.get().map(|mask| nix::sys::stat::umask(*mask));
    let child = command.spawn();
    if let Some(mask) = restore {
        nix::sys::stat::umask(mask);
    }
    child
}

/// Runs a role to its end, which a panic brings about, too. `role` gets what asks it to end: a signal or a panic.
fn run<T, F: Future<Output = FsResult<T>>>(role: impl FnOnce(CancellationToken) -> F) -> FsResult<T> {
    let before = nix::sys::stat::umask(ROLE_UMASK);
    CALLERS_UMASK.get_or_init(|| before);
    let runtime = runtime()?;
    let stop = CancellationToken::new();
    panics::end_role(&stop);
    let result = runtime.block_on(async {
        signals::cancel_on_signal(&stop)?;
        role(stop.clone()).await
    });
    runtime.shutdown_timeout(LEFT_BEHIND_MAX);
    panics::result_of(result)
}

/// Open files that are enough for every role: the kernel's own bound for most systems (`fs.nr_open`).
const OPEN_FILES: u64 = 1 << 20;

/// Cached files stay open, two descriptors each: the usual soft limit of 1,024 exists for programs that use `select`. Only
/// the superuser raises the hard limit.
fn raise_open_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let enough = hard.max(OPEN_FILES);
        match setrlimit(Resource::RLIMIT_NOFILE, enough, enough) {
            Err(_) if soft < hard => setrlimit(Resource::RLIMIT_NOFILE, hard, hard),
            // Not allowed to have more, and has what is allowed.
            _ => Ok(()),
        }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "raise the limit of open files; see `ulimit -n`");
    }
}

/// Tells systemd, if it started us, that the role serves.
fn notify_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!(%error, "tell systemd that we are ready");
    }
}

/// `alluxio master`.
///
/// # Errors
/// Of starting.
pub fn master(conf: &Configuration) -> FsResult<()> {
    run(|stop| async move {
        let master = parts::MasterPart::start(conf, alluxio_master::service::MasterOptions::new(conf), &stop).await?;
        tracing::info!(
            "the master serves on port {}",
            conf.port(&keys::master::MASTER_RPC_PORT)
        );
        notify_ready();
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            // It can do nothing any more; whoever supervises the process starts it again.
            error = master.service.failed() => Err(error.context("the master ends")),
        };
        master.stop().await;
        ended
    })
}

/// `alluxio worker`.
///
/// # Errors
/// Of starting.
pub fn worker(conf: &Configuration) -> FsResult<()> {
    run(|stop| async move {
        let master = parts::remote_master(conf, &[]);
        let worker = parts::WorkerPart::start(conf, std::sync::Arc::new(master), &stop).await?;
        tracing::info!(
            "the worker serves on port {}",
            conf.port(&keys::worker::WORKER_RPC_PORT)
        );
        notify_ready();
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            error = worker.never_registered(conf) => Err(error),
        };
        worker.stop().await;
        ended
    })
}
