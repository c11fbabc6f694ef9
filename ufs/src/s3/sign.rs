//! Signature Version 4 with the SHA-256 of the body, which every server can check.
//!
//! Of our own because the time has to be the store's, and the scope another region's, without a new client.

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ring::{digest, hmac};
use url::Url;

use super::credentials::Credential;
use crate::{UfsError, UfsErrorKind, UfsResult};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const BODY: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Whom a signature is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    /// `s3`, `sts`.
    pub service: &'a str,
    pub region: &'a str,
}

/// Adds the headers that prove who sends the request. The query of `url` must be encoded as S3 does; all headers are signed.
///
/// # Errors
/// [`UfsErrorKind::Invalid`] if a header can hold no such value, or is no text.
pub(super) fn sign(
    method: &Method,
    url: &Url,
    headers: &mut HeaderMap,
    body: &[u8],
    credential: &Credential,
    scope: Scope<'_>,
    now: DateTime<Utc>,
) -> UfsResult<()> {
    let value = |text: &str| {
        HeaderValue::from_str(text)
            .map_err(|_| UfsError::new(UfsErrorKind::Invalid, "sign a request: no header holds it"))
    };
    let (date, day) = (
        now.format("%Y%m%dT%H%M%SZ").to_string(),
        now.format("%Y%m%d").to_string(),
    );
    let body_hash = hex(digest::digest(&digest::SHA256, body).as_ref());
    headers.insert(DATE, value(&date)?);
    headers.insert(BODY, value(&body_hash)?);
    headers.insert(http::header::HOST, value(&host_of(url))?);
    if let Some(token) = &credential.token {
        let mut token = value(token)?;
        token.set_sensitive(true);
        headers.insert(TOKEN, token);
    }
    let (canonical, signed) = canonical(method, url, headers, &body_hash)?;
    let of_day = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("{ALGORITHM}\n{date}\n{of_day}\n{hash}");
    let mac = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let mut key = mac(format!("AWS4{}", credential.secret_key).as_bytes(), &day);
    for word in [scope.region, scope.service, "aws4_request", &to_sign] {
        key = mac(key.as_ref(), word);
    }
    let authorization = format!(
        "{ALGORITHM} Credential={}/{of_day}, SignedHeaders={signed}, Signature={}",
        credential.key_id,
        hex(key.as_ref())
    );
    let mut authorization = value(&authorization)?;
    authorization.set_sensitive(true);
    headers.insert(http::header::AUTHORIZATION, authorization);
    // The client writes it by itself.
    headers.remove(http::header::HOST);
    Ok(())
}

/// As the client sends it: without a port that is the scheme's own.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The request in the form that is hashed, and the names of its headers.
fn canonical(method: &Method, url: &Url, headers: &HeaderMap, body_hash: &str) -> UfsResult<(String, String)> {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let mut query: Vec<&str> = url
        .query()
        .unwrap_or("")
        .split('&')
        .filter(|pair| !pair.is_empty())
        .collect();
    query.sort_unstable();
    let mut text = format!("{method}\n{}\n{}\n", url.path(), query.join("&"));
    for name in &names {
        let values: Result<Vec<String>, _> = headers.get_all(*name).iter().map(trimmed).collect();
        text.push_str(&format!("{name}:{}\n", values?.join(",")));
    }
    let signed = names.join(";");
    text.push_str(&format!("\n{signed}\n{body_hash}"));
    Ok((text, signed))
}

/// Without spaces around it, and with one where there are several.
fn trimmed(value: &HeaderValue) -> UfsResult<String> {
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| UfsError::new(UfsErrorKind::Invalid, "sign a request: a header is no text"))?;
    Ok(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    /// The example of AWS's documentation, "GET Object".
    #[test]
    fn signs_as_documented() {
        let credential =
            Credential::for_tests("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None);
        let url = Url::parse("https://examplebucket.s3.amazonaws.com/test.txt").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("range", HeaderValue::from_static("bytes=0-9"));
        let now = Utc.with_ymd_and_hms(2013, 5, 24, 0, 0, 0).unwrap();
        let scope = Scope {
            service: "s3",
            region: "us-east-1",
        };
        sign(&Method::GET, &url, &mut headers, b"", &credential, scope, now).unwrap();
        let authorization = headers["authorization"].to_str().unwrap();
        assert!(
            authorization.ends_with("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
            "{authorization}"
        );
        assert!(!format!("{headers:?}").contains("AKIAIOSFODNN7EXAMPLE"), "not for logs");
    }
}
