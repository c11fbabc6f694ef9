//! What serves until it is told to stop: master, worker, mount, and all three in one process.
//!
//! A role reads its settings, takes its ports, starts its parts in the order in which they need each other, and ends them
//! in the reverse order.

mod fuse;
mod local;
mod mounting;
mod parts;
mod signals;

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

/// Runs a role to its end.
fn run<T>(role: impl Future<Output = FsResult<T>>) -> FsResult<T> {
    let runtime = runtime()?;
    let result = runtime.block_on(role);
    runtime.shutdown_timeout(LEFT_BEHIND_MAX);
    result
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
    run(async {
        let stop = CancellationToken::new();
        signals::cancel_on_signal(&stop)?;
        let master = parts::MasterPart::start(conf, alluxio_master::service::MasterOptions::new(conf), &stop).await?;
        tracing::info!(
            "the master serves on port {}",
            conf.port(&keys::master::MASTER_RPC_PORT)
        );
        notify_ready();
        stop.cancelled().await;
        master.stop().await;
        Ok(())
    })
}

/// `alluxio worker`.
///
/// # Errors
/// Of starting.
pub fn worker(conf: &Configuration) -> FsResult<()> {
    run(async {
        let stop = CancellationToken::new();
        signals::cancel_on_signal(&stop)?;
        let master = parts::remote_master(conf, &[]);
        let worker = parts::WorkerPart::start(conf, std::sync::Arc::new(master), &stop).await?;
        tracing::info!(
            "the worker serves on port {}",
            conf.port(&keys::worker::WORKER_RPC_PORT)
        );
        notify_ready();
        stop.cancelled().await;
        worker.stop().await;
        Ok(())
    })
}
