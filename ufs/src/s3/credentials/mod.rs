//! Who we are to a store: keys that are looked for where the AWS tools look, and renewed before they expire.
//!
//! Promises: one renewal at a time; what is still valid is used while a renewal fails; what was refused is renewed at once;
//! files that have changed are read again within a second; nothing here prints a secret.

mod chain;
mod files;
mod metadata;
mod process;
mod sso;
mod sts;

use std::sync::Arc;
use std::time::{Duration, Instant};

use alluxio_common::config::{Configuration, keys::underfs as keys};
use alluxio_common::sync::Mutex;
use chrono::{DateTime, TimeDelta, Utc};

use super::clock::Clock;
use crate::{UfsError, UfsErrorKind, UfsResult};

pub(super) use chain::Chain;
pub(super) use files::Files;
use files::Stamps;

/// What expires is renewed so long before, or in the last quarter of its time.
const RENEWED_BEFORE: TimeDelta = TimeDelta::minutes(5);
/// What expires this soon is not used, for a request takes a while; or in the last twentieth of its time.
const USED_BEFORE: TimeDelta = TimeDelta::seconds(10);
/// Files are looked at this often.
const LOOKED_EVERY: Duration = Duration::from_secs(1);
/// After a renewal that failed, or brought what was there, the next is no sooner: services and programs are not hammered.
const RENEWED_EVERY: Duration = Duration::from_secs(1);
/// While what is there is good for longer, the next is as late as this.
const RENEWED_EVERY_MAX: Duration = Duration::from_secs(30);
/// A renewal that was asked for by a refusal and brought the same is not repeated for the next refusal before.
const SAME_AGAIN: Duration = Duration::from_secs(10);

/// A pair of keys, perhaps for a while only.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credential {
    pub key_id: String,
    pub secret_key: String,
    pub token: Option<String>,
    /// By the clock of whoever gave them.
    pub expires: Option<DateTime<Utc>>,
}

/// Not for logs.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl Credential {
    /// # Errors
    /// [`UfsErrorKind::Denied`] if no header could hold them, or one is missing; `source` says whose they are.
    pub fn new(
        key_id: &str,
        secret_key: &str,
        token: Option<&str>,
        expires: Option<DateTime<Utc>>,
        source: &str,
    ) -> UfsResult<Self> {
        let printable = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let token = token.filter(|token| !token.is_empty());
        if !printable(key_id) || !printable(secret_key) || !token.is_none_or(printable) {
            let why = format!(
                "{source}: access key, secret key or session token is missing, or holds what no header can hold"
            );
            return Err(UfsError::new(UfsErrorKind::Denied, why));
        }
        Ok(Self {
            key_id: key_id.to_owned(),
            secret_key: secret_key.to_owned(),
            token: token.map(str::to_owned),
            expires,
        })
    }

    #[cfg(test)]
    pub fn for_tests(key_id: &str, secret_key: &str, token: Option<&str>) -> Self {
        Self::new(key_id, secret_key, token, None, "test").unwrap()
    }
}

/// Credentials, where they come from, and what they depend on.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub credential: Arc<Credential>,
    /// When it came.
    pub given: DateTime<Utc>,
    /// For messages.
    pub source: String,
    /// Files that were looked at.
    pub files: Stamps,
}

impl Loaded {
    /// Until it expires, and all the time that it is good for.
    fn time(&self, now: DateTime<Utc>) -> Option<(TimeDelta, TimeDelta)> {
        let expires = self.credential.expires?;
        Some((expires - now, expires - self.given))
    }
}

#[derive(Debug)]
enum Source {
    /// Requests are not signed.
    Anonymous,
    Given(Arc<Credential>),
    Chain(Chain),
}

#[derive(Debug, Default)]
struct State {
    current: Option<Loaded>,
    looked: Option<Instant>,
    /// When the last renewal failed, and how.
    failed: Option<(Instant, UfsError)>,
    /// When a renewal that somebody wanted brought what was there.
    same: Option<Instant>,
}

