//! What requests say in headers and answers say back.

use std::ops::Range;

use http::HeaderMap;

use super::manner::Sum;
use super::request::Request;
use super::sums::{crc32c_base64, md5_base64};
use super::{METADATA_PREFIX, xml};
use crate::object::client::{Properties, is_archive};
use crate::{Expect, UfsError, UfsErrorKind, UfsResult};

/// Headers that S3 keeps with an object, and gives back.
const KEPT: [&str; 7] = [
    "content-type",
    "cache-control",
    "content-encoding",
    "content-disposition",
    "content-language",
    "expires",
    "x-amz-website-redirect-location",
];
/// How an object was encrypted with a key of KMS; SSE-S3 is the default of every bucket.
const KEPT_OF_KMS: [&str; 3] = [
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
];

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

pub(super) fn unquoted(etag: &str) -> String {
    let etag = etag.trim();
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_owned()
}

/// What tells an object from another one under its key: its ETag. Of one without, as some servers show files that came to them by
/// another way, its time in seconds and its length; no store compares that, so it is done here.
pub(super) fn identity(etag: &str, modified_ns: i64, length: u64) -> String {
    match unquoted(etag) {
        etag if etag.is_empty() => format!("~{:x}-{length:x}", modified_ns / 1_000_000_000),
        etag => etag,
    }
}

/// Whether the store knows that identity.
pub(super) fn is_etag(identity: &str) -> bool {
    !identity.starts_with('~')
}

pub(super) fn etag_of(headers: &HeaderMap) -> Option<String> {
    Some(unquoted(header(headers, "etag"))).filter(|etag| !etag.is_empty())
}

pub(super) fn part_etag(key: &str, etag: &str) -> UfsResult<String> {
    match unquoted(etag) {
        etag if etag.is_empty() => {
            let why = format!("upload a part of {key:?}: the server gave no ETag");
            Err(UfsError::new(UfsErrorKind::Other, why))
        }
        etag => Ok(etag),
    }
}

/// `encrypts`: how is for the mount to say, not for the object.
pub(super) fn properties_of(headers: &HeaderMap, encrypts: bool) -> Properties {
    let class = header(headers, "x-amz-storage-class");
    // Intelligent tiering has archives of its own, which listings do not tell.
    let is_archive = is_archive(class) || !header(headers, "x-amz-archive-status").is_empty();
    let is_restored = header(headers, "x-amz-restore").contains("ongoing-request=\"false\"");
    let mut properties = Properties {
        storage_class: class.to_owned(),
        is_archived: is_archive && !is_restored,
        ..Properties::default()
    };
    let of_kms = !encrypts && header(headers, KEPT_OF_KMS[0]).starts_with("aws:kms");
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        let name = name.as_str();
        if let Some(name) = name.strip_prefix(METADATA_PREFIX) {
            properties.metadata.push((name.to_owned(), value.to_owned()));
        } else if name == "content-encoding" {
            // `aws-chunked` is of the request that brought the object, and some stores keep it.
            let own: Vec<&str> = value
                .split(',')
                .map(str::trim)
                .filter(|coding| *coding != "aws-chunked")
                .collect();
            if own.iter().any(|coding| !coding.is_empty()) {
                properties.headers.push((name.to_owned(), own.join(", ")));
            }
        } else if KEPT.contains(&name) || (of_kms && KEPT_OF_KMS.contains(&name)) {
            properties.headers.push((name.to_owned(), value.to_owned()));
        }
    }
    properties
}

/// Who may write and not tag writes without the tags that were there: `None` if they were not what was refused.
pub(super) fn without_tags(properties: &Properties, error: &UfsError) -> Option<Properties> {
    if error.kind != UfsErrorKind::Denied || properties.tags.is_empty() {
        return None;
    }
    tracing::warn!(%error, "a write with tags was refused; it is tried without the tags that the object had");
    Some(Properties {
        tags: String::new(),
        ..properties.clone()
    })
}

pub(super) fn summed(request: Request<'_>, sum: Sum) -> UfsResult<Request<'_>> {
    match sum {
        Sum::Crc32c => {
            let told = crc32c_base64(&request.body);
            request.header("x-amz-checksum-crc32c", &told)
        }
        Sum::Md5 => {
            let told = md5_base64(&request.body);
            request.header("content-md5", &told)
        }
        Sum::None => Ok(request),
    }
}

/// What the completion of an upload has to tell of a part.
pub(super) fn part_of(etag: &str, crc32c: &str) -> String {
    format!("{etag}\n{crc32c}")
}

pub(super) fn completion(parts: &[String]) -> String {
    let mut body = String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (index, part) in parts.iter().enumerate() {
        let (etag, sum) = part.split_once('\n').unwrap_or((part, ""));
        let (number, etag) = (index + 1, xml::escape(&quoted(etag)));
        body.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>"));
        if !sum.is_empty() {
            body.push_str(&format!("<ChecksumCRC32C>{}</ChecksumCRC32C>", xml::escape(sum)));
        }
        body.push_str("</Part>");
    }
    body.push_str("</CompleteMultipartUpload>");
    body
}

pub(super) fn conditional<'a>(request: Request<'a>, expect: &Expect) -> UfsResult<Request<'a>> {
    match expect {
        Expect::Any => Ok(request),
        Expect::Absent => request.header("if-none-match", "*"),
        Expect::Fingerprint(etag) => request.header("if-match", &quoted(etag)),
    }
}

/// S3 answers "not found" to a conditional PUT on what is not there.
pub(super) fn unmet(error: UfsError, expect: &Expect) -> UfsError {
    if error.kind == UfsErrorKind::NotFound && matches!(expect, Expect::Fingerprint(_)) {
        return UfsError::new(UfsErrorKind::PreconditionFailed, error.message);
    }
    error
}

/// Length of the whole object, by the answer to a GET.
pub(super) fn length_told(response: &reqwest::Response) -> Option<u64> {
    if response.status() != http::StatusCode::PARTIAL_CONTENT {
        return response.content_length();
    }
    header(response.headers(), "content-range")
        .rsplit('/')
        .next()?
        .parse()
        .ok()
}

/// Whether the body will be what was asked for, no less.
pub(super) fn check_range(key: &str, range: &Range<u64>, response: &reqwest::Response) -> UfsResult<()> {
    let wrong = |why: String| Err(UfsError::new(UfsErrorKind::Invalid, format!("GET {key:?}: {why}")));
    if response.status() == http::StatusCode::PARTIAL_CONTENT {
        let given = header(response.headers(), "content-range");
        let wanted = format!("bytes {}-{}/", range.start, range.end.saturating_sub(1));
        if given.starts_with(&wanted) {
            return Ok(());
        }
        return wrong(format!(
            "{range:?} was asked for and {given:?} came: the object ends before"
        ));
    }
    // Some servers answer a range that is the whole object with all of it.
    match response.content_length() {
        Some(length) if range.start == 0 && length == range.end => Ok(()),
        _ => wrong(format!("{range:?} was asked for, and the server ignored it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_body_was_sent_is_no_property_of_the_object() {
        let coding = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-encoding", value.parse().unwrap());
            let properties = properties_of(&headers, false);
            properties.headers.into_iter().next().map(|(_, value)| value)
        };
        assert_eq!(coding("aws-chunked"), None);
        assert_eq!(coding("gzip,aws-chunked").as_deref(), Some("gzip"));
        assert_eq!(coding("gzip").as_deref(), Some("gzip"));
    }
}
