//! IAM Identity Center: the token that `aws sso login` left, for the credentials of a role.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ring::digest;
use serde::Deserialize;

use super::super::sign::hex;
use super::super::web::causes;
use super::Credential;
use super::chain::{Chain, Search};
use super::files::{Profile, aws_folder};
use crate::{UfsError, UfsErrorKind, UfsResult};

const SSO_TIMEOUT: Duration = Duration::from_secs(10);

/// What `aws sso login` writes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Login {
    access_token: String,
    expires_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    role_credentials: Given,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    /// Milliseconds since 1970.
    expiration: i64,
}

/// Of a profile with `sso_account_id` and `sso_role_name`, by its `sso_session`, or by the settings of its own that came before.
pub(super) async fn of_profile(search: &mut Search<'_>, profile: &Profile) -> UfsResult<(Credential, String)> {
    let source = format!("SSO of profile {:?}", profile.name);
    let failed = |why: &str| Chain::denied(format!("{source}: {why}"));
    let (region, named) = match profile.get("sso_session") {
        Some(name) => {
            let session = search.files.sso_session(name);
            let session = session.ok_or_else(|| failed(&format!("there is no [sso-session {name}]")))?;
            (session.get("sso_region").cloned(), name.to_owned())
        }
        None => {
            let url = profile
                .get("sso_start_url")
                .ok_or_else(|| failed("it has no sso_session and no sso_start_url"))?;
            (profile.get("sso_region").map(str::to_owned), url.to_owned())
        }
    };
    let region = region.ok_or_else(|| failed("it has no sso_region"))?;
    let file = hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, named.as_bytes()).as_ref());
    let folder = aws_folder(&search.chain.env).ok_or_else(|| failed("there is no HOME"))?;
    let path = folder.join("sso/cache").join(format!("{file}.json"));
    // A new login is taken up at once.
    search.depends_on(&path);
    let login_first = format!("run `aws sso login --profile {}`", profile.name);
    let bytes =
        std::fs::read(&path).map_err(|error| failed(&format!("read {}: {error}; {login_first}", path.display())))?;
    let login: Login = serde_json::from_slice(&bytes)
        .map_err(|_| failed(&format!("{} is no login; {login_first}", path.display())))?;
    // Older tools write the zone as a word.
    let until = DateTime::parse_from_rfc3339(&login.expires_at.replace("UTC", "Z"))
        .map_err(|_| failed(&format!("{}: its expiry is no time", path.display())))?;
    if until <= search.chain.clock.now() {
        return Err(failed(&format!("the login has expired; {login_first}")));
    }
    let credential = ask(search.chain, profile, &region, &login.access_token, &source).await;
    credential.map(|credential| (credential, source.clone()))
}

async fn ask(chain: &Chain, profile: &Profile, region: &str, token: &str, source: &str) -> UfsResult<Credential> {
    let endpoint = (chain.env)("AWS_ENDPOINT_URL_SSO");
    let endpoint = endpoint.unwrap_or_else(|| format!("https://portal.sso.{region}.amazonaws.com"));
    let client = chain.web.client(SSO_TIMEOUT, endpoint.starts_with("http://"))?;
    let setting = |name| profile.get(name).unwrap_or_default();
    let url = url::Url::parse_with_params(
        &format!("{}/federation/credentials", endpoint.trim_end_matches('/')),
        [
            ("role_name", setting("sso_role_name")),
            ("account_id", setting("sso_account_id")),
        ],
    );
    let url = url.map_err(|error| Chain::denied(format!("{source}: {endpoint}: {error}")))?;
    let unreachable = |error: reqwest::Error| {
        // Its URL names the account, no secret.
        UfsError::new(UfsErrorKind::Unreachable, format!("{source}: {}", causes(&error)))
    };
    let mut value: http::HeaderValue = token
        .parse()
        .map_err(|_| Chain::denied(format!("{source}: no header can hold its token")))?;
    value.set_sensitive(true);
    let request = client
        .get(url)
        .header("x-amz-sso_bearer_token", value)
        .timeout(SSO_TIMEOUT);
    let answer = request.send().await.map_err(unreachable)?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(unreachable)?;
    if !status.is_success() {
        let kind = match status.as_u16() {
            429 | 500.. => UfsErrorKind::Unreachable,
            _ => UfsErrorKind::Denied,
        };
        let why = format!("{source}: HTTP {status}; is the login still good, and the role granted to it?");
        return Err(UfsError::new(kind, why));
    }
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|_| Chain::denied(format!("{source}: the answer holds no credentials")))?;
    let given = answer.role_credentials;
    let expires: Option<DateTime<Utc>> = DateTime::from_timestamp_millis(given.expiration);
    Credential::new(
        &given.access_key_id,
        &given.secret_access_key,
        Some(&given.session_token),
        expires,
        source,
    )
}
