//! Where a bucket is and who we are there: options of the mount, configuration, AWS environment, AWS profile, in that order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alluxio_common::config::{Configuration, keys::underfs as keys};
use object_store::aws::{AmazonS3Builder, AwsCredential, AwsCredentialProvider};
use object_store::{RetryConfig, StaticCredentialProvider};
use url::Url;

use super::manner::Manners;
use super::options::ObjectOptions;
use crate::object::client::Limits;
use crate::{UfsError, UfsErrorKind, UfsResult};

const DEFAULT_REGION: &str = "us-east-1";
/// S3's smallest part, but for the last one.
const PART_BYTES_MIN: u64 = 5 << 20;
const COPY_PART_BYTES_MAX: u64 = 5 << 30;

/// All that requests to one bucket need.
#[derive(Debug)]
pub(super) struct Settings {
    /// URL of the bucket, without a trailing slash.
    pub bucket_url: String,
    pub bucket: String,
    pub region: String,
    pub credentials: AwsCredentialProvider,
    pub request_timeout: Duration,
    pub socket_timeout: Duration,
    pub retries_max: u32,
    pub limits: Limits,
    pub options: ObjectOptions,
    pub manners: Manners,
}

/// Environment variables, passed in so that tests need not set the process's own.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Settings {
    pub fn new(bucket: &str, conf: &Configuration, env: Environment<'_>) -> UfsResult<Self> {
        let profile = Profile::read(env);
        let text = |key| Some(conf.string(key)).filter(|value| !value.is_empty());
        let endpoint = text(&keys::S3_ENDPOINT)
            .or_else(|| env("AWS_ENDPOINT_URL_S3"))
            .or_else(|| env("AWS_ENDPOINT_URL"))
            .or_else(|| profile.get("endpoint_url"));
        let region = text(&keys::S3_ENDPOINT_REGION)
            .or_else(|| text(&keys::S3_REGION))
            .or_else(|| env("AWS_REGION"))
            .or_else(|| env("AWS_DEFAULT_REGION"))
            .or_else(|| profile.get("region"))
            .unwrap_or_else(|| DEFAULT_REGION.to_owned());
        if !region
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        {
            return Err(invalid(format!("S3 region {region:?} is no region")));
        }
        let path_style = match text(&keys::S3_DISABLE_DNS_BUCKETS).as_deref() {
            Some("true") => true,
            Some("false") => false,
            None => endpoint.is_some() || bucket.contains('.'),
            Some(other) => {
                let key = keys::S3_DISABLE_DNS_BUCKETS.name;
                return Err(invalid(format!("{key}={other}: true or false is expected")));
            }
        };
        let seconds = |key, default| conf.duration(key).unwrap_or(Duration::from_secs(default));
        Ok(Self {
            bucket_url: bucket_url(endpoint.as_deref(), &region, bucket, path_style)?,
            credentials: credentials(bucket, conf, env, &profile)?,
            bucket: bucket.to_owned(),
            region,
            request_timeout: seconds(&keys::S3_REQUEST_TIMEOUT, 60),
            socket_timeout: seconds(&keys::S3_SOCKET_TIMEOUT, 50),
            retries_max: u32::try_from(conf.int(&keys::S3_MAX_ERROR_RETRY))
                .unwrap_or(u32::MAX)
                .min(100),
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

fn bucket_url(endpoint: Option<&str>, region: &str, bucket: &str, path_style: bool) -> UfsResult<String> {
    let endpoint = match endpoint {
        Some(endpoint) if endpoint.contains("://") => endpoint.to_owned(),
        Some(endpoint) => format!("https://{endpoint}"),
        None => format!("https://s3.{region}.amazonaws.com"),
    };
    let wrong = |why: &str| invalid(format!("S3 endpoint {endpoint:?}: {why}"));
    let url = Url::parse(&endpoint).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("http:// or https:// is expected"));
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err(wrong("a host, a port and perhaps a path are expected"));
    }
    let base = url.as_str().trim_end_matches('/');
    let (scheme, rest) = base.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
    let url = if path_style {
        format!("{base}/{bucket}")
    } else {
        format!("{scheme}://{bucket}.{rest}")
    };
    // Not every bucket name makes a host name.
    Url::parse(&url).map_err(|error| wrong(&format!("with bucket {bucket:?}: {error}")))?;
    Ok(url)
}

fn credentials(
    bucket: &str,
    conf: &Configuration,
    env: Environment<'_>,
    profile: &Profile,
) -> UfsResult<AwsCredentialProvider> {
    let key_id = conf.string(&keys::S3_ACCESS_KEY);
    let secret_key = conf.string(&keys::S3_SECRET_KEY);
    match (key_id.is_empty(), secret_key.is_empty()) {
        (false, false) => return fixed(key_id, secret_key, None),
        (true, true) => {}
        _ => {
            let (access, secret) = (keys::S3_ACCESS_KEY.name, keys::S3_SECRET_KEY.name);
            return Err(invalid(format!(
                "{access} and {secret} go together, and only one of them is set"
            )));
        }
    }
    if let (Some(key_id), Some(secret)) = (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY")) {
        return fixed(key_id, secret, env("AWS_SESSION_TOKEN"));
    }
    if let (Some(key_id), Some(secret)) = (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")) {
        return fixed(key_id, secret, profile.get("aws_session_token"));
    }
    // Web identity, container and instance roles, which are asked for at the first request.
    let retry = RetryConfig {
        max_retries: 1,
        retry_timeout: Duration::from_secs(5),
        ..RetryConfig::default()
    };
    crate::tls::install_provider();
    let store = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retry)
        .build()
        .map_err(|error| invalid(format!("AWS credentials from the environment: {error}")))?;
    Ok(store.credentials().clone())
}

