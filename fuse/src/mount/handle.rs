//! A mounted file system that this process serves.

use super::bdi::raise_read_ahead;
use super::folder::real_name;
use super::options::MountOptions;
use super::system::{UnmountMode, open_and_mount, unmount_at};
use super::table::{Device, mount_at};
use alluxio_common::sync::{Condvar, Mutex};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use fuser::{Filesystem, Notifier, Session, SessionACL};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a mount is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads that read requests from the kernel.
    pub threads: usize,
    /// Read-ahead of the mount, raised as far as our rights allow.
    pub read_ahead_kib: u32,
}

impl Default for SessionOptions {
    /// Measured on two cores: more threads were slower; read-ahead of 4 MiB was 5 times as fast as the kernel's 128 KiB.
    fn default() -> Self {
        SessionOptions {
            threads: 2,
            read_ahead_kib: 4096,
        }
    }
}

/// A mount and the threads that serve it. Dropped, it is unmounted lazily.
#[derive(Debug)]
pub struct MountHandle {
    point: PathBuf,
    device: Device,
    notifier: Notifier,
    ending: Arc<Ending>,
}

/// How the session ended, once it has.
#[derive(Debug, Default)]
struct Ending {
    result: Mutex<Option<FsResult<()>>>,
    changed: Condvar,
}

impl Ending {
    fn set(&self, result: FsResult<()>) {
        *self.result.lock() = Some(result);
        self.changed.notify_all();
    }

    fn wait(&self) -> FsResult<()> {
        let mut result = self.result.lock();
        loop {
            match &*result {
                Some(result) => return result.clone(),
                None => self.changed.wait(&mut result),
            }
        }
    }
}

impl MountHandle {
    /// Mounts and serves. When this returns, the file system answers.
    ///
    /// # Errors
    /// As [`open_and_mount`]; what the file system's `init` answers.
    pub fn start<F: Filesystem>(
        filesystem: F,
        dir: &Path,
        options: &MountOptions,
        source: &str,
        session: SessionOptions,
    ) -> FsResult<MountHandle> {
        let point = real_name(dir)?;
        let connection = open_and_mount(&point, options, source)?;
        // From here on the mount must not be left behind.
        let clean = |error: FsError| {
            if let Err(second) = unmount_at(&point, UnmountMode::Lazy) {
                tracing::warn!(%second, "unmount after a failed start");
            }
            error
        };
        let device = mount_at(&point)
            .and_then(|mount| mount.ok_or_else(|| gone(&point)))
            .map_err(clean)?
            .device;
        let mut config = fuser::Config::default();
        config.n_threads = Some(session.threads.max(1));
        let acl = if options.allow_other {
            SessionACL::All
        } else {
            SessionACL::Owner
        };
        let serving = Session::from_fd(filesystem, connection, acl, config)
            .map_err(|error| FsError::from_io(format!("start serving {}", point.display()), &error))
            .map_err(clean)?;
        if let Err(error) = raise_read_ahead(device, session.read_ahead_kib) {
            // Slower, not wrong; and only root may.
            tracing::info!(%error, "read-ahead stays as it is");
        }
        let notifier = serving.notifier();
        let ending = Arc::new(Ending::default());
        let ended = Arc::clone(&ending);
        let doing = format!("serve {}", point.display());
        std::thread::Builder::new()
            .name("fuse-session".to_owned())
            .spawn(move || ended.set(serve(serving, &doing)))
            .map_err(|error| clean(FsError::from_io("start the FUSE session thread", &error)))?;
        Ok(MountHandle {
            point,
            device,
            notifier,
            ending,
        })
    }

    /// Where it is mounted, by its real name.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// The kernel's number of this mount.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Tells the kernel what it must forget. Never call it from a thread that answers requests.
    pub fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// How the session ended, if it has.
    pub fn ended(&self) -> Option<FsResult<()>> {
        self.ending.result.lock().clone()
    }

    /// Blocks until the mount has ended: by [`unmount`](Self::unmount), or by umount(8) from outside. The file system has been
    /// dropped by then. Any number of threads may wait.
    ///
    /// # Errors
    /// If the connection to the kernel broke in another way.
    pub fn wait(&self) -> FsResult<()> {
        self.ending.wait()
    }

    /// Ends the mount, if it is still there. Then [`wait`](Self::wait) for what is under way.
    ///
    /// # Errors
    /// `Busy` if it is in use and the mode is normal.
    pub fn unmount(&self, mode: UnmountMode) -> FsResult<()> {
        // Once it has ended, its device number may be that of another mount.
        if let Some(Ok(())) = self.ended() {
            return Ok(());
        }
        match mount_at(&self.point)? {
            Some(mount) if mount.device == self.device => unmount_at(&self.point, mode),
            _ => Ok(()),
        }
    }
}

impl Drop for MountHandle {
    fn drop(&mut self) {
        if let Err(error) = self.unmount(UnmountMode::Lazy) {
            tracing::warn!(%error, "unmount");
        }
    }
}

fn serve<F: Filesystem>(session: Session<F>, doing: &str) -> FsResult<()> {
    // Whoever waits must learn of a panic, too.
    match catch_unwind(AssertUnwindSafe(|| session.run())) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(FsError::from_io(doing, &error)),
        Err(_panic) => Err(FsError::new(
            ErrorKind::Internal,
            format!("{doing}: the session panicked"),
        )),
    }
}

fn gone(point: &Path) -> FsError {
    FsError::new(
        ErrorKind::NotFound,
        format!("the mount on {} vanished again", point.display()),
    )
}
