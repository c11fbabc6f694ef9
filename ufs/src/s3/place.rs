//! Where a bucket is: its URL and the region that requests are signed for. A store that names another region is followed, and
//! what it said is remembered.

use std::sync::Arc;

use alluxio_common::config::{Configuration, keys::underfs as keys};
use alluxio_common::sync::RwLock;
use url::Url;

use crate::{UfsError, UfsErrorKind, UfsResult};

const DEFAULT_REGION: &str = "us-east-1";

/// One place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// URL of the bucket, without a trailing slash.
    pub bucket_url: String,
    pub region: String,
}

/// What an endpoint is built from, whatever its region.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Instead of AWS's.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// Whether the bucket goes into the path; nothing: whichever works.
    pub path_style: Option<bool>,
    pub dualstack: bool,
    pub fips: bool,
    pub accelerate: bool,
}

/// The place of a bucket, now.
#[derive(Debug)]
pub(super) struct Places {
    bucket: String,
    wanted: Wanted,
    current: RwLock<Arc<Place>>,
}

/// An access point, by its ARN: `arn:aws:s3:REGION:ACCOUNT:accesspoint:NAME`.
struct AccessPoint<'a> {
    region: &'a str,
    account: &'a str,
    name: &'a str,
}

impl<'a> AccessPoint<'a> {
    fn of(bucket: &'a str) -> UfsResult<Option<Self>> {
        if !bucket.starts_with("arn:") {
            return Ok(None);
        }
        let parts: Vec<&str> = bucket.split(':').collect();
        match parts[..] {
            ["arn", _, "s3", region, account, "accesspoint", name]
                if !region.is_empty() && !account.is_empty() && !name.is_empty() =>
            {
                Ok(Some(Self { region, account, name }))
            }
            _ => Err(invalid(format!(
                "{bucket}: arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME is expected"
            ))),
        }
    }
}

impl Places {
    /// # Errors
    /// [`UfsErrorKind::Invalid`] if no URL or region can be made of it.
    pub fn new(bucket: &str, wanted: Wanted) -> UfsResult<Self> {
        let named = wanted.region.clone();
        let of_arn = AccessPoint::of(bucket)?.map(|point| point.region.to_owned());
        let region = of_arn.or(named).unwrap_or_else(|| DEFAULT_REGION.to_owned());
        if !is_region(&region) {
            return Err(invalid(format!("S3 region {region:?} is no region")));
        }
        let place = wanted.place(bucket, region)?;
        Ok(Self {
            bucket: bucket.to_owned(),
            wanted,
            current: RwLock::new(Arc::new(place)),
        })
    }

    pub fn current(&self) -> Arc<Place> {
        self.current.read().clone()
    }

    /// The store that the bucket is in: of one name, buckets can be copied between.
    pub fn store(&self) -> String {
        let endpoint = self.wanted.endpoint.as_deref().unwrap_or("aws");
        format!("{} {}", endpoint.trim_end_matches('/'), self.current().region)
    }

    /// The store says where the bucket is. Returns whether that is elsewhere than `asked`: if not, to ask again is of no use.
    pub fn moved(&self, asked: &Place, region: &str) -> bool {
        if !is_region(region) || asked.region == region {
            return false;
        }
        if self.current().region == region {
            // Another request's answer has told already.
            return true;
        }
        let Ok(place) = self.wanted.place(&self.bucket, region.to_owned()) else {
            return false;
        };
        tracing::warn!(
            bucket = self.bucket,
            from = asked.region,
            to = region,
            "the bucket is in another region than was said: requests go there from now on (alluxio.underfs.s3.region)"
        );
        *self.current.write() = Arc::new(place);
        true
    }
}

