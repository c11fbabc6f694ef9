//! Errors of under-storages, told apart.

use alluxio_proto::{ErrorKind, FsError};

/// Result of a UFS call.
pub type UfsResult<T> = Result<T, UfsError>;

/// What a caller branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UfsErrorKind {
    /// The store says that it is not there.
    NotFound,
    /// The store says that it is there already.
    AlreadyExists,
    /// It is not the version that was expected.
    PreconditionFailed,
    /// The object that a new one was to be made over is gone, or is another version now.
    BaseChanged,
    /// Credentials are missing, wrong or not enough.
    Denied,
    /// Slow down.
    Throttled,
    /// No connection, no answer in time, or the server failed.
    Unreachable,
    /// The bucket or the root folder itself is not there: nothing is known of any name in it.
    StoreMissing,
    /// A component is no directory.
    NotADirectory,
    /// It is a directory.
    IsADirectory,
    /// The directory has entries.
    NotEmpty,
    /// The store is full.
    NoSpace,
    /// The owner's share of the store is used up.
    QuotaExceeded,
    /// The store holds nothing that large.
    TooLarge,
    /// The store cannot do this.
    Unsupported,
    /// The path, URI or option makes no sense.
    Invalid,
    /// The store holds no path, or no name, of that length.
    PathTooLong,
    /// Anything else.
    Other,
}

/// An error of a UFS: what was being done, on what, why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct UfsError {
    /// What a caller branches on.
    pub kind: UfsErrorKind,
    /// For a person.
    pub message: String,
    /// The store may not know something that the request asked for: a header, a checksum, a condition.
    pub(crate) not_understood: bool,
    /// The store, or who keeps requests from it, says when to try again.
    pub(crate) retry_after: Option<std::time::Duration>,
    /// It is about the state of this object (archived, say), and says nothing of others.
    pub(crate) of_object: bool,
}

impl UfsError {
    /// An error of `kind`.
    pub fn new(kind: UfsErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            not_understood: false,
            retry_after: None,
            of_object: false,
        }
    }
    /// Whether the store says by it that it will not do this to this object, and not that it cannot now.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self.kind,
            UfsErrorKind::Denied
                | UfsErrorKind::Unsupported
                | UfsErrorKind::Invalid
                | UfsErrorKind::PathTooLong
                | UfsErrorKind::TooLarge
                | UfsErrorKind::IsADirectory
                | UfsErrorKind::NotADirectory
        )
    }
    /// Whether it is about the state of the object, so that others need not be refused for the same reason.
    pub fn is_of_object(&self) -> bool {
        self.of_object
    }
    /// Whether the same call may succeed later with nothing else changed.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, UfsErrorKind::Throttled | UfsErrorKind::Unreachable)
    }
}

impl From<UfsError> for FsError {
    fn from(error: UfsError) -> FsError {
        let kind = match error.kind {
            UfsErrorKind::NotFound => ErrorKind::NotFound,
            UfsErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            UfsErrorKind::PreconditionFailed | UfsErrorKind::BaseChanged => ErrorKind::VersionMismatch,
            UfsErrorKind::Denied => ErrorKind::UfsDenied,
            UfsErrorKind::Throttled => ErrorKind::Throttled,
            UfsErrorKind::Unreachable | UfsErrorKind::StoreMissing => ErrorKind::Unavailable,
            UfsErrorKind::NotADirectory => ErrorKind::NotADirectory,
            UfsErrorKind::IsADirectory => ErrorKind::IsADirectory,
            UfsErrorKind::NotEmpty => ErrorKind::NotEmpty,
            UfsErrorKind::NoSpace => ErrorKind::NoSpace,
            UfsErrorKind::QuotaExceeded => ErrorKind::QuotaExceeded,
            UfsErrorKind::TooLarge => ErrorKind::FileTooLarge,
            UfsErrorKind::Unsupported => ErrorKind::NotSupported,
            UfsErrorKind::Invalid => ErrorKind::InvalidArgument,
            UfsErrorKind::PathTooLong => ErrorKind::NameTooLong,
            UfsErrorKind::Other => ErrorKind::Internal,
        };
        FsError::new(kind, error.message)
    }
}
