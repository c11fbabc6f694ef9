//! The one error that crosses a wire: a kind that callers branch on and a message for people.
//!
//! A message says what was being done, to what, and what to try.

/// Result of a file system call.
pub type FsResult<T> = Result<T, FsError>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $errno:ident, $grpc:literal, $retry:literal;)*) => {
        /// What went wrong, as far as a caller needs to branch.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
        #[repr(i32)]
        pub enum ErrorKind { $($(#[$doc])* $name = $code,)* }

        impl ErrorKind {
            /// The errno that a system call reports.
            pub const fn errno(self) -> i32 {
                match self { $(ErrorKind::$name => libc::$errno,)* }
            }
            /// The gRPC status code (numbers of `google.rpc.Code`).
            pub const fn grpc_code(self) -> i32 {
                match self { $(ErrorKind::$name => $grpc,)* }
            }
            /// Whether the same call may succeed later with nothing else changed.
            pub const fn is_retryable(self) -> bool {
                match self { $(ErrorKind::$name => $retry,)* }
            }
        }
    };
}

kinds! {
    /// A bug of ours or an unclassified failure below us.
    Internal = 0, EIO, 13, false;
    /// The name or inode does not exist.
    NotFound = 1, ENOENT, 5, false;
    /// The name exists already.
    AlreadyExists = 2, EEXIST, 6, false;
    /// The caller may not (access bits).
    AccessDenied = 3, EACCES, 7, false;
    /// The caller is not owner or superuser.
    NotPermitted = 4, EPERM, 7, false;
    /// A component that must be a directory is none.
    NotADirectory = 5, ENOTDIR, 9, false;
    /// The target is a directory.
    IsADirectory = 6, EISDIR, 9, false;
    /// The directory has entries.
    NotEmpty = 7, ENOTEMPTY, 9, false;
    /// An argument makes no sense.
    InvalidArgument = 8, EINVAL, 3, false;
    /// A name is longer than 255 bytes or a path than 4,096.
    NameTooLong = 9, ENAMETOOLONG, 3, false;
    /// Source and target lie on different mounts.
    CrossesMounts = 10, EXDEV, 9, false;
    /// The mount is read-only.
    ReadOnly = 11, EROFS, 9, false;
    /// No space is left where the data must go.
    NoSpace = 12, ENOSPC, 8, false;
    /// In use: a mount point, a busy file, a port.
    Busy = 13, EBUSY, 9, false;
    /// We do not do this.
    NotSupported = 14, EOPNOTSUPP, 12, false;
    /// The other end did not answer in time.
    Timeout = 15, ETIMEDOUT, 4, true;
    /// The other end cannot be reached now.
    Unavailable = 16, EIO, 14, true;
    /// The under-storage asks to slow down.
    Throttled = 17, EAGAIN, 8, true;
    /// A handle, session or version that is no longer the current one; look it up again.
    Stale = 18, ESTALE, 9, false;
    /// A checksum did not match.
    Corrupt = 19, EIO, 15, false;
    /// The under-storage refuses our credentials.
    UfsDenied = 20, EACCES, 7, false;
    /// The object in the under-storage is not the version we know; sync and try again.
    VersionMismatch = 21, ESTALE, 10, false;
    /// A bound on file size or offset.
    FileTooLarge = 22, EFBIG, 11, false;
    /// Too many symbolic links.
    TooManyLinks = 23, ELOOP, 9, false;
    /// The caller gave up.
    Cancelled = 24, EINTR, 1, false;
    /// The only copy of the data is gone.
    DataLost = 25, EIO, 15, false;
    /// A quota is used up.
    QuotaExceeded = 26, EDQUOT, 8, false;
    /// This process, or its host, has as many files open as it may.
    TooManyOpenFiles = 70, ENFILE, 8, false;
    /// The inode that a call named by its number does not exist any more; look its name up again.
    Gone = 71, ESTALE, 5, false;
    /// A program is running from the file.
    TextBusy = 60, ETXTBSY, 9, false;
    /// An inode has as many names as it can have.
    TooManyNames = 50, EMLINK, 9, false;
    /// There is no such extended attribute.
    NoAttribute = 51, ENODATA, 5, false;
    /// The name or value of an extended attribute is too long to be one.
    OutOfRange = 52, ERANGE, 3, false;
    /// The value of an extended attribute is longer than 64 KiB.
    TooLarge = 53, E2BIG, 3, false;
    /// Another owner holds a conflicting lock.
    WouldBlock = 40, EAGAIN, 9, false;
    /// Waiting for the lock would never end.
    Deadlock = 41, EDEADLK, 9, false;
    /// More locks or waiters than there may be.
    NoLocks = 42, ENOLCK, 8, false;
}

/// An error with the words for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FsError {
    /// What callers branch on.
    pub kind: ErrorKind,
    /// What was being done, to what, and what to try.
    pub message: String,
}

impl FsError {
    /// An error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
    /// The errno that a system call reports.
    pub fn errno(&self) -> i32 {
        self.kind.errno()
    }
    /// Whether the same call may succeed later with nothing else changed.
    pub fn is_retryable(&self) -> bool {
        self.kind.is_retryable()
    }
    /// The same kind with "doing: why" as message.
    pub fn context(mut self, doing: impl std::fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
    /// Classifies an operating system error met while `doing` something.
    pub fn from_io(doing: impl std::fmt::Display, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let kind = match error.raw_os_error() {
            Some(libc::ENOSPC) => ErrorKind::NoSpace,
            Some(libc::EDQUOT) => ErrorKind::QuotaExceeded,
            Some(libc::EFBIG) => ErrorKind::FileTooLarge,
            Some(libc::EROFS) => ErrorKind::ReadOnly,
            Some(libc::ENOTDIR) => ErrorKind::NotADirectory,
            Some(libc::EISDIR) => ErrorKind::IsADirectory,
            Some(libc::ENOTEMPTY) => ErrorKind::NotEmpty,
            Some(libc::ENAMETOOLONG) => ErrorKind::NameTooLong,
            Some(libc::EINVAL) => ErrorKind::InvalidArgument,
            Some(libc::EBUSY) => ErrorKind::Busy,
            Some(libc::EXDEV) => ErrorKind::CrossesMounts,
            Some(libc::ELOOP) => ErrorKind::TooManyLinks,
            Some(libc::EPERM) => ErrorKind::NotPermitted,
            Some(libc::EOPNOTSUPP) => ErrorKind::NotSupported,
            Some(libc::EMFILE | libc::ENFILE) => ErrorKind::TooManyOpenFiles,
            Some(libc::EMLINK) => ErrorKind::TooManyNames,
            _ => match error.kind() {
                K::NotFound => ErrorKind::NotFound,
                K::AlreadyExists => ErrorKind::AlreadyExists,
                K::PermissionDenied => ErrorKind::AccessDenied,
                K::TimedOut => ErrorKind::Timeout,
                K::ConnectionRefused
                | K::ConnectionReset
                | K::ConnectionAborted
                | K::BrokenPipe
                | K::NotConnected
                | K::UnexpectedEof => ErrorKind::Unavailable,
                _ => ErrorKind::Internal,
            },
        };
        Self::new(kind, format!("{doing}: {error}"))
    }
    /// The form on the wire.
    pub fn to_wire(&self) -> WireError {
        WireError {
            kind: self.kind as i32,
            message: self.message.clone(),
        }
    }
    /// From the form on the wire; an unknown kind is [`ErrorKind::Internal`].
    pub fn from_wire(wire: WireError) -> Self {
        Self {
            kind: ErrorKind::try_from(wire.kind).unwrap_or(ErrorKind::Internal),
            message: wire.message,
        }
    }
}

/// [`FsError`] on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WireError {
    /// [`ErrorKind`] as number.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// For a person.
    #[prost(string, tag = "2")]
    pub message: String,
}