impl Wanted {
    /// # Errors
    /// [`UfsErrorKind::Invalid`] if a key makes no sense.
    pub fn new(conf: &Configuration, setting: impl Fn(&str, &str) -> Option<String>) -> UfsResult<Self> {
        let text = |key| Some(conf.string(key)).filter(|value: &String| !value.is_empty());
        let path_style = match text(&keys::S3_DISABLE_DNS_BUCKETS).as_deref() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            None => None,
            Some(other) => {
                let key = keys::S3_DISABLE_DNS_BUCKETS.name;
                return Err(invalid(format!("{key}={other}: true or false is expected")));
            }
        };
        let endpoint = text(&keys::S3_ENDPOINT)
            .or_else(|| setting("AWS_ENDPOINT_URL_S3", "endpoint_url"))
            .or_else(|| setting("AWS_ENDPOINT_URL", "endpoint_url"));
        let region = text(&keys::S3_ENDPOINT_REGION).or_else(|| text(&keys::S3_REGION));
        let region = region
            .or_else(|| setting("AWS_REGION", ""))
            .or_else(|| setting("AWS_DEFAULT_REGION", "region"));
        let is_true = |value: Option<String>| value.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let wanted = Self {
            region,
            path_style,
            dualstack: conf.bool(&keys::S3_DUALSTACK)
                || is_true(setting("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint")),
            fips: conf.bool(&keys::S3_FIPS) || is_true(setting("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")),
            accelerate: conf.bool(&keys::S3_ACCELERATE),
            endpoint,
        };
        let of_aws = [
            (wanted.accelerate, &keys::S3_ACCELERATE),
            (wanted.fips, &keys::S3_FIPS),
            (wanted.dualstack, &keys::S3_DUALSTACK),
        ];
        for (set, key) in of_aws.into_iter().filter(|_| wanted.endpoint.is_some()) {
            // It would be without effect, and nobody would notice.
            if set && conf.bool(key) {
                return Err(invalid(format!("{} is of AWS, and an endpoint is set", key.name)));
            }
        }
        if wanted.accelerate && wanted.fips {
            return Err(invalid("Transfer Acceleration has no FIPS endpoint".to_owned()));
        }
        Ok(wanted)
    }

    fn place(&self, bucket: &str, region: String) -> UfsResult<Place> {
        let point = AccessPoint::of(bucket)?;
        let endpoint = match &self.endpoint {
            Some(endpoint) if endpoint.contains("://") => endpoint.clone(),
            Some(endpoint) => format!("https://{endpoint}"),
            None => format!("https://{}", self.host_of_aws(&region, point.is_some())),
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
        let path_style = self
            .path_style
            .unwrap_or(self.endpoint.is_some() || bucket.contains('.'));
        let bucket_url = match point {
            Some(point) => format!("{scheme}://{}-{}.{rest}", point.name, point.account),
            None if path_style && !self.accelerate => format!("{base}/{bucket}"),
            None => format!("{scheme}://{bucket}.{rest}"),
        };
        // Not every bucket name makes a host name.
        Url::parse(&bucket_url).map_err(|error| wrong(&format!("with bucket {bucket:?}: {error}")))?;
        Ok(Place { bucket_url, region })
    }

    fn host_of_aws(&self, region: &str, access_point: bool) -> String {
        let domain = if region.starts_with("cn-") {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        };
        let stack = if self.dualstack { ".dualstack" } else { "" };
        let fips = if self.fips { "-fips" } else { "" };
        match (access_point, self.accelerate) {
            (true, _) => format!("s3-accesspoint{fips}{stack}.{region}.{domain}"),
            (false, true) => format!("s3-accelerate{stack}.{domain}"),
            (false, false) => format!("s3{fips}{stack}.{region}.{domain}"),
        }
    }
}

fn is_region(region: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !region.is_empty() && region.chars().all(known)
}

fn invalid(message: String) -> UfsError {
    UfsError::new(UfsErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(bucket: &str, wanted: Wanted) -> String {
        Places::new(bucket, wanted).unwrap().current().bucket_url.clone()
    }

    #[test]
    fn endpoints_of_aws() {
        let region = Some("eu-west-3".to_owned());
        let of = |dualstack, fips, accelerate| Wanted {
            region: region.clone(),
            dualstack,
            fips,
            accelerate,
            ..Wanted::default()
        };
        for (wanted, bucket, expected) in [
            (of(false, false, false), "b", "https://b.s3.eu-west-3.amazonaws.com"),
            (
                of(true, false, false),
                "b",
                "https://b.s3.dualstack.eu-west-3.amazonaws.com",
            ),
            (
                of(true, true, false),
                "b",
                "https://b.s3-fips.dualstack.eu-west-3.amazonaws.com",
            ),
            (
                of(true, false, true),
                "b",
                "https://b.s3-accelerate.dualstack.amazonaws.com",
            ),
            (of(false, false, false), "a.b", "https://s3.eu-west-3.amazonaws.com/a.b"),
            (
                of(false, true, false),
                "arn:aws:s3:us-west-2:123456789012:accesspoint:mine",
                "https://mine-123456789012.s3-accesspoint-fips.us-west-2.amazonaws.com",
            ),
        ] {
            assert_eq!(url(bucket, wanted), expected);
        }
        let china = Wanted {
            region: Some("cn-north-1".to_owned()),
            ..Wanted::default()
        };
        assert_eq!(url("b", china), "https://b.s3.cn-north-1.amazonaws.com.cn");
        assert!(Places::new("arn:aws:s3:::b", Wanted::default()).is_err());
    }

    #[test]
    fn a_path_stays_in_front_of_the_bucket() {
        let wanted = Wanted {
            endpoint: Some("http://host:1/s3/".to_owned()),
            ..Wanted::default()
        };
        assert_eq!(url("b", wanted), "http://host:1/s3/b");
    }

    #[test]
    fn another_region_is_gone_to_once() {
        let places = Places::new("b", Wanted::default()).unwrap();
        let asked = places.current();
        assert!(!places.moved(&asked, "us-east-1") && !places.moved(&asked, "no region"));
        assert!(places.moved(&asked, "eu-west-1"));
        assert!(places.moved(&asked, "eu-west-1"), "asked before it was told");
        assert_eq!(places.current().bucket_url, "https://b.s3.eu-west-1.amazonaws.com");
        assert!(!places.moved(&places.current(), "eu-west-1"));
    }
}
