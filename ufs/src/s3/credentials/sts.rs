//! Roles taken over at STS: by keys that we have, or by a token that somebody else vouches with.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::super::clock::Clock;
use super::super::sign::{Scope, sign};
use super::super::web::causes;
use super::super::xml::{self, Element};
use super::Credential;
use super::chain::Chain;
use super::files::Profile;
use super::metadata::expiration;
use crate::{UfsError, UfsErrorKind, UfsResult};

const STS_TIMEOUT: Duration = Duration::from_secs(10);
/// Its answers are of a few KiB.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// A role, and how it is taken over.
pub(super) struct Role {
    pub arn: String,
    pub session: String,
    pub external_id: Option<String>,
    pub duration_s: Option<u32>,
}

/// How a session is called whose user said nothing.
pub(super) fn session_name() -> String {
    format!("alluxio-{}", std::process::id())
}

impl Role {
    /// Of a profile with `role_arn`.
    ///
    /// # Errors
    /// [`UfsErrorKind::Denied`] if its duration is no number.
    pub fn of(profile: &Profile) -> UfsResult<Self> {
        let text = |key| profile.get(key).map(str::to_owned);
        let duration_s = text("duration_seconds").map(|seconds| {
            seconds.parse().map_err(|_| {
                Chain::denied(format!(
                    "profile {:?}: duration_seconds={seconds} is no number",
                    profile.name
                ))
            })
        });
        Ok(Self {
            arn: text("role_arn").unwrap_or_default(),
            session: text("role_session_name").unwrap_or_else(session_name),
            external_id: text("external_id"),
            duration_s: duration_s.transpose()?,
        })
    }
}

/// STS of one region.
pub(super) struct Sts {
    url: Url,
    region: String,
    client: reqwest::Client,
    clock: Arc<Clock>,
}

impl Sts {
    /// # Errors
    /// [`UfsErrorKind::Denied`] if `AWS_ENDPOINT_URL_STS` is no URL.
    pub fn new(chain: &Chain, region: &str) -> UfsResult<Self> {
        let of_service = (chain.env)("AWS_ENDPOINT_URL_STS");
        let endpoint = of_service.unwrap_or_else(|| {
            let domain = if region.starts_with("cn-") {
                "amazonaws.com.cn"
            } else {
                "amazonaws.com"
            };
            format!("https://sts.{region}.{domain}/")
        });
        let url = Url::parse(&endpoint)
            .map_err(|error| Chain::denied(format!("STS at {endpoint} (AWS_ENDPOINT_URL_STS): {error}")))?;
        Ok(Self {
            client: chain.web.client(STS_TIMEOUT, url.scheme() == "http")?,
            url,
            region: region.to_owned(),
            clock: chain.clock.clone(),
        })
    }

    pub async fn assume(&self, by: &Credential, role: &Role) -> UfsResult<(Credential, String)> {
        let mut form = vec![("Action", "AssumeRole".to_owned())];
        form.extend(role.external_id.clone().map(|id| ("ExternalId", id)));
        self.ask(form, role, Some(by)).await
    }

    pub async fn with_web_identity(&self, file: &Path, role: &Role) -> UfsResult<(Credential, String)> {
        let shown = file.display();
        let token = std::fs::read_to_string(file)
            .map_err(|error| Chain::denied(format!("role {}: read its token {shown}: {error}", role.arn)))?;
        let form = vec![
            ("Action", "AssumeRoleWithWebIdentity".to_owned()),
            ("WebIdentityToken", token.trim().to_owned()),
        ];
        self.ask(form, role, None).await
    }

    async fn ask(
        &self,
        mut form: Vec<(&str, String)>,
        role: &Role,
        by: Option<&Credential>,
    ) -> UfsResult<(Credential, String)> {
        let source = format!("role {} of STS at {}", role.arn, self.url);
        form.extend([
            ("Version", "2011-06-15".to_owned()),
            ("RoleArn", role.arn.clone()),
            ("RoleSessionName", role.session.clone()),
        ]);
        form.extend(role.duration_s.map(|seconds| ("DurationSeconds", seconds.to_string())));
        let pairs: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        let body = pairs.join("&");
        let root = match self.send(&body, by, &source).await {
            // With the clock that the refusal told.
            Err((_, true)) => self.send(&body, by, &source).await,
            answer => answer,
        };
        let root = root.map_err(|(error, _)| error)?;
        let given = root
            .children
            .iter()
            .find_map(|result| result.child("Credentials"))
            .ok_or_else(|| Chain::denied(format!("{source}: the answer holds no credentials")))?;
        let text = |name| given.text_of(name);
        let expires = expiration(Some(text("Expiration")), &source)?;
        let token = Some(text("SessionToken"));
        let credential = Credential::new(text("AccessKeyId"), text("SecretAccessKey"), token, expires, &source)?;
        Ok((credential, source))
    }

    /// The error says whether it may be another one with the clock as it is now.
    async fn send(&self, body: &str, by: Option<&Credential>, source: &str) -> Result<Element, (UfsError, bool)> {
        let mut headers = HeaderMap::new();
        let signed_ms = self.clock.ahead_ms();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(FORM));
        if let Some(by) = by {
            let scope = Scope {
                service: "sts",
                region: &self.region,
            };
            sign(
                &Method::POST,
                &self.url,
                &mut headers,
                body.as_bytes(),
                by,
                scope,
                self.clock.now(),
            )
            .map_err(|error| (error, false))?;
        }
        let unreachable = |error: &reqwest::Error| {
            let why = format!("{source}: {}", causes(error));
            (UfsError::new(UfsErrorKind::Unreachable, why), false)
        };
        let request = self
            .client
            .post(self.url.clone())
            .headers(headers)
            .body(body.to_owned());
        let answer = request
            .timeout(STS_TIMEOUT)
            .send()
            .await
            .map_err(|error| unreachable(&error))?;
        let (status, date) = (answer.status(), answer.headers().get("date").cloned());
        let bytes = answer.bytes().await.map_err(|error| unreachable(&error))?;
        let root = xml::parse(&bytes[..bytes.len().min(ANSWER_BYTES_MAX)]);
        if status.is_success() {
            // An error of the parser may quote what is secret.
            return root.map_err(|_| (Chain::denied(format!("{source}: the answer is no XML")), false));
        }
        let root = root.unwrap_or_default();
        let error = root.child("Error").unwrap_or(&root);
        let (code, message) = (error.text_of("Code"), error.text_of("Message"));
        let kind = match status.as_u16() {
            429 | 500.. => UfsErrorKind::Unreachable,
            _ if code == "Throttling" || code == "IDPCommunicationError" => UfsErrorKind::Unreachable,
            _ => UfsErrorKind::Denied,
        };
        let why = format!("{source}: {code}: {message} (HTTP {status})");
        let follows = by.is_some()
            && matches!(
                code,
                "SignatureDoesNotMatch" | "RequestExpired" | "RequestTimeTooSkewed"
            )
            && date.is_some_and(|date| date.to_str().is_ok_and(|date| self.clock.follow(date, signed_ms)));
        Err((UfsError::new(kind, why), follows))
    }
}
