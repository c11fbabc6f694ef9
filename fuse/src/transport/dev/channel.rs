//! A `/dev/fuse` descriptor: requests come by read(2), answers go by writev(2), the rest is ioctl(2).

use super::encode::{Reply, header};
use super::wire::{OUT_HEADER_BYTES, notify};
use crate::transport::operations::{Node, Notify};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Weak};

const DEVICE: &str = "/dev/fuse";

/// The connection, or one of the descriptors that were cloned from it. A request is answered on the one it came from.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A request of so many bytes.
    Request(usize),
    /// Nothing this time: ask again.
    Nothing,
    /// The mount is gone.
    End,
}

/// `struct fuse_backing_map`.
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

mod ioctl {
    use super::BackingMap;
    const MAGIC: u8 = 229;
    nix::ioctl_read!(clone, MAGIC, 0, u32);
    nix::ioctl_write_ptr!(backing_open, MAGIC, 1, BackingMap);
    nix::ioctl_write_ptr!(backing_close, MAGIC, 2, u32);
}

impl Channel {
    /// Of a connection.
    pub fn new(connection: OwnedFd) -> Channel {
        Channel(connection)
    }

    /// Another descriptor of the same connection, with a queue of its own for what is being worked on.
    ///
    /// # Errors
    /// If the device cannot be opened again, as in some containers.
    pub fn another(&self) -> io::Result<Channel> {
        let device: OwnedFd = File::options().read(true).write(true).open(DEVICE)?.into();
        let mut connection = self.0.as_raw_fd().cast_unsigned();
        // SAFETY: the kernel reads one u32, which lives until the call returns: FUSE_DEV_IOC_CLONE is declared as reading
        // from us though its number says otherwise.
        unsafe { ioctl::clone(device.as_raw_fd(), &raw mut connection) }?;
        let channel = Channel(device);
        channel.never_block()?;
        Ok(channel)
    }

    /// From now on [`Channel::receive`] does not wait.
    pub fn never_block(&self) -> io::Result<()> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        fcntl(&self.0, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
        Ok(())
    }

    /// Waits until there is a request, or the mount is gone.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a request.
    ///
    /// # Errors
    /// What says neither that there is nothing nor that the mount is gone.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        match nix::unistd::read(&self.0, buffer) {
            Ok(length) => Ok(Received::Request(length)),
            // ENOENT: the process that asked was killed before we took its request.
            Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOENT) => Ok(Received::Nothing),
            Err(Errno::ENODEV | Errno::ECONNABORTED | Errno::ENOTCONN) => Ok(Received::End),
            Err(error) => Err(error.into()),
        }
    }

    /// Answers a request. False: nobody waits for it any more.
    pub fn answer(&self, unique: u64, mut reply: Reply) -> bool {
        match self.write(&reply.parts(unique)) {
            Ok(()) => true,
            Err(error) => {
                match error.raw_os_error() {
                    // Interrupted while we worked, or unmounted.
                    Some(libc::ENOENT | libc::ENODEV | libc::ENOTCONN | libc::ECONNABORTED) => {
                        tracing::debug!(unique, %error, "answer");
                    }
                    _ => tracing::warn!(unique, %error, "the kernel does not take an answer"),
                }
                false
            }
        }
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        loop {
            match nix::sys::uio::writev(&self.0, parts) {
                Err(Errno::EINTR) => {}
                // The kernel takes all of a message or nothing.
                written => return written.map(drop).map_err(io::Error::from),
            }
        }
    }

    fn tell(&self, code: i32, fields: &[u8], name: &[u8]) -> io::Result<()> {
        // Names end with a NUL; what has none has no name.
        let end: &[u8] = if name.is_empty() { b"" } else { b"\0" };
        let length = OUT_HEADER_BYTES + fields.len() + name.len() + end.len();
        let header = header(u32::try_from(length).unwrap_or(u32::MAX), code, 0);
        self.write(&[
            IoSlice::new(&header),
            IoSlice::new(fields),
            IoSlice::new(name),
            IoSlice::new(end),
        ])
    }
}

/// A local file that the kernel may work on by itself.
#[derive(Debug)]
pub struct Backing {
    id: i32,
    /// With the connection, all its backing files go.
    channel: Weak<Channel>,
}

impl Backing {
    /// Registers a file.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN; ELOOP if the file lies on a file system that is stacked itself.
    pub fn register(channel: &Arc<Channel>, file: &File) -> io::Result<Backing> {
        let map = BackingMap {
            fd: file.as_fd().as_raw_fd(),
            flags: 0,
            padding: 0,
        };
        // SAFETY: the kernel reads one `BackingMap`, which has its layout and lives until the call returns.
        let id = unsafe { ioctl::backing_open(channel.0.as_raw_fd(), &raw const map) }?;
        let channel = Arc::downgrade(channel);
        Ok(Backing { id, channel })
    }

    /// Its number, for the answer to an open.
    pub fn id(&self) -> i32 {
        self.id
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        let Some(channel) = self.channel.upgrade() else { return };
        let id = self.id.cast_unsigned();
        // SAFETY: the kernel reads one u32, which lives until the call returns.
        if let Err(error) = unsafe { ioctl::backing_close(channel.0.as_raw_fd(), &raw const id) } {
            tracing::warn!(%error, id, "let go of a backing file");
        }
    }
}

/// Tells the kernel what is stale.
#[derive(Clone, Debug)]
pub struct DevNotifier(pub(super) Weak<Channel>);

impl DevNotifier {
    fn tell(&self, code: i32, numbers: &[u64], name: &[u8]) -> io::Result<()> {
        let channel = self.0.upgrade().ok_or(Errno::ENODEV)?;
        let mut fields = [0; 24];
        for (field, number) in fields.chunks_exact_mut(8).zip(numbers) {
            field.copy_from_slice(&number.to_ne_bytes());
        }
        channel.tell(code, &fields[..numbers.len() * 8], name)
    }
}

/// A word of the length of a name, and one of flags.
fn length_word(name: &[u8], flags: u32) -> u64 {
    let mut word = [0; 8];
    // Names have 255 bytes at most.
    word[..4].copy_from_slice(&(name.len() as u32).to_ne_bytes());
    word[4..].copy_from_slice(&flags.to_ne_bytes());
    u64::from_ne_bytes(word)
}

impl Notify for DevNotifier {
    fn inval_inode(&self, node: Node, offset: i64, length: i64) -> io::Result<()> {
        let numbers = [node.0, offset.cast_unsigned(), length.cast_unsigned()];
        self.tell(notify::INVAL_INODE, &numbers, b"")
    }

    fn inval_entry(&self, parent: Node, name: &[u8]) -> io::Result<()> {
        self.tell(notify::INVAL_ENTRY, &[parent.0, length_word(name, 0)], name)
    }

    fn delete(&self, parent: Node, child: Node, name: &[u8]) -> io::Result<()> {
        self.tell(notify::DELETE, &[parent.0, child.0, length_word(name, 0)], name)
    }

    fn expire_entry(&self, parent: Node, name: &[u8]) -> io::Result<()> {
        // Kernels before 6.2 do not look at the flag and take the name away.
        let length = length_word(name, notify::EXPIRE_ONLY);
        self.tell(notify::INVAL_ENTRY, &[parent.0, length], name)
    }

    fn raise_epoch(&self) -> io::Result<()> {
        self.tell(notify::INC_EPOCH, &[], b"")
    }
}
