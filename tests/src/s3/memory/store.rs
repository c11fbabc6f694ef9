//! Buckets, objects and uploads in memory.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::Seen;
use super::answer::{Answer, Refused, base64};
use super::content::Content;
use super::identity::Identity;
use super::request::Request;
use super::rules::{Allowed, Fault, Habits, Rule};
use super::signature::Credential;

/// Headers that an object keeps as they are.
const KEPT: [&str; 7] = [
    "content-type",
    "cache-control",
    "content-encoding",
    "content-disposition",
    "content-language",
    "expires",
    "x-amz-website-redirect-location",
];
const ENCRYPTION: &str = "x-amz-server-side-encryption";
pub(super) const CUSTOMER: &str = "x-amz-server-side-encryption-customer-";
pub(super) const SOURCE_CUSTOMER: &str = "x-amz-copy-source-server-side-encryption-customer-";

/// An object as it is stored.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its bytes.
    pub content: Content,
    /// Without quotes.
    pub etag: String,
    /// When it was put.
    pub modified: DateTime<Utc>,
    /// Content-Type and its like.
    pub headers: BTreeMap<String, String>,
    /// Without the prefix.
    pub metadata: BTreeMap<String, String>,
    /// In order.
    pub tags: Vec<(String, String)>,
    /// `STANDARD` if nothing was said.
    pub storage_class: String,
    /// `AES256`, `aws:kms`: as the request said, with key id, context and bucket key.
    pub encryption: BTreeMap<String, String>,
    /// MD5 of the customer's key.
    pub customer_key: Option<String>,
    /// As the store answers it: with `-N` of parts.
    pub crc32c: Option<String>,
    /// It cannot be deleted before.
    pub retain_until: Option<DateTime<Utc>>,
    /// An archived one can be read until.
    pub restored_until: Option<DateTime<Utc>>,
}

impl Object {
    /// What a request that writes says of the object to be.
    pub(super) fn described(request: &Request, habits: &Habits) -> Result<Self, Refused> {
        let mut object = Self::plain(Content::default());
        for (name, value) in &request.headers {
            let (name, value) = (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned());
            if KEPT.contains(&name) {
                object.headers.insert(name.to_owned(), value);
            } else if let Some(name) = name.strip_prefix("x-amz-meta-") {
                object.metadata.insert(name.to_owned(), value);
            } else if name.starts_with(ENCRYPTION) && !name.starts_with(CUSTOMER) {
                object.encryption.insert(name.to_owned(), value);
            }
        }
        if let Some(tags) = request.header("x-amz-tagging") {
            object.tags = tags_of(tags)?;
        }
        if let Some(class) = request.header("x-amz-storage-class") {
            object.storage_class = class.to_owned();
        }
        object.customer_key = request.header(&format!("{CUSTOMER}key-md5")).map(str::to_owned);
        object.retain_until = habits
            .retention_s
            .map(|retention| Utc::now() + chrono::Duration::seconds(retention));
        Ok(object)
    }

    /// One of which nothing is known but its bytes.
    pub fn plain(content: Content) -> Self {
        Self {
            content,
            etag: String::new(),
            modified: Utc::now(),
            headers: BTreeMap::from([("content-type".to_owned(), "binary/octet-stream".to_owned())]),
            metadata: BTreeMap::new(),
            tags: Vec::new(),
            storage_class: "STANDARD".to_owned(),
            encryption: BTreeMap::new(),
            customer_key: None,
            crc32c: None,
            retain_until: None,
            restored_until: None,
        }
    }

    /// Whether it has to be restored before it can be read.
    pub fn is_archived(&self) -> bool {
        matches!(self.storage_class.as_str(), "GLACIER" | "DEEP_ARCHIVE")
            && self.restored_until.is_none_or(|until| until < Utc::now())
    }

    /// Refuses who does not know the customer's key; `prefix` is of the headers that name it.
    pub(super) fn check_key(&self, request: &Request, prefix: &str) -> Result<(), Refused> {
        if self.customer_key.as_deref() == request.header(&format!("{prefix}key-md5")) {
            return Ok(());
        }
        let why =
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided.";
        Err(Refused::new(400, "InvalidRequest", why))
    }

