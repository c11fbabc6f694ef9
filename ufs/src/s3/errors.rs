//! S3's answers told apart.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::headers::header;
use super::xml;
use crate::{UfsError, UfsErrorKind};

/// A server that says "in an hour" is asked sooner: the limits of a request end it before.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    /// S3's word for it; HEAD has none.
    pub code: String,
    pub message: String,
    /// Where the bucket is, if the server says so.
    pub bucket_region: Option<String>,
    /// When to try again, if the server says so.
    pub retry_after: Option<Duration>,
    /// The request was on the bucket, not on a key.
    pub on_bucket: bool,
    /// There was a body, and it was not S3's: some other server answered.
    pub foreign: bool,
}

impl Refusal {
    pub fn new(status: StatusCode, body: &[u8], on_bucket: bool) -> Self {
        let root = xml::parse(body).ok().filter(|root| root.name == "Error");
        let text = |name| {
            root.as_ref()
                .map_or(String::new(), |root| root.text_of(name).to_owned())
        };
        let foreign = root.is_none() && !body.is_empty();
        let (code, message) = (text("Code"), text("Message"));
        Self {
            status,
            code,
            message,
            bucket_region: Some(text("Region")).filter(|region| !region.is_empty()),
            retry_after: None,
            on_bucket,
            foreign,
        }
    }

    /// What the headers say beside.
    pub fn with_headers(mut self, headers: &HeaderMap) -> Self {
        let text = |name| Some(header(headers, name)).filter(|text| !text.is_empty());
        self.bucket_region = text("x-amz-bucket-region").map(str::to_owned).or(self.bucket_region);
        let seconds = text("retry-after").and_then(|text| text.parse().ok());
        self.retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
        self
    }

    /// Other keys may help: what was signed with is not known, or not any more.
    pub fn is_of_keys(&self) -> bool {
        matches!(
            self.code.as_str(),
            "ExpiredToken"
                | "ExpiredTokenException"
                | "InvalidAccessKeyId"
                | "InvalidToken"
                | "SignatureDoesNotMatch"
                | "TokenRefreshRequired"
        )
    }

    /// The time in the signature is not the server's.
    pub fn is_of_clock(&self) -> bool {
        matches!(self.code.as_str(), "RequestTimeTooSkewed" | "RequestExpired")
    }

    /// The bucket is elsewhere.
    pub fn is_of_place(&self) -> bool {
        let named = matches!(
            self.code.as_str(),
            "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException"
        );
        // HEAD has no code.
        named || self.status.is_redirection() || (self.code.is_empty() && self.status == StatusCode::BAD_REQUEST)
    }

    pub fn kind(&self) -> UfsErrorKind {
        // Of a bucket nobody can say that a key is missing; names are removed because of it.
        if self.on_bucket && matches!(self.code.as_str(), "NoSuchKey" | "NoSuchUpload") {
            return UfsErrorKind::StoreMissing;
        }
        if let Some(kind) = kind_of_code(&self.code) {
            return kind;
        }
        match self.status.as_u16() {
            401 | 403 => UfsErrorKind::Denied,
            // "Not found" is believed only if it is said of the key: names are removed because of it.
            404 if self.on_bucket && self.code.is_empty() => UfsErrorKind::StoreMissing,
            404 if !self.on_bucket && self.code.is_empty() && !self.foreign => UfsErrorKind::NotFound,
            408 => UfsErrorKind::Unreachable,
            409 => UfsErrorKind::Throttled,
            412 | 304 => UfsErrorKind::PreconditionFailed,
            // Something in between speaks, and says nothing of the store.
            400 | 405 | 501 if self.foreign => UfsErrorKind::Unreachable,
            416 | 400 | 414 => UfsErrorKind::Invalid,
            429 | 503 => UfsErrorKind::Throttled,
            501 | 405 => UfsErrorKind::Unsupported,
            507 => UfsErrorKind::NoSpace,
            500.. => UfsErrorKind::Unreachable,
            _ => UfsErrorKind::Other,
        }
    }

    /// What was being done, on what, why, and what to try.
    pub fn to_error(&self, what: &str, bucket: &str) -> UfsError {
        let kind = self.kind();
        let said = match (self.code.as_str(), self.message.as_str()) {
            ("", _) => format!("HTTP {}", self.status),
            (code, "") => format!("{code}, HTTP {}", self.status.as_u16()),
            (code, message) => format!("{code}: {message} (HTTP {})", self.status.as_u16()),
        };
        let advice = match (kind, self.code.as_str()) {
            (UfsErrorKind::StoreMissing, _) => {
                format!("; bucket {bucket} does not exist: check its name and the endpoint")
            }
            (_, "RequestTimeTooSkewed") => "; set the clock of this host".to_owned(),
            (_, "InvalidObjectState") => "; it is archived: restore it first".to_owned(),
            (_, "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired") => {
                "; the session token has expired, and nothing gave another one: see \"Credentials\" in docs/s3-storage.md".to_owned()
            }
            (_, "AccessControlListNotSupported") => {
                "; the bucket takes no ACLs: leave alluxio.underfs.s3.acl empty".to_owned()
            }
            (UfsErrorKind::Denied, _) => {
                "; check s3a.accessKeyId, s3a.secretKey and the permissions on the bucket".to_owned()
            }
            (_, "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed") => {
                let region = self.bucket_region.as_deref().unwrap_or("another region");
                format!("; the bucket is in {region}: set alluxio.underfs.s3.region, or the endpoint")
            }
            _ if self.status.is_redirection() => {
                let region = self.bucket_region.as_deref().unwrap_or("another region");
                format!("; the bucket is in {region}: set alluxio.underfs.s3.region, or the endpoint")
            }
            _ => String::new(),
        };
        let mut error = UfsError::new(kind, format!("{what}: {said}{advice}"));
        error.retry_after = self.retry_after;
        error.of_object = self.code == "InvalidObjectState";
        // Conditions and checksums are given up by this: so only by what is the store's own word for sure.
        error.not_understood = !self.foreign
            && match kind {
                UfsErrorKind::Unsupported => true,
                UfsErrorKind::Invalid => self.status == StatusCode::BAD_REQUEST,
                _ => false,
            };
        error
    }
}

