//! TCP and unix sockets behind one type: addresses, listening, connecting.

use crate::crashsafe::FILE_MODE;
use crate::{ErrorKind, FsError, FsResult};
use bytes::BufMut;
use nix::fcntl::{Flock, FlockArg};
use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `host:port`; the name is resolved at each attempt.
    Tcp(String),
    /// Path of a unix socket.
    Unix(PathBuf),
}

impl Address {
    /// A host and port.
    pub fn tcp(host: &str, port: u16) -> Self {
        // An IPv6 literal needs brackets.
        if host.contains(':') && !host.starts_with('[') {
            return Self::Tcp(format!("[{host}]:{port}"));
        }
        Self::Tcp(format!("{host}:{port}"))
    }

    pub(super) async fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Self::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// On a port.
    Tcp(TcpListener),
    /// On a path.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

impl Listener {
    /// Listens on a port; 0 chooses a free one.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if the port is taken.
    pub async fn bind_tcp(host: &str, port: u16) -> FsResult<Self> {
        match TcpListener::bind((host, port)).await {
            Ok(listener) => Ok(Self::Tcp(listener)),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => Err(FsError::new(
                ErrorKind::Busy,
                format!("listen on {host}:{port}: the port is taken; stop the other process or choose another port"),
            )),
            Err(e) => Err(FsError::from_io(format!("listen on {host}:{port}"), &e)),
        }
    }

    /// Listens on a path; see [`bind_unix`].
    ///
    /// # Errors
    /// As [`bind_unix`].
    pub fn bind_unix(path: &Path) -> FsResult<Self> {
        bind_unix(path).map(Self::Unix)
    }

    /// The address that was bound, for those who let the system choose the port.
    ///
    /// # Errors
    /// If this is a unix socket, or of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Unix(_) => Err(io::Error::other("a unix socket has no port")),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Socket, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Socket::Tcp(stream), peer.to_string()))
            }
            Self::Unix(listener) => Ok((Socket::Unix(listener.accept().await?.0), "unix".to_owned())),
        }
    }
}

/// Longest path of a unix socket (`sun_path` with its NUL).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Listens on a path: makes the folder, removes a socket file that nobody listens on, and lets only its owner (and root)
/// connect. A lock on the folder keeps two starting processes from taking each
/// other's fresh socket for a stale one.
///
/// # Errors
/// [`ErrorKind::Busy`] if somebody listens; [`ErrorKind::AlreadyExists`] if the path is something else than a socket.
pub fn bind_unix(path: &Path) -> FsResult<UnixListener> {
    let doing = || format!("listen on unix socket {}", path.display());
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let why = format!("{}: the path is longer than {SOCKET_PATH_BYTES_MAX} bytes", doing());
        return Err(FsError::new(ErrorKind::NameTooLong, why));
    }
    let io = |e: io::Error| FsError::from_io(doing(), &e);
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    crate::crashsafe::create_dir_all(folder).map_err(io)?;
    let lock = Flock::lock(File::open(folder).map_err(io)?, FlockArg::LockExclusive);
    let _lock = lock.map_err(|(_, errno)| io(errno.into()))?;
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(io(e)),
        Ok(meta) if !meta.file_type().is_socket() => {
            let why = format!("{}: something else than a socket is there", doing());
            return Err(FsError::new(ErrorKind::AlreadyExists, why));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => {
                let why = format!("{}: another process listens there", doing());
                return Err(FsError::new(ErrorKind::Busy, why));
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(io)?,
            Err(e) => return Err(io(e)),
        },
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    std::fs::set_permissions(path, Permissions::from_mode(FILE_MODE)).map_err(io)?;
    Ok(listener)
}

/// A connected socket. All methods take `&self`: one task reads, others write.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Unix(stream) => stream.writable().await,
        }
    }
    pub fn try_read_buf(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_buf(buffer),
            Self::Unix(stream) => stream.try_read_buf(buffer),
        }
    }
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(slices),
            Self::Unix(stream) => stream.try_write_vectored(slices),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/worker.sock");
        let first = bind_unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind_unix(&path).unwrap_err().kind, ErrorKind::Busy);
        drop(first);
        assert!(path.exists(), "a dead process leaves its socket file");
        bind_unix(&path).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"precious").unwrap();
        assert_eq!(bind_unix(&path).unwrap_err().kind, ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        let long = dir.path().join("x".repeat(120));
        assert_eq!(bind_unix(&long).unwrap_err().kind, ErrorKind::NameTooLong);
    }

    #[tokio::test]
    async fn taken_port_says_so() {
        let first = Listener::bind_tcp("127.0.0.1", 0).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let error = Listener::bind_tcp("127.0.0.1", port).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Busy);
        assert!(error.message.contains("port is taken"), "{error}");
    }

    #[test]
    fn addresses() {
        assert_eq!(Address::tcp("h", 1).to_string(), "h:1");
        assert_eq!(Address::tcp("::1", 1).to_string(), "[::1]:1");
    }
}
