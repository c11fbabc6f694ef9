//! Where the AWS tools look for credentials, in their order. What is set up and fails ends the search: the next source would be
//! somebody else.

use std::path::Path;
use std::sync::Arc;

use super::super::clock::Clock;
use super::super::settings::Environment;
use super::super::web::Web;
use super::files::{Files, Profile, Stamps};
use super::{Credential, Loaded, metadata, process, sso, sts};
use crate::{UfsError, UfsErrorKind, UfsResult};

/// Profiles that name each other as their source.
const PROFILES_MAX: usize = 8;
const DEFAULT_REGION: &str = "us-east-1";

/// All that a search needs.
#[derive(Clone)]
pub(in super::super) struct Chain {
    pub env: Environment,
    /// The profile by name; nothing: `default`, which may be missing.
    pub profile: Option<String>,
    /// It is the mount's own: it goes before what the environment says for everything.
    pub own_profile: bool,
    /// The bucket's, if it is known.
    pub region: Option<String>,
    pub web: Web,
    pub clock: Arc<Clock>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// A search under way: files as they were read for it, and those that others were read from.
pub(super) struct Search<'a> {
    pub chain: &'a Chain,
    pub files: Files,
    pub stamps: Stamps,
}

/// A credential, and where it is from.
type Found = (Credential, String);

impl Chain {
    pub(super) fn denied(why: impl Into<String>) -> UfsError {
        UfsError::new(UfsErrorKind::Denied, why)
    }

    /// Looks now.
    ///
    /// # Errors
    /// [`UfsErrorKind::Denied`]: there are none, or a source that is set up has none; [`UfsErrorKind::Unreachable`]: a source
    /// does not answer.
    pub(super) async fn load(&self) -> UfsResult<Loaded> {
        let files = Files::read(&self.env);
        let mut search = Search {
            chain: self,
            stamps: files.stamps.clone(),
            files,
        };
        match search.run().await? {
            Some((credential, source)) => Ok(Loaded {
                credential: Arc::new(credential),
                given: self.clock.now(),
                source,
                files: search.stamps,
            }),
            None => Err(Self::denied(format!(
                "no credentials of S3: not in s3a.accessKeyId, AWS_ACCESS_KEY_ID, profile {:?} of {}, AWS_WEB_IDENTITY_TOKEN_FILE, \
                 AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, nor from an instance role; set one of them, or \
                 alluxio.underfs.s3.anonymous=true for a public bucket",
                self.profile_name(),
                search.files.named
            ))),
        }
    }

    fn profile_name(&self) -> &str {
        self.profile.as_deref().unwrap_or("default")
    }
}