fn fixed(key_id: String, secret_key: String, token: Option<String>) -> UfsResult<AwsCredentialProvider> {
    let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    // They go into headers; the signer takes it for granted that they can.
    if !printable(&key_id) || !token.as_deref().is_none_or(printable) {
        return Err(invalid(
            "the S3 access key or session token holds characters that none can hold".to_owned(),
        ));
    }
    Ok(Arc::new(StaticCredentialProvider::new(AwsCredential {
        key_id,
        secret_key,
        token,
    })))
}

fn invalid(message: String) -> UfsError {
    UfsError::new(UfsErrorKind::Invalid, message)
}

/// One profile of the AWS credentials and config files.
#[derive(Debug, Default)]
struct Profile(BTreeMap<String, String>);

impl Profile {
    fn read(env: Environment<'_>) -> Self {
        let name = env("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
        let home = env("HOME").map(PathBuf::from);
        let file = |variable, default| {
            let path = env(variable)
                .map(PathBuf::from)
                .or_else(|| Some(home.as_ref()?.join(".aws").join(default)))?;
            // No such file is the usual case; one that cannot be read is worth a word.
            match std::fs::read_to_string(&path) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "read AWS profile");
                    None
                }
            }
        };
        let mut values = BTreeMap::new();
        // The credentials file goes before the config file, so it comes last.
        if let Some(text) = file("AWS_CONFIG_FILE", "config") {
            let section = if name == "default" {
                name.clone()
            } else {
                format!("profile {name}")
            };
            values.extend(section_of(&text, &section));
        }
        if let Some(text) = file("AWS_SHARED_CREDENTIALS_FILE", "credentials") {
            values.extend(section_of(&text, &name));
        }
        Self(values)
    }

    fn get(&self, key: &str) -> Option<String> {
        self.0.get(key).filter(|value| !value.is_empty()).cloned()
    }
}

fn section_of(text: &str, section: &str) -> BTreeMap<String, String> {
    let mut inside = false;
    let mut values = BTreeMap::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name.split_whitespace().collect::<Vec<_>>().join(" ") == section;
        } else if inside
            && !trimmed.starts_with(['#', ';'])
            // Indented lines belong to a nested setting.
            && !line.starts_with([' ', '\t'])
            && let Some((key, value)) = trimmed.split_once('=')
        {
            values.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(pairs: &[(&str, &str)]) -> Configuration {
        let mut conf = Configuration::default();
        for (key, value) in pairs {
            conf.set(key, value);
        }
        conf
    }

    async fn key_id(settings: &Settings) -> (String, Option<String>) {
        let credential = settings.credentials.get_credential().await.unwrap();
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
        let base = |name: &str| match name {
            "AWS_SHARED_CREDENTIALS_FILE" => Some(credentials.display().to_string()),
            "AWS_CONFIG_FILE" => Some(config.display().to_string()),
            "AWS_PROFILE" => Some("work".to_owned()),
            _ => None,
        };
        let profile = Settings::new("bucket", &conf(&[]), &base).unwrap();
        assert_eq!(key_id(&profile).await, ("P".to_owned(), Some("T".to_owned())));
        assert_eq!(profile.bucket_url, "https://bucket.s3.eu-west-3.amazonaws.com");

        let with_env = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some("E".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some("s".to_owned()),
            "AWS_REGION" => Some("us-west-2".to_owned()),
            _ => base(name),
        };
        let environment = Settings::new("my.bucket", &conf(&[]), &with_env).unwrap();
        assert_eq!(key_id(&environment).await, ("E".to_owned(), None));
        assert_eq!(environment.bucket_url, "https://s3.us-west-2.amazonaws.com/my.bucket");

        let given = conf(&[
            ("s3a.accessKeyId", "C"),
            ("s3a.secretKey", "s"),
            ("alluxio.underfs.s3.endpoint", "http://127.0.0.1:9000/"),
            ("alluxio.underfs.s3.region", "x"),
            ("alluxio.underfs.s3.endpoint.region", "y"),
        ]);
        let configured = Settings::new("bucket", &given, &with_env).unwrap();
        assert_eq!(key_id(&configured).await, ("C".to_owned(), None));
        assert_eq!(configured.bucket_url, "http://127.0.0.1:9000/bucket");
        assert_eq!(configured.region, "y");
    }

    #[test]
    fn nonsense_is_refused() {
        let none = |_: &str| None;
        for bad in [
            &[("s3a.accessKeyId", "only")][..],
            &[("alluxio.underfs.s3.endpoint", "ftp://host")],
            &[("alluxio.underfs.s3.endpoint", "http://")],
            &[("alluxio.underfs.s3.endpoint", "http://host?x")],
            &[("alluxio.underfs.s3.disable.dns.buckets", "maybe")],
            &[("alluxio.underfs.s3.region", "a b")],
            &[("s3a.accessKeyId", "a\nb"), ("s3a.secretKey", "s")],
        ] {
            let error = Settings::new("bucket", &conf(bad), &none).unwrap_err();
            assert_eq!(error.kind, UfsErrorKind::Invalid, "{bad:?}");
        }
    }
}
