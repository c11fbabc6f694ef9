//! `alluxio://host:port,host:port/path`, and what may be left out of it.

use alluxio_proto::{ErrorKind, FsError, FsResult, PATH_BYTES_MAX};

/// Port of a master, where none is given.
pub const MASTER_PORT: u16 = 19998;

/// A path in the namespace, and the masters to ask if the URI names any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlluxioUri {
    /// `host:port` of each master; empty: as configured.
    pub masters: Vec<String>,
    /// Absolute, without trailing slash (but for the root), without empty or dot components.
    pub path: String,
}

impl AlluxioUri {
    /// Parses `alluxio://h1:p1,h2:p2/path` or `/path`.
    ///
    /// # Errors
    /// `InvalidArgument` for other schemes, relative paths, and `..`, which could mean two things.
    pub fn parse(text: &str) -> FsResult<AlluxioUri> {
        if let Some(rest) = text.strip_prefix("alluxio://") {
            return Self::parse_source(rest);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(invalid(text, &format!("the scheme {scheme} is not alluxio")));
        }
        if !text.starts_with('/') {
            return Err(invalid(text, "a path starts with /"));
        }
        Ok(AlluxioUri {
            masters: Vec::new(),
            path: normalize(text)?,
        })
    }

    /// Parses what stands before the mount point in fstab: `h1:p1,h2:p2/path`, with or without `alluxio://`.
    ///
    /// # Errors
    /// `InvalidArgument` if a host or port makes no sense.
    pub fn parse_source(text: &str) -> FsResult<AlluxioUri> {
        let rest = text.strip_prefix("alluxio://").unwrap_or(text);
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let masters = authority
            .split(',')
            .filter(|part| !part.is_empty())
            .map(|part| master(text, part))
            .collect::<FsResult<_>>()?;
        Ok(AlluxioUri {
            masters,
            path: normalize(path)?,
        })
    }
}

/// `host:port` with the default port added.
fn master(uri: &str, part: &str) -> FsResult<String> {
    let (host, port) = match part.rsplit_once(':') {
        // The colons of an IPv6 literal stand inside brackets.
        Some((host, port)) if !port.contains(']') => (
            host,
            port.parse::<u16>()
                .map_err(|_| invalid(uri, &format!("{port} is no port")))?,
        ),
        _ => (part, MASTER_PORT),
    };
    if host.is_empty() {
        return Err(invalid(uri, "a master needs a host name"));
    }
    Ok(format!("{host}:{port}"))
}

/// An absolute path in its one normal form.
///
/// # Errors
/// `InvalidArgument` for `..` and NUL, `NameTooLong` past 4,096 bytes.
pub fn normalize(path: &str) -> FsResult<String> {
    if path.len() > PATH_BYTES_MAX {
        return Err(FsError::new(
            ErrorKind::NameTooLong,
            format!("a path of {} bytes; {PATH_BYTES_MAX} are allowed", path.len()),
        ));
    }
    let mut out = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return Err(invalid(path, "`..` is not allowed: write the path that is meant"));
        }
        if part.contains('\0') {
            return Err(invalid(path, "it holds a NUL"));
        }
        out.push('/');
        out.push_str(part);
    }
    if out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

fn invalid(uri: &str, why: &str) -> FsError {
    FsError::new(
        ErrorKind::InvalidArgument,
        format!("{uri}: {why}; write alluxio://HOST:PORT/PATH or /PATH"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Vec<String>, String) {
        let uri = AlluxioUri::parse(text).unwrap();
        (uri.masters, uri.path)
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        assert_eq!(parsed("/a//b/./c/"), (vec![], "/a/b/c".to_owned()));
        assert_eq!(parsed("/"), (vec![], "/".to_owned()));
        assert_eq!(parsed("alluxio:///a"), (vec![], "/a".to_owned()));
        assert_eq!(parsed("alluxio://h/a"), (vec!["h:19998".to_owned()], "/a".to_owned()));
        assert_eq!(
            parsed("alluxio://h:1,[::1]:2,[::1]"),
            (vec!["h:1".into(), "[::1]:2".into(), "[::1]:19998".into()], "/".into())
        );
        let source = AlluxioUri::parse_source("localhost:19998/").unwrap();
        assert_eq!(
            (source.masters, source.path),
            (vec!["localhost:19998".to_owned()], "/".to_owned())
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "a/b",
            "",
            "s3://bucket/x",
            "/a/../b",
            "alluxio://h:port/",
            "alluxio://:1/",
            "/a\0b",
        ] {
            assert_eq!(
                AlluxioUri::parse(text).unwrap_err().kind,
                ErrorKind::InvalidArgument,
                "{text:?}"
            );
        }
        assert_eq!(
            AlluxioUri::parse(&format!("/{}", "a/".repeat(3000))).unwrap_err().kind,
            ErrorKind::NameTooLong
        );
    }
}
