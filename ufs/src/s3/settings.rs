//! What requests to one bucket need, from options of the mount, configuration, AWS environment, AWS profile, in that order.

use std::sync::Arc;
use std::time::Duration;

use alluxio_common::config::{Configuration, keys::underfs as keys};

use super::clock::Clock;
use super::credentials::{Chain, Credentials, Files};
use super::manner::Manners;
use super::options::ObjectOptions;
use super::pace::Limiter;
use super::place::{Places, Wanted};
use super::web::Web;
use crate::UfsResult;
use crate::object::client::Limits;

/// S3's smallest part, but for the last one.
const PART_BYTES_MIN: u64 = 5 << 20;
const COPY_PART_BYTES_MAX: u64 = 5 << 30;

/// All that requests to one bucket need.
#[derive(Debug)]
pub(super) struct Settings {
    pub bucket: String,
    pub places: Places,
    pub credentials: Credentials,
    pub clock: Arc<Clock>,
    pub web: Web,
    pub request_timeout: Duration,
    pub socket_timeout: Duration,
    /// Silence of the body of an object.
    pub stall_timeout: Duration,
    pub retries_max: u32,
    pub hedge_ratio: f64,
    pub limiter: Limiter,
    pub limits: Limits,
    pub options: ObjectOptions,
    pub manners: Manners,
}

/// Environment variables, passed in so that tests need not set the process's own. Empty ones are none.
pub(super) type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

impl Settings {
    pub fn new(bucket: &str, conf: &Configuration, env: Environment) -> UfsResult<Self> {
        let own_profile = Some(conf.string(&keys::S3_PROFILE)).filter(|name| !name.is_empty());
        let named = own_profile.clone().or_else(|| env("AWS_PROFILE"));
        let profile = Files::read(&env).profile(named.as_deref().unwrap_or("default"));
        let setting = |variable: &str, key: &str| {
            let of_profile = || profile.as_ref()?.get(key).map(str::to_owned);
            env(variable).or_else(of_profile)
        };
        let wanted = Wanted::new(conf, setting)?;
        let (web, clock) = (Web::new(conf, &env)?, Arc::new(Clock::default()));
        let chain = || Chain {
            own_profile: own_profile.is_some(),
            profile: named,
            region: wanted.region.clone(),
            web: web.clone(),
            clock: clock.clone(),
            env: env.clone(),
        };
        let seconds = |key, default| conf.duration(key).unwrap_or(Duration::from_secs(default));
        let socket_timeout = seconds(&keys::S3_SOCKET_TIMEOUT, 50);
        Ok(Self {
            credentials: Credentials::new(conf, chain, clock.clone())?,
            bucket: bucket.to_owned(),
            places: Places::new(bucket, wanted)?,
            clock,
            web,
            request_timeout: seconds(&keys::S3_REQUEST_TIMEOUT, 60),
            socket_timeout,
            stall_timeout: conf
                .duration(&keys::S3_BODY_STALL_TIMEOUT)
                .map_or(socket_timeout, |stall| stall.min(socket_timeout)),
            retries_max: u32::try_from(conf.int(&keys::S3_MAX_ERROR_RETRY))
                .unwrap_or(u32::MAX)
                .min(100),
            hedge_ratio: conf.ratio(&keys::S3_HEDGE_RATIO),
            limiter: Limiter::new(conf),
            limits: limits(conf),
            options: ObjectOptions::new(conf)?,
            manners: Manners::new(conf),
        })
    }
}