impl Search<'_> {
    fn env(&self, name: &str) -> Option<String> {
        (self.chain.env)(name)
    }

    /// Takes note of a file that credentials depend on.
    pub fn depends_on(&mut self, path: &Path) {
        self.stamps.note(path);
    }

    async fn run(&mut self) -> UfsResult<Option<Found>> {
        let own = self.chain.own_profile;
        if !own && let Some(found) = self.of_environment()? {
            return Ok(Some(found));
        }
        let name = self.chain.profile_name().to_owned();
        let profile = self.files.profile(&name);
        if profile.is_none() && self.chain.profile.is_some() {
            let why = format!("there is no profile {name:?} in {}", self.files.named);
            return Err(Chain::denied(why));
        }
        let profile = profile.unwrap_or_default();
        if profile.get("role_arn").is_some() {
            return self.of_role(&profile, &mut vec![name]).await.map(Some);
        }
        if !own && let Some(found) = self.of_web_identity_in_environment().await? {
            return Ok(Some(found));
        }
        if let Some(found) = self.of_profile_itself(&profile).await? {
            return Ok(Some(found));
        }
        if own {
            return Err(Chain::denied(format!(
                "profile {name:?} in {} has no credentials",
                self.files.named
            )));
        }
        if let Some(found) = metadata::of_container(&self.chain.env).await? {
            return Ok(Some(found));
        }
        metadata::of_instance(&self.chain.env).await
    }

    fn of_environment(&self) -> UfsResult<Option<Found>> {
        let (Some(key_id), Some(secret)) = (self.env("AWS_ACCESS_KEY_ID"), self.env("AWS_SECRET_ACCESS_KEY")) else {
            return Ok(None);
        };
        let token = self.env("AWS_SESSION_TOKEN");
        let source = "AWS_ACCESS_KEY_ID";
        let credential = Credential::new(&key_id, &secret, token.as_deref(), None, source)?;
        Ok(Some((credential, source.to_owned())))
    }

    /// SSO, keys of the credentials file, `credential_process`, keys of the config file.
    async fn of_profile_itself(&mut self, profile: &Profile) -> UfsResult<Option<Found>> {
        if profile.get("sso_account_id").is_some() && profile.get("sso_role_name").is_some() {
            return sso::of_profile(self, profile).await.map(Some);
        }
        let fixed = |section: &super::files::Section| {
            let get = |name: &str| section.get(name).map(String::as_str).filter(|value| !value.is_empty());
            let (key_id, secret) = (get("aws_access_key_id")?, get("aws_secret_access_key")?);
            let source = format!("profile {:?}", profile.name);
            let credential = Credential::new(key_id, secret, get("aws_session_token"), None, &source);
            Some(credential.map(|credential| (credential, source)))
        };
        if let Some(found) = fixed(&profile.credentials) {
            return found.map(Some);
        }
        if let Some(command) = profile.get("credential_process") {
            return process::of(command, &profile.name).await.map(Some);
        }
        fixed(&profile.config).transpose()
    }

    /// The role that a profile says; `visited` are the profiles that led here.
    async fn of_role(&mut self, profile: &Profile, visited: &mut Vec<String>) -> UfsResult<Found> {
        let wrong = |why: &str| Err(Chain::denied(format!("profile {:?}: {why}", profile.name)));
        let role = sts::Role::of(profile)?;
        let region = self.region_of(profile);
        if let Some(file) = profile.get("web_identity_token_file") {
            let sts = sts::Sts::new(self.chain, &region)?;
            return sts.with_web_identity(Path::new(file), &role).await;
        }
        if let Some(device) = profile.get("mfa_serial") {
            let why = format!(
                "it wants a code of {device}, which a file system cannot ask for; use a role without MFA, SSO, or credential_process"
            );
            return wrong(&why);
        }
        let (by, _) = match (profile.get("source_profile"), profile.get("credential_source")) {
            (Some(_), Some(_)) => return wrong("source_profile and credential_source exclude each other"),
            (None, None) => {
                return wrong("role_arn wants source_profile, credential_source or web_identity_token_file");
            }
            (None, Some(source)) => self.of_named_source(source, profile).await?,
            (Some(name), None) if name == profile.name => match self.of_profile_itself(profile).await? {
                Some(found) => found,
                None => return wrong("it is its own source_profile and has no keys"),
            },
            (Some(name), None) => {
                if visited.iter().any(|seen| seen == name) || visited.len() >= PROFILES_MAX {
                    return wrong("its source_profile leads back to it");
                }
                visited.push(name.to_owned());
                let Some(source) = self.files.profile(name) else {
                    return wrong(&format!("there is no profile {name:?}, its source_profile"));
                };
                if source.get("role_arn").is_some() {
                    Box::pin(self.of_role(&source, visited)).await?
                } else {
                    match self.of_profile_itself(&source).await? {
                        Some(found) => found,
                        None => return wrong(&format!("its source_profile {name:?} has no credentials")),
                    }
                }
            }
        };
        sts::Sts::new(self.chain, &region)?.assume(&by, &role).await
    }

    async fn of_named_source(&self, source: &str, profile: &Profile) -> UfsResult<Found> {
        let found = match source {
            "Environment" => self.of_environment()?,
            "Ec2InstanceMetadata" => metadata::of_instance(&self.chain.env).await?,
            "EcsContainer" => metadata::of_container(&self.chain.env).await?,
            _ => None,
        };
        found.ok_or_else(|| {
            Chain::denied(format!(
                "profile {:?}: credential_source={source} has no credentials (Environment, Ec2InstanceMetadata and EcsContainer are known)",
                profile.name
            ))
        })
    }

    async fn of_web_identity_in_environment(&self) -> UfsResult<Option<Found>> {
        let (Some(file), Some(arn)) = (self.env("AWS_WEB_IDENTITY_TOKEN_FILE"), self.env("AWS_ROLE_ARN")) else {
            return Ok(None);
        };
        let role = sts::Role {
            arn,
            session: self.env("AWS_ROLE_SESSION_NAME").unwrap_or_else(sts::session_name),
            external_id: None,
            duration_s: None,
        };
        let sts = sts::Sts::new(self.chain, &self.region_of(&Profile::default()))?;
        sts.with_web_identity(Path::new(&file), &role).await.map(Some)
    }

    /// That of the bucket is the last to be asked: its store may be another than the one that gives keys.
    fn region_of(&self, profile: &Profile) -> String {
        let named = self.env("AWS_REGION").or_else(|| self.env("AWS_DEFAULT_REGION"));
        named
            .or_else(|| profile.get("region").map(str::to_owned))
            .or_else(|| self.chain.region.clone())
            .unwrap_or_else(|| DEFAULT_REGION.to_owned())
    }
}
