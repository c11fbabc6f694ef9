//! What gives keys for a while: STS, the metadata services of instances (IMDSv2) and containers, SSO. The keys are good for S3 here
//! until they expire.

use chrono::{TimeDelta, Utc};
use percent_encoding::percent_decode_str;

use super::answer::{Answer, Refused, escape};
use super::content::Content;
use super::request::Request;
use super::signature::{self, Credential};
use super::store::State;

/// What a server gives, and to whom.
#[derive(Clone, Debug)]
pub struct Identity {
    /// How long keys are good for.
    pub lifetime_s: i64,
    /// The role that there is; at the metadata service of instances, its last word.
    pub role: String,
    /// Who takes it over has to say this.
    pub external_id: Option<String>,
    /// The token that a web identity, a container or an SSO login has to show.
    pub token: String,
    /// Keys given so far.
    pub given: u32,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            lifetime_s: 3600,
            role: "arn:aws:iam::123456789012:role/reader".to_owned(),
            external_id: None,
            token: "let-me-in".to_owned(),
            given: 0,
        }
    }
}

const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
const INSTANCE_TOKEN: &str = "instance-token";

struct Given {
    key_id: String,
    secret: String,
    token: String,
    expires: chrono::DateTime<Utc>,
}

/// What a request asks of these services; nothing if it is one of S3.
pub(super) fn operation(request: &Request) -> Option<&'static str> {
    Some(match (request.method.as_str(), request.raw_path.as_str()) {
        ("POST", "/") => match form(request, "Action").as_deref() {
            Some("AssumeRole") => "AssumeRole",
            Some("AssumeRoleWithWebIdentity") => "AssumeRoleWithWebIdentity",
            _ => return None,
        },
        ("PUT", "/latest/api/token") => "InstanceToken",
        ("GET", path) if path.starts_with(ROLES) => "InstanceRole",
        ("GET", "/container/role") => "ContainerRole",
        ("GET", "/federation/credentials") => "GetRoleCredentials",
        _ => return None,
    })
}

fn form(request: &Request, name: &str) -> Option<String> {
    let body = request.body.content.bytes();
    let body = std::str::from_utf8(&body).ok()?;
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    let found = pairs.into_iter().find(|(known, _)| *known == name)?.1;
    Some(percent_decode_str(found).decode_utf8().ok()?.into_owned())
}

fn give(state: &mut State) -> Given {
    state.identity.given += 1;
    let number = state.identity.given;
    let expires = Utc::now() + TimeDelta::seconds(state.habits.clock_ahead_s + state.identity.lifetime_s);
    let given = Given {
        key_id: format!("ASIA{number}"),
        secret: format!("secret-of-{number}"),
        token: format!("token-of-{number}"),
        expires,
    };
    let credential = Credential {
        secret: given.secret.clone(),
        token: Some(given.token.clone()),
        expired: false,
        expires: Some(expires),
    };
    state.credentials.insert(given.key_id.clone(), credential);
    given
}

pub(super) fn answer(state: &mut State, request: &Request, operation: &str) -> Answer {
    let done = match operation {
        "AssumeRole" | "AssumeRoleWithWebIdentity" => sts(state, request, operation),
        "InstanceToken" => Ok(text(INSTANCE_TOKEN)),
        "InstanceRole" => instance(state, request),
        "ContainerRole" => shown(state, request, "authorization").map(|()| json(&give(state))),
        _ => shown(state, request, "x-amz-sso_bearer_token").map(|()| sso(&give(state))),
    };
    done.unwrap_or_else(|refused| match operation {
        "AssumeRole" | "AssumeRoleWithWebIdentity" => {
            let (code, message) = (escape(&refused.code), escape(&refused.message));
            let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
            Answer::xml(format!("<ErrorResponse>{error}</ErrorResponse>")).status(refused.status)
        }
        _ => refused.answer(),
    })
}

/// Refuses who does not show the token.
fn shown(state: &State, request: &Request, header: &str) -> Result<(), Refused> {
    match request.header(header) == Some(state.identity.token.as_str()) {
        true => Ok(()),
        false => Err(Refused::new(
            401,
            "UnauthorizedException",
            "Session token not found or invalid",
        )),
    }
}

fn sts(state: &mut State, request: &Request, operation: &str) -> Result<Answer, Refused> {
    if operation == "AssumeRole" {
        signature::verify(request, &state.credentials, &state.habits, "sts")?;
        if form(request, "ExternalId") != state.identity.external_id {
            return Err(Refused::new(
                403,
                "AccessDenied",
                "not authorized to perform: sts:AssumeRole",
            ));
        }
    } else if form(request, "WebIdentityToken").as_ref() != Some(&state.identity.token) {
        return Err(Refused::new(
            400,
            "InvalidIdentityToken",
            "No provider vouches for this token",
        ));
    }
    let session = form(request, "RoleSessionName").unwrap_or_default();
    if form(request, "RoleArn").as_ref() != Some(&state.identity.role) || session.is_empty() {
        return Err(Refused::new(
            403,
            "AccessDenied",
            "not authorized to perform: sts:AssumeRole",
        ));
    }
    let given = give(state);
    Ok(Answer::xml(format!(
        "<{operation}Response><{operation}Result><Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
         <SessionToken>{}</SessionToken><Expiration>{}</Expiration></Credentials></{operation}Result></{operation}Response>",
        given.key_id,
        given.secret,
        given.token,
        given.expires.format("%Y-%m-%dT%H:%M:%SZ")
    )))
}

fn instance(state: &mut State, request: &Request) -> Result<Answer, Refused> {
    if request.header("x-aws-ec2-metadata-token") != Some(INSTANCE_TOKEN) {
        return Err(Refused::new(401, "", ""));
    }
    let role = state.identity.role.rsplit('/').next().unwrap_or_default().to_owned();
    match request.raw_path.strip_prefix(ROLES) {
        Some("") => Ok(text(&role)),
        Some(asked) if asked == role => Ok(json(&give(state))),
        _ => Err(Refused::new(404, "", "")),
    }
}

fn text(text: &str) -> Answer {
    let mut answer = Answer::ok().header("content-type", "text/plain");
    answer.body = Content::from(bytes::Bytes::from(text.to_owned()));
    answer
}

fn json(given: &Given) -> Answer {
    text(
        &serde_json::json!({
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": given.key_id, "SecretAccessKey": given.secret,
            "Token": given.token, "Expiration": given.expires.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        })
        .to_string(),
    )
}

fn sso(given: &Given) -> Answer {
    text(
        &serde_json::json!({ "roleCredentials": {
            "accessKeyId": given.key_id, "secretAccessKey": given.secret, "sessionToken": given.token,
            "expiration": given.expires.timestamp_millis(),
        }})
        .to_string(),
    )
}
