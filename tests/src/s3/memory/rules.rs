//! What a server refuses, wants and does wrong; a test sets it while requests are served.

use std::time::Duration;

use super::answer::{Refused, base64};
use super::request::Request;

/// How a kind of request with If-Match or If-None-Match is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conditions {
    /// As AWS does.
    Honoured,
    /// As if they were not there.
    Ignored,
    /// With this status and code.
    Refused(u16, &'static str),
}

/// Habits of a server. The default is AWS's of a plain bucket.
#[derive(Clone, Debug)]
pub struct Habits {
    /// On PUT and the completion of an upload.
    pub write_conditions: Conditions,
    /// On DELETE.
    pub delete_conditions: Conditions,
    /// On GET and HEAD.
    pub read_conditions: Conditions,
    /// On the source of a copy.
    pub copy_conditions: Conditions,
    /// Checksums other than Content-MD5 are known.
    pub crc32c: bool,
    /// Status for the header of a checksum that is not known; nothing: it is ignored.
    pub refuses_crc32c: Option<u16>,
    /// Default retention: a PUT or part without a checksum is 400, what is stored cannot be deleted. In seconds.
    pub retention_s: Option<i64>,
    /// A write without this encryption is 403: `AES256`, `aws:kms`.
    pub encryption_required: Option<&'static str>,
    /// Requests without x-amz-request-payer are 403.
    pub requester_pays: bool,
    /// Where the bucket is; another one in a signature is 400.
    pub region: String,
    /// Status of a request that is signed for another region: 400 AuthorizationHeaderMalformed, or 301 PermanentRedirect.
    pub region_status: u16,
    /// The bucket has moved there: everything is 301.
    pub moved_to: Option<String>,
    /// Seconds that the server's clock goes ahead.
    pub clock_ahead_s: i64,
    /// Who signs nothing may do everything.
    pub public: bool,
    /// More requests in a second are 503 SlowDown; 0: any number.
    pub requests_per_s: usize,
    /// Most keys of a page.
    pub page_max: usize,
    /// DeleteObjects is known.
    pub deletes_many: bool,
    /// How long a restored archive can be read.
    pub restored_for: Duration,
    /// Smallest part that is not the last.
    pub part_bytes_min: u64,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            write_conditions: Conditions::Honoured,
            delete_conditions: Conditions::Honoured,
            read_conditions: Conditions::Honoured,
            copy_conditions: Conditions::Honoured,
            crc32c: true,
            refuses_crc32c: None,
            retention_s: None,
            encryption_required: None,
            requester_pays: false,
            region: "us-east-1".to_owned(),
            region_status: 400,
            moved_to: None,
            clock_ahead_s: 0,
            public: false,
            requests_per_s: 0,
            page_max: 1000,
            deletes_many: true,
            restored_for: Duration::from_secs(86400),
            part_bytes_min: 5 << 20,
        }
    }
}

impl Habits {
    /// What is known of a request before anything is done.
    pub(super) fn check(&self, request: &Request) -> Result<(), Refused> {
        if let Some(region) = &self.moved_to {
            let mut moved = Refused::new(301, "PermanentRedirect", "The bucket must be addressed elsewhere.");
            moved.region = Some(region.clone());
            return Err(moved);
        }
        if self.requester_pays && request.header("x-amz-request-payer") != Some("requester") {
            return Err(Refused::denied());
        }
        if let Some(status) = self.refuses_crc32c
            && request.headers.keys().any(|name| {
                let name = name.as_str();
                name.starts_with("x-amz-checksum-") || name == "x-amz-sdk-checksum-algorithm"
            })
        {
            return Err(Refused::new(
                status,
                "NotImplemented",
                "A header you provided implies functionality that is not implemented",
            ));
        }
        let (write, delete, read) = (&self.write_conditions, &self.delete_conditions, &self.read_conditions);
        let conditions = match request.method.as_str() {
            "PUT" | "POST" => write,
            "DELETE" => delete,
            _ => read,
        };
        let conditional = ["if-match", "if-none-match"]
            .iter()
            .any(|name| request.header(name).is_some());
        let copy = request.header("x-amz-copy-source-if-match").is_some();
        for (present, conditions) in [(conditional, conditions), (copy, &self.copy_conditions)] {
            if let (true, Conditions::Refused(status, code)) = (present, conditions) {
                return Err(Refused::new(
                    *status,
                    code,
                    "A header you provided implies functionality that is not implemented",
                ));
            }
        }
        let writes = matches!(
            request.operation(),
            "PutObject" | "CreateMultipartUpload" | "CopyObject"
        );
        if let (true, Some(wanted)) = (writes, self.encryption_required)
            && request.header("x-amz-server-side-encryption") != Some(wanted)
        {
            return Err(Refused::denied());
        }
        Ok(())
    }