/// Why there is a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// There are none, or they expire.
    Time,
    /// A file has changed; it may be about something else.
    Files,
    /// The store refuses them.
    Refusal,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    state: Mutex<State>,
    renewing: tokio::sync::Mutex<()>,
    clock: Arc<Clock>,
}

/// The credentials of one mount. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Credentials(Arc<Inner>);

impl Credentials {
    /// Keys of the configuration; else, where the AWS tools look. Nothing is asked for yet.
    ///
    /// # Errors
    /// [`UfsErrorKind::Invalid`] if keys of the configuration exclude each other, or make no sense.
    pub fn new(conf: &Configuration, chain: impl FnOnce() -> Chain, clock: Arc<Clock>) -> UfsResult<Self> {
        let invalid = |why: String| Err(UfsError::new(UfsErrorKind::Invalid, why));
        let [key_id, secret_key, token] =
            [&keys::S3_ACCESS_KEY, &keys::S3_SECRET_KEY, &keys::S3_SESSION_TOKEN].map(|key| conf.string(key));
        let (access, secret) = (keys::S3_ACCESS_KEY.name, keys::S3_SECRET_KEY.name);
        if key_id.is_empty() != secret_key.is_empty() {
            return invalid(format!(
                "{access} and {secret} go together, and only one of them is set"
            ));
        }
        if key_id.is_empty() && !token.is_empty() {
            return invalid(format!("{} wants {access} and {secret}", keys::S3_SESSION_TOKEN.name));
        }
        let (anonymous, profile) = (conf.bool(&keys::S3_ANONYMOUS), conf.string(&keys::S3_PROFILE));
        for (other, key) in [
            (anonymous, keys::S3_ANONYMOUS.name),
            (!profile.is_empty(), keys::S3_PROFILE.name),
        ] {
            // One of the two is not meant, and nobody would notice which.
            if other && !key_id.is_empty() {
                return invalid(format!(
                    "{key} and {access} exclude each other: leave one empty (`{access}=` for this mount)"
                ));
            }
        }
        let source = if anonymous {
            Source::Anonymous
        } else if key_id.is_empty() {
            Source::Chain(chain())
        } else {
            let given = Credential::new(&key_id, &secret_key, Some(&token), None, access);
            let given = given.map_err(|error| UfsError::new(UfsErrorKind::Invalid, error.message))?;
            Source::Given(Arc::new(given))
        };
        Ok(Self(Arc::new(Inner {
            source,
            state: Mutex::default(),
            renewing: tokio::sync::Mutex::new(()),
            clock,
        })))
    }

    /// What to sign with; nothing if requests go unsigned.
    ///
    /// # Errors
    /// [`UfsErrorKind::Denied`] with what was looked for and what to try; [`UfsErrorKind::Unreachable`] if who gives them does not
    /// answer.
    pub async fn get(&self) -> UfsResult<Option<Arc<Credential>>> {
        match &self.0.source {
            Source::Anonymous => Ok(None),
            Source::Given(credential) => Ok(Some(credential.clone())),
            Source::Chain(_) => self.of_chain().await.map(Some),
        }
    }

    async fn of_chain(&self) -> UfsResult<Arc<Credential>> {
        let Some(current) = self.0.current() else {
            return self.renewed(None, For::Time).await;
        };
        let time = current.time(self.0.clock.now());
        if time.is_some_and(|(left, all)| left < USED_BEFORE.min(all / 20)) {
            return self.renewed(Some(current), For::Time).await;
        }
        if self.0.files_changed(&current) {
            // Of a file that is being written there is half: what was valid is.
            let used = current.credential.clone();
            return Ok(self.renewed(Some(current), For::Files).await.unwrap_or(used));
        }
        if let Some((left, all)) = time
            && left < RENEWED_BEFORE.min(all / 4)
            && self.0.may_renew(left)
        {
            let (own, known) = (self.clone(), current.clone());
            // Who uses them meanwhile need not wait.
            tokio::spawn(async move { own.renewed(Some(known), For::Time).await });
        }
        Ok(current.credential)
    }

