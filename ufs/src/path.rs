//! Paths beneath a mount's root: bytes, components parted by `/`, never `.` or `..`, never empty.

use crate::{UfsError, UfsErrorKind, UfsResult};

/// Longest component, in bytes: what Linux file systems and the kernel's FUSE allow.
pub const NAME_BYTES_MAX: usize = 255;

/// Whether `name` can be one component of a path.
pub fn is_valid_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| *byte == b'/' || *byte == 0)
}

/// Refuses what is no path beneath a root. The empty path is the root.
///
/// # Errors
/// [`UfsErrorKind::Invalid`]; [`UfsErrorKind::PathTooLong`] for a component that is too long.
pub fn check_path(path: &[u8]) -> UfsResult<()> {
    if path.is_empty() || path.split(|byte| *byte == b'/').all(is_valid_name) {
        return Ok(());
    }
    let too_long = path.split(|byte| *byte == b'/').any(|name| name.len() > NAME_BYTES_MAX);
    Err(UfsError::new(
        match too_long {
            true => UfsErrorKind::PathTooLong,
            false => UfsErrorKind::Invalid,
        },
        format!(
            "{} is no path: its components must have 1 to {NAME_BYTES_MAX} bytes and be neither . nor ..",
            show(path)
        ),
    ))
}

/// Parent and last component; the parent of a top-level name is the empty path.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// `name` in `dir`.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() {
        return name.to_vec();
    }
    [dir, b"/", name].concat()
}

/// Whether `path` lies strictly beneath `dir`.
pub fn is_beneath(path: &[u8], dir: &[u8]) -> bool {
    !path.is_empty() && (dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/")))
}

/// A path for messages: readable, and unambiguous where it is not text.
pub fn show(path: &[u8]) -> String {
    if path.is_empty() {
        "/".to_owned()
    } else {
        path.escape_ascii().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_pass() {
        for good in ["", "a", "a/b c/%", "…", ".a", "..."] {
            assert!(check_path(good.as_bytes()).is_ok(), "{good:?}");
        }
        for bad in ["/", "a/", "/a", "a//b", ".", "a/..", "../a", "a\0"] {
            assert_eq!(
                check_path(bad.as_bytes()).unwrap_err().kind,
                UfsErrorKind::Invalid,
                "{bad:?}"
            );
        }
        assert!(check_path(&[b'x'; 255]).is_ok());
        assert_eq!(check_path(&[b'x'; 256]).unwrap_err().kind, UfsErrorKind::PathTooLong);
        assert!(check_path(b"\xff\xfe").is_ok());
    }

    #[test]
    fn split_and_beneath() {
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"a"), (&b""[..], &b"a"[..]));
        assert!(is_beneath(b"a/b", b"a") && is_beneath(b"a", b""));
        assert!(!is_beneath(b"ab", b"a") && !is_beneath(b"a", b"a") && !is_beneath(b"", b""));
    }
}
