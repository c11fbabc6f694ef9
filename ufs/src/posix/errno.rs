//! Errors of the operating system told apart.

use nix::errno::Errno;

use crate::{UfsError, UfsErrorKind, path};

/// `doing` on `path` failed.
pub(super) fn error(errno: Errno, doing: &str, path: &[u8]) -> UfsError {
    let kind = match errno {
        Errno::ENOENT => UfsErrorKind::NotFound,
        Errno::EEXIST => UfsErrorKind::AlreadyExists,
        // A component is a symbolic link, which is never followed.
        Errno::ENOTDIR | Errno::ELOOP => UfsErrorKind::NotADirectory,
        Errno::EISDIR => UfsErrorKind::IsADirectory,
        Errno::ENOTEMPTY => UfsErrorKind::NotEmpty,
        Errno::EACCES | Errno::EPERM | Errno::EROFS => UfsErrorKind::Denied,
        Errno::ENOSPC => UfsErrorKind::NoSpace,
        Errno::EDQUOT => UfsErrorKind::QuotaExceeded,
        Errno::EFBIG => UfsErrorKind::TooLarge,
        Errno::ENAMETOOLONG => UfsErrorKind::PathTooLong,
        Errno::EINVAL | Errno::EXDEV | Errno::EILSEQ => UfsErrorKind::Invalid,
        Errno::EIO | Errno::ESTALE | Errno::ETIMEDOUT | Errno::EHOSTDOWN | Errno::ENOTCONN | Errno::EAGAIN => {
            UfsErrorKind::Unreachable
        }
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EBUSY => UfsErrorKind::Throttled,
        Errno::ENOSYS | Errno::EOPNOTSUPP => UfsErrorKind::Unsupported,
        _ => UfsErrorKind::Other,
    };
    UfsError::new(kind, format!("{doing} {}: {}", path::show(path), errno.desc()))
}

/// As [`error`], of an error of the standard library.
pub(super) fn io_error(error: &std::io::Error, doing: &str, path: &[u8]) -> UfsError {
    match error.raw_os_error() {
        Some(number) => self::error(Errno::from_raw(number), doing, path),
        None => UfsError::new(UfsErrorKind::Other, format!("{doing} {}: {error}", path::show(path))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_apart() {
        for (errno, kind) in [
            (Errno::ENOENT, UfsErrorKind::NotFound),
            (Errno::EACCES, UfsErrorKind::Denied),
            (Errno::EROFS, UfsErrorKind::Denied),
            (Errno::ENOSPC, UfsErrorKind::NoSpace),
            (Errno::EDQUOT, UfsErrorKind::QuotaExceeded),
            (Errno::EFBIG, UfsErrorKind::TooLarge),
            (Errno::EIO, UfsErrorKind::Unreachable),
            (Errno::ELOOP, UfsErrorKind::NotADirectory),
        ] {
            assert_eq!(error(errno, "test", b"x").kind, kind, "{errno}");
        }
        let text = error(Errno::ENOSPC, "write", b"a/b").message;
        assert_eq!(text, "write a/b: No space left on device");
    }
}