    /// What takes the place of `known`; nothing is asked for if something already has.
    async fn renewed(&self, known: Option<Loaded>, why: For) -> UfsResult<Arc<Credential>> {
        let own = self.clone();
        // It goes on if who waits for it gives up: it is for all.
        let renewal = tokio::spawn(async move { own.0.renew(known, why).await });
        renewal.await.unwrap_or_else(|error| {
            Err(UfsError::new(
                UfsErrorKind::Other,
                format!("renew credentials: {error}"),
            ))
        })
    }

    /// The store refused a credential. Returns whether there is another one now.
    pub async fn refused(&self, refused: &Credential) -> bool {
        if !matches!(self.0.source, Source::Chain(_)) {
            return false;
        }
        let known = self.0.current();
        if let Some(current) = known.as_ref().filter(|current| *current.credential != *refused) {
            return current.credential.expires.is_none_or(|at| at > self.0.clock.now());
        }
        let same_again = self.0.state.lock().same.is_some_and(|at| at.elapsed() < SAME_AGAIN);
        if same_again && !known.as_ref().is_some_and(|known| known.files.changed()) {
            return false;
        }
        match self.renewed(known, For::Refusal).await {
            Ok(credential) => *credential != *refused,
            Err(error) => {
                tracing::warn!(%error, "renew credentials that the store refused");
                false
            }
        }
    }
}

impl Inner {
    fn current(&self) -> Option<Loaded> {
        self.state.lock().current.clone()
    }

    /// Looks no more often than it has to.
    fn files_changed(&self, current: &Loaded) -> bool {
        {
            let mut state = self.state.lock();
            if state.looked.is_some_and(|at| at.elapsed() < LOOKED_EVERY) {
                return false;
            }
            state.looked = Some(Instant::now());
        }
        current.files.changed()
    }

    fn may_renew(&self, left: TimeDelta) -> bool {
        let pause = (left / 10).to_std().unwrap_or_default();
        let pause = pause.clamp(RENEWED_EVERY, RENEWED_EVERY_MAX);
        let state = self.state.lock();
        let last = [state.failed.as_ref().map(|(at, _)| *at), state.same];
        let too_soon = last.into_iter().flatten().any(|at| at.elapsed() < pause);
        !too_soon && self.renewing.try_lock().is_ok()
    }

    async fn renew(&self, known: Option<Loaded>, why: For) -> UfsResult<Arc<Credential>> {
        let Source::Chain(chain) = &self.source else {
            return Err(UfsError::new(UfsErrorKind::Other, "there is nothing to renew"));
        };
        let _alone = self.renewing.lock().await;
        {
            let state = self.state.lock();
            match (&state.current, &known) {
                (Some(current), Some(known)) if !Arc::ptr_eq(&current.credential, &known.credential) => {
                    return Ok(current.credential.clone());
                }
                (Some(current), None) => return Ok(current.credential.clone()),
                _ => {}
            }
            // What is refused now may have been a half-written file before.
            if let Some((at, error)) = &state.failed
                && at.elapsed() < RENEWED_EVERY
                && why == For::Time
            {
                return Err(error.clone());
            }
        }
        let loaded = chain.load().await;
        let mut state = self.state.lock();
        match loaded {
            Ok(mut loaded) => {
                let known = known.filter(|known| known.credential == loaded.credential);
                let same = known.is_some();
                // Their time began when they came first.
                loaded.given = known.map_or(loaded.given, |known| known.given);
                state.failed = None;
                state.same = (same && why != For::Files).then(Instant::now);
                if !same {
                    tracing::info!(source = loaded.source, expires = ?loaded.credential.expires, "credentials of the store");
                }
                let credential = loaded.credential.clone();
                state.current = Some(loaded);
                Ok(credential)
            }
            Err(mut error) => {
                if let Some(known) = known {
                    // It has a role, so that nobody is there now passes.
                    if known.source.starts_with(metadata::INSTANCE_ROLE) {
                        error.kind = UfsErrorKind::Unreachable;
                    }
                    tracing::warn!(%error, source = known.source, "renew credentials; those that are there are used while they are valid");
                }
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}
