//! AWS Signature Version 4, checked.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::{digest, hmac};

use super::answer::{Refused, hex};
use super::request::Request;
use super::rules::Habits;

const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Clocks may differ by so much.
const SKEW_S: i64 = 15 * 60;

/// A pair of keys that the server knows.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The secret half.
    pub secret: String,
    /// Temporary credentials come with one.
    pub token: Option<String>,
    /// Requests get 400 ExpiredToken.
    pub expired: bool,
    /// So they do from then on.
    pub expires: Option<chrono::DateTime<chrono::Utc>>,
}

/// # Errors
/// What a service says of a request that is not signed, or wrongly.
pub(super) fn verify(
    request: &Request,
    known: &BTreeMap<String, Credential>,
    habits: &Habits,
    service: &str,
) -> Result<(), Refused> {
    let (region, skew_s) = (habits.region.as_str(), habits.clock_ahead_s);
    let header = |name: &str| request.header(name).unwrap_or("");
    let malformed = |why: &str| Refused::new(400, "AuthorizationHeaderMalformed", why);
    let authorization = request.header("authorization").ok_or_else(Refused::denied)?;
    let fields = authorization
        .strip_prefix("AWS4-HMAC-SHA256 ")
        .ok_or_else(|| Refused::new(400, "InvalidRequest", "Please use AWS4-HMAC-SHA256."))?;
    let field = |name: &str| {
        let found = fields.split(',').find_map(|field| field.trim().strip_prefix(name));
        found.ok_or_else(|| malformed("a field is missing"))
    };
    let (credential, signed, signature) = (field("Credential=")?, field("SignedHeaders=")?, field("Signature=")?);
    let (access_key, scope) = credential.split_once('/').ok_or_else(|| malformed("no scope"))?;
    let Some(keys) = known.get(access_key) else {
        return Err(Refused::new(
            403,
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist",
        ));
    };
    let now = chrono::Utc::now() + chrono::TimeDelta::seconds(skew_s);
    if keys.expired || keys.expires.is_some_and(|at| at <= now) {
        return Err(Refused::new(400, "ExpiredToken", "The provided token has expired."));
    }
    if keys.token.as_deref() != request.header("x-amz-security-token") {
        return Err(Refused::new(
            400,
            "InvalidToken",
            "The provided token is malformed or otherwise invalid.",
        ));
    }
    let date = header("x-amz-date");
    let day = date.get(..8).ok_or_else(|| malformed("no date"))?;
    if scope.split('/').nth(1) != Some(region) {
        let why = format!("The authorization header is malformed; the region is wrong; expecting '{region}'");
        let mut refused = match habits.region_status {
            400 => malformed(&why),
            status => Refused::new(status, "PermanentRedirect", "The bucket must be addressed elsewhere."),
        };
        refused.region = Some(region.to_owned());
        return Err(refused);
    }
    if scope != format!("{day}/{region}/{service}/aws4_request") {
        return Err(malformed("the scope is wrong"));
    }
    let sent = chrono::NaiveDateTime::parse_from_str(date, "%Y%m%dT%H%M%SZ").map_err(|_| malformed("no date"))?;
    if (now.timestamp() - sent.and_utc().timestamp()).abs() > SKEW_S {
        let why = "The difference between the request time and the current time is too large.";
        return Err(Refused::new(403, "RequestTimeTooSkewed", why));
    }
    let must_be_signed = |name: &&str| *name == "host" || name.starts_with("x-amz-");
    let unsigned = request.headers.keys().map(|name| name.as_str()).filter(must_be_signed);
    for name in unsigned {
        if !signed.split(';').any(|known| known == name) {
            return Err(Refused::new(
                403,
                "AccessDenied",
                &format!("There were headers present in the request which were not signed: {name}"),
            ));
        }
    }
    let canonical = digest::digest(&digest::SHA256, canonical(request, signed).as_bytes());
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(canonical.as_ref()));
    let sign = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let mut key = sign(format!("AWS4{}", keys.secret).as_bytes(), day);
    for word in [region, service, "aws4_request", &to_sign] {
        key = sign(key.as_ref(), word);
    }
    if hex(key.as_ref()) != signature {
        let why = "The request signature we calculated does not match the signature you provided.";
        return Err(Refused::new(403, "SignatureDoesNotMatch", why));
    }
    match header("x-amz-content-sha256") {
        "UNSIGNED-PAYLOAD" => Ok(()),
        "" if service != "s3" => Ok(()),
        told if told.starts_with("STREAMING-") => Err(Refused::new(
            501,
            "NotImplemented",
            "aws-chunked bodies are not implemented here",
        )),
        told if told == hex(request.body.sha256.as_ref()) => Ok(()),
        _ => {
            let why = "The provided 'x-amz-content-sha256' header does not match what was computed.";
            Err(Refused::new(400, "XAmzContentSHA256Mismatch", why))
        }
    }
}

fn canonical(request: &Request, signed: &str) -> String {
    let encode = |text: &str| utf8_percent_encode(text, QUERY).to_string();
    let mut query: Vec<String> = request
        .query
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    query.sort();
    let mut text = format!("{}\n{}\n{}\n", request.method, request.raw_path, query.join("&"));
    for name in signed.split(';') {
        let values = request.headers.get_all(name).iter();
        let values: Vec<String> = values
            .map(|value| {
                String::from_utf8_lossy(value.as_bytes())
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        text.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    // Only S3 wants it as a header.
    let computed = hex(request.body.sha256.as_ref());
    let payload = request.header("x-amz-content-sha256").unwrap_or(&computed);
    text.push_str(&format!("\n{signed}\n{payload}"));
    text
}