fn limits(conf: &Configuration) -> Limits {
    let count = |key| usize::try_from(conf.int(key)).unwrap_or(1).clamp(1, 1000);
    Limits {
        part_bytes: conf
            .bytes(&keys::S3_UPLOAD_PART_SIZE)
            .clamp(PART_BYTES_MIN, COPY_PART_BYTES_MAX),
        parts_in_flight: count(&keys::S3_UPLOAD_PARTS_IN_FLIGHT),
        copy_part_bytes: conf
            .bytes(&keys::S3_COPY_PART_SIZE)
            .clamp(PART_BYTES_MIN, COPY_PART_BYTES_MAX),
        requests_in_flight: count(&keys::OBJECT_STORE_SERVICE_THREADS),
        ..Limits::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UfsErrorKind;

    fn conf(pairs: &[(&str, &str)]) -> Configuration {
        let mut conf = Configuration::default();
        for (key, value) in pairs {
            conf.set(key, value);
        }
        conf
    }

    async fn key_id(settings: &Settings) -> (String, Option<String>) {
        let credential = settings.credentials.get().await.unwrap().unwrap();
        (credential.key_id.clone(), credential.token.clone())
    }

    #[tokio::test]
    async fn configuration_goes_before_environment_before_profile() {
        let folder = tempfile::tempdir().unwrap();
        let credentials = folder.path().join("credentials");
        let config = folder.path().join("config");
        std::fs::write(
            &credentials,
            "[default]\naws_access_key_id = no\n[work]\n# c\naws_access_key_id=P\naws_secret_access_key = s=1\naws_session_token=T\n",
        )
        .unwrap();
        std::fs::write(&config, "[profile work]\nregion = eu-west-3\ns3 =\n  region = nested\n").unwrap();
        let (credentials, config) = (credentials.display().to_string(), config.display().to_string());
        let base = move |name: &str| match name {
            "AWS_SHARED_CREDENTIALS_FILE" => Some(credentials.clone()),
            "AWS_CONFIG_FILE" => Some(config.clone()),
            "AWS_PROFILE" => Some("work".to_owned()),
            _ => None,
        };
        let profile = Settings::new("bucket", &conf(&[]), Arc::new(base.clone())).unwrap();
        assert_eq!(key_id(&profile).await, ("P".to_owned(), Some("T".to_owned())));
        assert_eq!(
            profile.places.current().bucket_url,
            "https://bucket.s3.eu-west-3.amazonaws.com"
        );

        let with_env = move |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some("E".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some("s".to_owned()),
            "AWS_REGION" => Some("us-west-2".to_owned()),
            _ => base(name),
        };
        let environment = Settings::new("my.bucket", &conf(&[]), Arc::new(with_env.clone())).unwrap();
        assert_eq!(key_id(&environment).await, ("E".to_owned(), None));
        assert_eq!(
            environment.places.current().bucket_url,
            "https://s3.us-west-2.amazonaws.com/my.bucket"
        );

        let given = conf(&[
            ("s3a.accessKeyId", "C"),
            ("s3a.secretKey", "s"),
            ("alluxio.underfs.s3.endpoint", "http://127.0.0.1:9000/"),
            ("alluxio.underfs.s3.region", "x"),
            ("alluxio.underfs.s3.endpoint.region", "y"),
        ]);
        let configured = Settings::new("bucket", &given, Arc::new(with_env)).unwrap();
        assert_eq!(key_id(&configured).await, ("C".to_owned(), None));
        assert_eq!(configured.places.current().bucket_url, "http://127.0.0.1:9000/bucket");
        assert_eq!(configured.places.current().region, "y");
    }

    #[test]
    fn nonsense_is_refused() {
        let none: Environment = Arc::new(|_: &str| None);
        for bad in [
            &[("s3a.accessKeyId", "only")][..],
            &[("alluxio.underfs.s3.endpoint", "ftp://host")],
            &[("alluxio.underfs.s3.endpoint", "http://")],
            &[("alluxio.underfs.s3.endpoint", "http://host?x")],
            &[("alluxio.underfs.s3.disable.dns.buckets", "maybe")],
            &[("alluxio.underfs.s3.region", "a b")],
            &[("s3a.accessKeyId", "a\nb"), ("s3a.secretKey", "s")],
            &[("s3a.sessionToken", "only")],
            &[
                ("s3a.accessKeyId", "a"),
                ("s3a.secretKey", "s"),
                ("alluxio.underfs.s3.anonymous", "true"),
            ],
            &[("alluxio.underfs.s3.proxy.host", "host")],
            &[("alluxio.underfs.s3.ca.bundle", "/nowhere/at/all")],
            &[
                ("alluxio.underfs.s3.endpoint", "http://host"),
                ("alluxio.underfs.s3.endpoint.fips", "true"),
            ],
        ] {
            let error = Settings::new("bucket", &conf(bad), none.clone()).unwrap_err();
            assert_eq!(error.kind, UfsErrorKind::Invalid, "{bad:?}");
        }
    }
}