    pub(super) fn describe(&self, mut answer: Answer, checksums: bool) -> Answer {
        let metadata = self
            .metadata
            .iter()
            .map(|(name, value)| (format!("x-amz-meta-{name}"), value));
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), value));
        let encryption = self.encryption.iter().map(|(name, value)| (name.clone(), value));
        for (name, value) in metadata.chain(headers).chain(encryption) {
            answer = answer.header(&name, value);
        }
        if self.storage_class != "STANDARD" {
            answer = answer.header("x-amz-storage-class", &self.storage_class);
        }
        if !self.tags.is_empty() {
            answer = answer.header("x-amz-tagging-count", &self.tags.len().to_string());
        }
        if let Some(until) = self.restored_until {
            answer = answer.header(
                "x-amz-restore",
                &format!("ongoing-request=\"false\", expiry-date=\"{}\"", http_date(until)),
            );
        }
        answer
            .header("etag", &quoted(&self.etag))
            .header("last-modified", &http_date(self.modified))
            .header("accept-ranges", "bytes")
            .maybe("x-amz-checksum-crc32c", self.crc32c.as_deref().filter(|_| checksums))
    }
}

/// An upload in parts.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub key: String,
    pub object: Object,
    /// The checksum that its parts must have.
    pub crc32c: bool,
    pub parts: BTreeMap<u32, Part>,
}

#[derive(Clone, Debug)]
pub(super) struct Part {
    pub content: Content,
    pub md5: [u8; 16],
    pub crc32c: u32,
}

#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub objects: BTreeMap<String, Object>,
    pub uploads: BTreeMap<String, Upload>,
}

/// All that a server knows.
#[derive(Debug)]
pub(super) struct State {
    pub buckets: BTreeMap<String, Bucket>,
    pub habits: Habits,
    pub credentials: BTreeMap<String, Credential>,
    pub rules: Vec<Rule>,
    /// Nothing: all that no rule forbids.
    pub allowed: Option<Allowed>,
    pub identity: Identity,
    /// When the last requests came.
    pub recent: VecDeque<Instant>,
    pub faults: Vec<Fault>,
    pub log: Vec<Seen>,
    pub last_id: u64,
}

impl State {
    pub fn bucket(&mut self, name: &str) -> Result<&mut Bucket, Refused> {
        self.buckets
            .get_mut(name)
            .ok_or_else(|| Refused::new(404, "NoSuchBucket", "The specified bucket does not exist"))
    }

    /// Refuses by policy. Actions are those of AWS's policies, without `s3:`.
    pub fn allow(&self, action: &str, key: &str) -> Result<(), Refused> {
        let allowed = self.allowed.as_ref().is_none_or(|allowed| allowed.has(action, key));
        match allowed && !self.rules.iter().any(|rule| rule.matches(action, key)) {
            true => Ok(()),
            false => Err(Refused::denied()),
        }
    }

    /// Refuses what comes faster than there may be requests.
    pub fn check_rate(&mut self) -> Result<(), Refused> {
        let most = self.habits.requests_per_s;
        if most == 0 {
            return Ok(());
        }
        let now = Instant::now();
        while self
            .recent
            .front()
            .is_some_and(|at| now.duration_since(*at) > Duration::from_secs(1))
        {
            self.recent.pop_front();
        }
        if self.recent.len() >= most {
            return Err(Refused::new(503, "SlowDown", "Please reduce your request rate."));
        }
        self.recent.push_back(now);
        Ok(())
    }

    /// The object; what is absent is only said to be so to who may list.
    pub fn object(&mut self, bucket: &str, key: &str) -> Result<Object, Refused> {
        let found = self.bucket(bucket)?.objects.get(key).cloned();
        match (found, self.allow("ListBucket", key)) {
            (Some(object), _) => Ok(object),
            (None, Ok(())) => Err(Refused::no_such_key()),
            (None, Err(refused)) => Err(refused),
        }
    }

    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

pub(super) fn tags_of(text: &str) -> Result<Vec<(String, String)>, Refused> {
    let wrong = || {
        Refused::new(
            400,
            "InvalidArgument",
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded",
        )
    };
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text)
            .decode_utf8()
            .map(|text| text.into_owned())
            .map_err(|_| wrong())
    };
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

pub(super) fn unquoted(etag: &str) -> &str {
    etag.trim().trim_matches('"')
}

pub(super) fn http_date(date: DateTime<Utc>) -> String {
    date.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

pub(super) fn crc32c_text(crc32c: u32) -> String {
    base64(&crc32c.to_be_bytes())
}