    /// Refuses a body whose checksum is not what was told of it, or missing where one is needed.
    pub(super) fn check_sums(&self, request: &Request) -> Result<(), Refused> {
        let crc32 = match request.header("x-amz-checksum-crc32") {
            Some(_) => crc_fast::crc32_iso_hdlc(&request.body.content.bytes()),
            None => 0,
        };
        let told = [
            ("content-md5", true, base64(&request.body.md5)),
            (
                "x-amz-checksum-crc32c",
                self.crc32c,
                base64(&request.body.crc32c.to_be_bytes()),
            ),
            ("x-amz-checksum-crc32", self.crc32c, base64(&crc32.to_be_bytes())),
        ];
        let mut known = 0;
        for (name, understood, computed) in told {
            match request.header(name) {
                Some(told) if understood && told != computed => {
                    return Err(Refused::new(
                        400,
                        "BadDigest",
                        "The checksum you specified did not match what we received.",
                    ));
                }
                Some(_) if understood => known += 1,
                _ => {}
            }
        }
        let writes = matches!(request.operation(), "PutObject" | "UploadPart");
        if writes && known == 0 && self.retention_s.is_some() {
            let why = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters";
            return Err(Refused::new(400, "InvalidRequest", why));
        }
        Ok(())
    }
}

/// A refusal by policy.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub action: String,
    pub key_prefix: String,
}

/// Actions that are allowed, each on keys that begin so; all others are not.
#[derive(Clone, Debug)]
pub(super) struct Allowed(pub Vec<(String, String)>);

impl Allowed {
    pub fn has(&self, action: &str, key: &str) -> bool {
        self.0
            .iter()
            .any(|(known, prefix)| known == action && key.starts_with(prefix.as_str()))
    }
}

impl Rule {
    pub fn matches(&self, action: &str, key: &str) -> bool {
        (self.action == "*" || self.action == action) && key.starts_with(&self.key_prefix)
    }
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Refused with a status and S3's code (empty: no body).
    Status(u16, &'static str),
    /// Refused with a status and a body that is not S3's.
    Foreign(u16),
    /// Done, after a while.
    Delay(Duration),
    /// Not done, and never answered.
    Stall,
    /// The body stops after so many bytes, and the connection stays.
    StallBody(u64),
    /// Not done; the connection is reset.
    Reset,
    /// Done; then the connection is reset instead of an answer.
    LoseAnswer,
    /// The connection ends after so many bytes of the body.
    ShortBody(u64),
    /// So many bytes follow the body.
    LongBody(usize),
    /// One bit of the body is another one; what is said of it is not.
    WrongByte,
    /// The listing says that it goes on at the token that it was asked for (or at its own beginning).
    RepeatToken,
    /// The listing says that it goes on, and not where.
    LoseToken,
}

/// Which requests a fault is for, and how many of them.
#[derive(Clone, Debug)]
pub struct Fault {
    pub(super) operation: &'static str,
    pub(super) key_contains: String,
    pub(super) skips: u32,
    pub(super) times: u32,
    pub(super) act: Act,
}

impl Fault {
    /// For the next request of any kind.
    pub fn new(act: Act) -> Self {
        Self {
            operation: "*",
            key_contains: String::new(),
            skips: 0,
            times: 1,
            act,
        }
    }

    /// Only for an operation, by its name in S3's API.
    pub fn on(mut self, operation: &'static str) -> Self {
        self.operation = operation;
        self
    }

    /// Only for keys that contain this.
    pub fn key(mut self, contains: &str) -> Self {
        self.key_contains = contains.to_owned();
        self
    }

    /// So often.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Not for the first ones.
    pub fn after(mut self, requests: u32) -> Self {
        self.skips = requests;
        self
    }

    /// For all that come.
    pub fn always(self) -> Self {
        self.times(u32::MAX)
    }

    /// Whether it is for this request, which then counts.
    pub(super) fn strikes(&mut self, operation: &str, key: &str) -> bool {
        if (self.operation != "*" && self.operation != operation)
            || !key.contains(&self.key_contains)
            || self.times == 0
        {
            return false;
        }
        if self.skips > 0 {
            self.skips -= 1;
            return false;
        }
        if self.times != u32::MAX {
            self.times -= 1;
        }
        true
    }
}