fn kind_of_code(code: &str) -> Option<UfsErrorKind> {
    Some(match code {
        "NoSuchBucket" => UfsErrorKind::StoreMissing,
        "NoSuchKey" | "NoSuchUpload" => UfsErrorKind::NotFound,
        "AccessDenied"
        | "AllAccessDisabled"
        | "AccountProblem"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidToken"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "TokenRefreshRequired"
        | "RequestTimeTooSkewed"
        | "RequestExpired"
        | "InvalidObjectState"
        | "NotSignedUp"
        | "UnauthorizedAccess"
        | "XAdminUserNotFound" => UfsErrorKind::Denied,
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "BandwidthLimitExceeded"
        | "ServiceUnavailable"
        | "OperationAborted"
        | "ConditionalRequestConflict" => UfsErrorKind::Throttled,
        // The bytes were damaged on their way: they are sent again.
        "BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody" => UfsErrorKind::Unreachable,
        "InternalError" | "RequestTimeout" => UfsErrorKind::Unreachable,
        "PreconditionFailed" | "NotModified" => UfsErrorKind::PreconditionFailed,
        // Another region: no way to send the request to this one is right.
        "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => UfsErrorKind::Other,
        // A setting of the mount that the bucket does not allow: no other way of the same request helps.
        "AccessControlListNotSupported" => UfsErrorKind::Other,
        "NotImplemented" | "MethodNotAllowed" => UfsErrorKind::Unsupported,
        "InvalidRange" | "InvalidURI" => UfsErrorKind::Invalid,
        "KeyTooLongError" => UfsErrorKind::PathTooLong,
        "EntityTooLarge" => UfsErrorKind::TooLarge,
        "InsufficientStorage" | "XMinioStorageFull" => UfsErrorKind::NoSpace,
        "QuotaExceeded" | "XMinioAdminBucketQuotaExceeded" => UfsErrorKind::QuotaExceeded,
        // What versitygw says of keys that its file system cannot hold.
        "ObjectParentIsFile" | "DirectoryObjectContainsData" => UfsErrorKind::NotADirectory,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_apart() {
        let kind =
            |status, body: &str| Refusal::new(StatusCode::from_u16(status).unwrap(), body.as_bytes(), false).kind();
        let error = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        assert_eq!(kind(404, ""), UfsErrorKind::NotFound);
        assert_eq!(kind(404, &error("NoSuchKey")), UfsErrorKind::NotFound);
        assert_eq!(kind(404, &error("NoSuchBucket")), UfsErrorKind::StoreMissing);
        assert_eq!(kind(404, &error("SomethingElse")), UfsErrorKind::Other);
        assert_eq!(kind(404, "<html>nginx</html>"), UfsErrorKind::Other);
        assert_eq!(
            Refusal::new(StatusCode::NOT_FOUND, b"", true).kind(),
            UfsErrorKind::StoreMissing
        );
        assert_eq!(kind(403, ""), UfsErrorKind::Denied);
        assert_eq!(kind(400, &error("ExpiredToken")), UfsErrorKind::Denied);
        assert_eq!(kind(503, &error("SlowDown")), UfsErrorKind::Throttled);
        assert_eq!(kind(507, ""), UfsErrorKind::NoSpace);
        assert_eq!(kind(403, &error("QuotaExceeded")), UfsErrorKind::QuotaExceeded);
        assert_eq!(kind(400, &error("EntityTooLarge")), UfsErrorKind::TooLarge);
        assert_eq!(kind(503, "<html>"), UfsErrorKind::Throttled);
        assert_eq!(kind(500, ""), UfsErrorKind::Unreachable);
        assert_eq!(kind(412, ""), UfsErrorKind::PreconditionFailed);
        assert_eq!(kind(301, ""), UfsErrorKind::Other);
    }

    #[test]
    fn what_the_store_may_not_know() {
        let error = |status: u16, code: &str| {
            let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
            let status = StatusCode::from_u16(status).unwrap();
            Refusal::new(status, body.as_bytes(), false).to_error("PUT", "b")
        };
        assert!(error(501, "NotImplemented").not_understood && error(400, "InvalidArgument").not_understood);
        assert!(!error(400, "ExpiredToken").not_understood && !error(416, "InvalidRange").not_understood);
        assert!(!error(400, "BadDigest").not_understood && error(400, "BadDigest").is_retryable());
        assert!(!error(503, "SlowDown").not_understood);
        for status in [400, 405, 501] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = Refusal::new(status, b"<html>a balancer</html>", false).to_error("DELETE", "b");
            assert!(!error.not_understood && error.is_retryable(), "{error}");
        }
    }

    #[test]
    fn messages_say_what_to_try() {
        let body = b"<Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>";
        let text = Refusal::new(StatusCode::NOT_FOUND, body, true)
            .to_error("list s3://b", "b")
            .message;
        assert_eq!(
            text,
            "list s3://b: NoSuchBucket: gone (HTTP 404); bucket b does not exist: check its name and the endpoint"
        );
        let mut moved = Refusal::new(StatusCode::MOVED_PERMANENTLY, b"", true);
        moved.bucket_region = Some("eu-west-1".to_owned());
        assert!(
            moved
                .to_error("list", "b")
                .message
                .contains("the bucket is in eu-west-1")
        );
    }
}
