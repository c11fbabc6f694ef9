//! URIs of under-storages: what users write, and the one form that is kept.

use std::path::{Component, Path, PathBuf};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::{UfsError, UfsErrorKind, UfsResult};

/// What would be ambiguous in the path of a URI. `/` stays, it parts components.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'%')
    .add(b'?')
    .add(b'#')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\');

/// A URI taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UfsUri {
    /// A folder of this host.
    Local(PathBuf),
    /// Bucket and prefix of S3; the prefix has no slash at either end.
    S3 { bucket: String, prefix: String },
    /// A store that `object_store` reaches, by its URL without the prefix.
    Generic { base: String, prefix: String },
    /// An object store in this process's memory, for tests.
    Memory,
}

/// The one form of a URI: local paths become absolute `file://` URIs, `s3a` becomes `s3`, trailing slashes go.
///
/// # Errors
/// [`UfsErrorKind::Invalid`]: no scheme that we know, no bucket, or `.` or `..` in it.
pub fn normalize_uri(uri: &str) -> UfsResult<String> {
    Ok(match parse(uri)? {
        UfsUri::Local(path) => {
            let text = path.to_str().ok_or_else(|| invalid(uri, "it is no UTF-8"))?;
            format!("file://{}", encode(text))
        }
        UfsUri::S3 { bucket, prefix } => with_prefix(format!("s3://{bucket}"), &prefix),
        UfsUri::Generic { base, prefix } => with_prefix(base, &prefix),
        UfsUri::Memory => "memory://objects".to_owned(),
    })
}

pub(crate) fn parse(uri: &str) -> UfsResult<UfsUri> {
    let uri = uri.trim();
    if uri.is_empty() {
        return Err(invalid(uri, "it is empty"));
    }
    if uri.contains('\0') {
        return Err(invalid(uri, "it holds a NUL"));
    }
    let Some((scheme, rest)) = uri.split_once("://") else {
        // `file:/path` is how Hadoop prints local paths.
        return match uri.strip_prefix("file:") {
            Some(path) => local(uri, &decode(uri, path)?),
            None => local(uri, uri),
        };
    };
    let scheme = scheme.to_ascii_lowercase();
    match scheme.as_str() {
        "file" => {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            if !path.starts_with('/') {
                return Err(invalid(uri, "file:// takes an absolute path, file:///path"));
            }
            local(uri, &decode(uri, path)?)
        }
        "s3" | "s3a" => {
            // An access point: its ARN has a slash before the name, or, as we keep it, a colon.
            let rest = match rest.split_once(":accesspoint/") {
                Some((arn, rest)) if arn.starts_with("arn:") && !arn.contains('/') => {
                    format!("{arn}:accesspoint:{rest}")
                }
                _ => rest.to_owned(),
            };
            let (bucket, prefix) = authority_and_prefix(uri, &rest)?;
            Ok(UfsUri::S3 { bucket, prefix })
        }
        "gs" | "gcs" | "az" | "azure" | "adl" | "abfs" | "abfss" | "wasb" | "wasbs" | "http" | "https" => {
            let (authority, prefix) = authority_and_prefix(uri, rest)?;
            let scheme = if scheme == "gcs" { "gs" } else { &scheme };
            Ok(UfsUri::Generic {
                base: format!("{scheme}://{authority}"),
                prefix,
            })
        }
        "memory" => match rest {
            "" | "objects" => Ok(UfsUri::Memory),
            _ => Err(invalid(uri, "the only store in memory is memory://objects")),
        },
        _ => Err(invalid(
            uri,
            "schemes are s3, s3a, gs, abfs, abfss, az, http, https, file, or none for a local path",
        )),
    }
}

fn local(uri: &str, path: &str) -> UfsResult<UfsUri> {
    let path = Path::new(path);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(invalid(uri, "`..` is not taken in a URI; write the path that is meant"));
    }
    let absolute = std::path::absolute(path).map_err(|error| invalid(uri, &error.to_string()))?;
    // Components drop doubled and trailing slashes.
    Ok(UfsUri::Local(absolute.components().collect()))
}

fn authority_and_prefix(uri: &str, rest: &str) -> UfsResult<(String, String)> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.is_empty() {
        return Err(invalid(uri, "it names no bucket or host"));
    }
    if authority.contains(['?', '#', ' ', '\\', '%']) || authority == "." || authority == ".." {
        return Err(invalid(uri, "its bucket or host is no name"));
    }
    let path = decode(uri, path)?;
    let path = path.trim_matches('/');
    if path.split('/').any(|part| part == "." || part == "..") {
        return Err(invalid(uri, "`.` and `..` are not taken in a URI"));
    }
    if path.contains("//") {
        return Err(invalid(uri, "it holds an empty path component"));
    }
    Ok((authority.to_owned(), path.to_owned()))
}

fn with_prefix(base: String, prefix: &str) -> String {
    if prefix.is_empty() {
        base
    } else {
        format!("{base}/{}", encode(prefix))
    }
}

fn encode(path: &str) -> String {
    utf8_percent_encode(path, ENCODED).to_string()
}

fn decode(uri: &str, path: &str) -> UfsResult<String> {
    match percent_decode_str(path).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(invalid(uri, "its percent-encoding is no UTF-8 text")),
    }
}

fn invalid(uri: &str, why: &str) -> UfsError {
    UfsError::new(UfsErrorKind::Invalid, format!("UFS URI {uri:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form() {
        for (given, kept) in [
            ("/data//x/", "file:///data/x"),
            ("/", "file:///"),
            ("file:///data/a%20b/", "file:///data/a%20b"),
            ("file:/data", "file:///data"),
            ("/data/50%", "file:///data/50%25"),
            ("s3a://bucket/", "s3://bucket"),
            ("S3://bucket/a/b//", "s3://bucket/a/b"),
            ("s3://bucket/a%20b", "s3://bucket/a%20b"),
            ("s3://bucket/a b", "s3://bucket/a%20b"),
            ("gs://b/p/", "gs://b/p"),
            (
                "abfs://fs@account.dfs.core.windows.net/p",
                "abfs://fs@account.dfs.core.windows.net/p",
            ),
            ("http://host:80/data/", "http://host:80/data"),
            ("memory://", "memory://objects"),
        ] {
            let once = normalize_uri(given).unwrap();
            assert_eq!(once, kept, "{given}");
            assert_eq!(normalize_uri(&once).unwrap(), once, "{given} twice");
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(normalize_uri("x").unwrap(), format!("file://{}/x", here.display()));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "s3://",
            "s3:///x",
            "s3://b/../c",
            "s3://b/%2e%2e/c",
            "s3://b/a//b",
            "/a/../b",
            "file:///a/..",
            "file://host/x",
            "ftp://x/y",
            "s3://b/%ff",
            "s3://b?x/y",
            "../x",
            "memory://other",
            "memory://posix",
            "s3://b/a%00",
        ] {
            assert_eq!(normalize_uri(bad).unwrap_err().kind, UfsErrorKind::Invalid, "{bad:?}");
        }
    }
}
