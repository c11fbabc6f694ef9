//! Roles of what we run in: a container's, by the address in its environment; an instance's, by IMDSv2.

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;
use url::Url;

use super::super::settings::Environment;
use super::super::web::{causes, nearby};
use super::Credential;
use super::chain::Chain;
use crate::{UfsError, UfsErrorKind, UfsResult};

/// It is on this host, or one hop away; elsewhere nobody answers at all.
const INSTANCE_TIMEOUT: Duration = Duration::from_secs(1);
const CONTAINER_TIMEOUT: Duration = Duration::from_secs(5);
/// How the source is called.
pub(super) const INSTANCE_ROLE: &str = "instance role";
/// A token is used for one look.
const TOKEN_SECONDS: &str = "300";
const INSTANCE: &str = "http://169.254.169.254";
const CONTAINER: &str = "http://169.254.170.2";
/// Where a container's address may lead in clear: ECS, and EKS Pod Identity by both protocols.
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
const ROLES: &str = "latest/meta-data/iam/security-credentials/";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

impl Told {
    /// An error of the parser may quote what is secret, so it is not shown.
    fn parse(body: &[u8], source: &str) -> UfsResult<Credential> {
        let told: Self = serde_json::from_slice(body)
            .map_err(|_| Chain::denied(format!("{source}: the answer holds no credentials")))?;
        let expires = expiration(told.expiration.as_deref(), source)?;
        Credential::new(
            &told.access_key_id,
            &told.secret_access_key,
            told.token.as_deref(),
            expires,
            source,
        )
    }
}

/// A time in RFC 3339.
pub(super) fn expiration(text: Option<&str>, source: &str) -> UfsResult<Option<DateTime<Utc>>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match DateTime::parse_from_rfc3339(text) {
        Ok(at) => Ok(Some(at.to_utc())),
        Err(_) => Err(Chain::denied(format!("{source}: the expiration {text:?} is no time"))),
    }
}

fn unreachable(source: &str, error: &reqwest::Error) -> UfsError {
    UfsError::new(UfsErrorKind::Unreachable, format!("{source}: {}", causes(error)))
}

/// `None` if we run in no container that has a role.
pub(super) async fn of_container(env: &Environment) -> UfsResult<Option<(Credential, String)>> {
    let url = match (
        env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        env("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    ) {
        (Some(path), _) => format!("{CONTAINER}{path}"),
        (None, Some(url)) => url,
        (None, None) => return Ok(None),
    };
    let source = format!("container role at {url}");
    let parsed = Url::parse(&url).map_err(|error| Chain::denied(format!("{source}: {error}")))?;
    if !may_have_our_token(&parsed) {
        let why = format!("{source}: https, or an address of this host, of ECS or of EKS is expected");
        return Err(Chain::denied(why));
    }
    let mut request = nearby(CONTAINER_TIMEOUT)?.get(parsed).timeout(CONTAINER_TIMEOUT);
    let token = match (
        env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        env("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    ) {
        (Some(file), _) => {
            let read = std::fs::read_to_string(&file);
            Some(read.map_err(|error| Chain::denied(format!("{source}: read its token {file}: {error}")))?)
        }
        (None, token) => token,
    };
    if let Some(token) = token {
        let mut value: http::HeaderValue = token
            .trim()
            .parse()
            .map_err(|_| Chain::denied(format!("{source}: no header can hold its token")))?;
        value.set_sensitive(true);
        request = request.header(http::header::AUTHORIZATION, value);
    }
    let answer = request.send().await.map_err(|error| unreachable(&source, &error))?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(|error| unreachable(&source, &error))?;
    if !status.is_success() {
        return Err(refused(&source, status));
    }
    Ok(Some((Told::parse(&body, &source)?, source)))
}

fn refused(source: &str, status: StatusCode) -> UfsError {
    let kind = match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        true => UfsErrorKind::Unreachable,
        false => UfsErrorKind::Denied,
    };
    UfsError::new(kind, format!("{source}: HTTP {status}"))
}

/// A token goes there, so not just anywhere.
fn may_have_our_token(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() == "https" || here || CONTAINER_HOSTS.contains(&host)
}

/// `None` if we run on no instance, or on one that has no role.
pub(super) async fn of_instance(env: &Environment) -> UfsResult<Option<(Credential, String)>> {
    if env("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let endpoint = env("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| INSTANCE.to_owned());
    let endpoint = endpoint.trim_end_matches('/');
    let client = nearby(INSTANCE_TIMEOUT)?;
    let token = client
        .put(format!("{endpoint}/latest/api/token"))
        .header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS)
        .timeout(INSTANCE_TIMEOUT)
        .send()
        .await;
    // Nobody there is the usual case.
    let Ok(token) = token else { return Ok(None) };
    let source = format!("{INSTANCE_ROLE} at {endpoint}");
    if !token.status().is_success() {
        return Ok(None);
    }
    let token = token.text().await.map_err(|error| unreachable(&source, &error))?;
    let get = |path: String| {
        let request = client.get(format!("{endpoint}/{path}")).timeout(INSTANCE_TIMEOUT);
        let source = &source;
        let token = token.trim();
        async move {
            let answer = request.header("x-aws-ec2-metadata-token", token).send().await;
            let answer = answer.map_err(|error| unreachable(source, &error))?;
            let status = answer.status();
            let body = answer.bytes().await.map_err(|error| unreachable(source, &error))?;
            Ok::<_, UfsError>((status, body))
        }
    };
    let (status, roles) = get(ROLES.to_owned()).await?;
    let roles = String::from_utf8_lossy(&roles).into_owned();
    let role = match roles.lines().next().map(str::trim) {
        Some(role) if status.is_success() && !role.is_empty() => role,
        _ if status == StatusCode::NOT_FOUND || status.is_success() => return Ok(None),
        _ => return Err(refused(&source, status)),
    };
    let (status, body) = get(format!("{ROLES}{role}")).await?;
    if !status.is_success() {
        return Err(refused(&source, status));
    }
    Ok(Some((Told::parse(&body, &source)?, source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_the_container_s_host_alone() {
        for (url, may) in [
            ("http://169.254.170.2/x", true),
            ("http://[fd00:ec2::23]/x", true),
            ("http://127.0.0.1:8080/x", true),
            ("http://localhost/x", true),
            ("https://example.com/x", true),
            ("http://example.com/x", false),
            ("http://169.254.169.254/x", false),
        ] {
            assert_eq!(may_have_our_token(&Url::parse(url).unwrap()), may, "{url}");
        }
    }
}
