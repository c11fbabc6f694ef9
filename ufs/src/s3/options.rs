//! What requests say of objects by options of the mount: encryption, storage class, who pays.

use alluxio_common::config::{Configuration, Key, keys::underfs as keys};

use super::request::Request;
use super::sums::{base64, from_base64, md5_base64};
use crate::object::client::Properties;
use crate::{UfsError, UfsErrorKind, UfsResult};

const ENCRYPTION: &str = "x-amz-server-side-encryption";
const CUSTOMER_KEY_BYTES: usize = 32;

type Headers = Vec<(&'static str, String)>;

/// Headers by what they go with.
#[derive(Default)]
pub(super) struct ObjectOptions {
    /// Whatever makes an object: PUT, the begin of an upload, copies.
    encryption: Headers,
    /// Whatever reads or writes bytes or metadata of an object; holds a key.
    customer_key: Headers,
    /// Whatever copies from an object; holds a key.
    source_key: Headers,
    storage_class: String,
    /// A canned ACL, with whatever makes an object; empty: none.
    acl: String,
    requester_pays: bool,
}

/// A customer's key is not for logs.
impl std::fmt::Debug for ObjectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectOptions")
            .field("encryption", &self.encryption)
            .field("customer_key", &!self.customer_key.is_empty())
            .field("storage_class", &self.storage_class)
            .field("acl", &self.acl)
            .field("requester_pays", &self.requester_pays)
            .finish()
    }
}

impl ObjectOptions {
    pub fn new(conf: &Configuration) -> UfsResult<Self> {
        let text = |key| Some(conf.string(key)).filter(|value: &String| !value.is_empty());
        let invalid = |key: &Key, why: &str| UfsError::new(UfsErrorKind::Invalid, format!("{}: {why}", key.name));
        let mut options = Self {
            storage_class: conf.string(&keys::S3_STORAGE_CLASS),
            acl: conf.string(&keys::S3_ACL).to_ascii_lowercase(),
            requester_pays: conf.bool(&keys::S3_REQUESTER_PAYS),
            ..Self::default()
        };
        let enabled = conf.bool(&keys::S3_ENCRYPTION_ENABLED);
        let algorithm = conf.string(&keys::S3_ENCRYPTION_ALGORITHM);
        let is_kms = enabled && algorithm != "AES256";
        if enabled {
            let algorithm = match is_kms {
                // As S3 spells it.
                true => algorithm.to_ascii_lowercase(),
                false => algorithm,
            };
            options.encryption.push((ENCRYPTION, algorithm));
        }
        let of_kms = [
            (&keys::S3_KMS_KEY_ID, "x-amz-server-side-encryption-aws-kms-key-id"),
            (&keys::S3_KMS_CONTEXT, "x-amz-server-side-encryption-context"),
            (
                &keys::S3_BUCKET_KEY_ENABLED,
                "x-amz-server-side-encryption-bucket-key-enabled",
            ),
        ];
        for (key, header) in of_kms {
            let Some(mut value) = text(key) else { continue };
            // It would be without effect, and nobody would notice.
            if !is_kms {
                let (enabled, algorithm) = (keys::S3_ENCRYPTION_ENABLED.name, keys::S3_ENCRYPTION_ALGORITHM.name);
                return Err(invalid(
                    key,
                    &format!("it wants {enabled}=true and {algorithm}=aws:kms"),
                ));
            }
            if key.name == keys::S3_KMS_CONTEXT.name {
                if !(value.trim().starts_with('{') && value.trim().ends_with('}')) {
                    return Err(invalid(key, "a JSON object is expected"));
                }
                value = base64(value.trim().as_bytes());
            }
            if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(invalid(key, "it holds characters that no request can hold"));
            }
            options.encryption.push((header, value));
        }
        if let Some(customer) = text(&keys::S3_CUSTOMER_KEY) {
            let key = &keys::S3_CUSTOMER_KEY;
            if enabled {
                return Err(invalid(key, "it excludes other kinds of encryption"));
            }
            let bytes = from_base64(&customer).filter(|bytes| bytes.len() == CUSTOMER_KEY_BYTES);
            let bytes = bytes.ok_or_else(|| invalid(key, "32 bytes in base64 are expected"))?;
            let md5 = md5_base64(&bytes);
            options.customer_key = vec![
                ("x-amz-server-side-encryption-customer-algorithm", "AES256".to_owned()),
                ("x-amz-server-side-encryption-customer-key", customer.clone()),
                ("x-amz-server-side-encryption-customer-key-md5", md5.clone()),
            ];
            options.source_key = vec![
                (
                    "x-amz-copy-source-server-side-encryption-customer-algorithm",
                    "AES256".to_owned(),
                ),
                ("x-amz-copy-source-server-side-encryption-customer-key", customer),
                ("x-amz-copy-source-server-side-encryption-customer-key-md5", md5),
            ];
        }
        if !options.storage_class.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid(&keys::S3_STORAGE_CLASS, "it is no storage class"));
        }
        Ok(options)
    }

    /// Whether objects are encrypted as the mount says, not as they were before.
    pub fn encrypts(&self) -> bool {
        !(self.encryption.is_empty() && self.customer_key.is_empty())
    }

    /// GET, HEAD, and parts of an upload.
    pub fn reading<'a>(&self, request: Request<'a>) -> UfsResult<Request<'a>> {
        with(request, &self.customer_key)
    }

    /// What makes an object.
    fn making<'a>(&self, request: Request<'a>) -> UfsResult<Request<'a>> {
        let request = with(with(request, &self.encryption)?, &self.customer_key)?;
        match self.acl.as_str() {
            "" => Ok(request),
            acl => request.header("x-amz-acl", acl),
        }
    }

    /// What makes an object that carries these properties.
    pub fn writing<'a>(&self, request: Request<'a>, properties: &Properties) -> UfsResult<Request<'a>> {
        let mut request = self.making(request)?;
        for (name, value) in &properties.headers {
            request = request.header_named(name, value)?;
        }
        for (name, value) in &properties.metadata {
            request = request.header_named(&format!("{}{name}", super::METADATA_PREFIX), value)?;
        }
        if !properties.tags.is_empty() {
            request = request.header("x-amz-tagging", &properties.tags)?;
        }
        let class = match properties.storage_class.as_str() {
            "" => self.storage_class.as_str(),
            own => own,
        };
        if class.is_empty() {
            Ok(request)
        } else {
            request.header("x-amz-storage-class", class)
        }
    }

    /// What makes an object of another one; its storage class does not go along by itself.
    pub fn copying<'a>(&self, request: Request<'a>, properties: &Properties) -> UfsResult<Request<'a>> {
        let mut request = self.making(request)?;
        for (name, value) in properties
            .headers
            .iter()
            .filter(|(name, _)| name.starts_with(ENCRYPTION))
        {
            request = request.header_named(name, value)?;
        }
        match properties.storage_class.as_str() {
            "" | "STANDARD" => Ok(request),
            class => request.header("x-amz-storage-class", class),
        }
    }

    /// What makes an object of itself with other metadata: all that it carries has to be said again.
    pub fn replacing<'a>(&self, request: Request<'a>, properties: &Properties) -> UfsResult<Request<'a>> {
        let mut request = self.copying(request, properties)?;
        for (name, value) in &properties.headers {
            if !name.starts_with(ENCRYPTION) {
                request = request.header_named(name, value)?;
            }
        }
        for (name, value) in &properties.metadata {
            request = request.header_named(&format!("{}{name}", super::METADATA_PREFIX), value)?;
        }
        request.header("x-amz-metadata-directive", "REPLACE")
    }

    /// What makes an object of one of another bucket: all that it carries but its tags is said.
    pub fn taking<'a>(&self, request: Request<'a>, properties: &Properties) -> UfsResult<Request<'a>> {
        let untagged = Properties {
            tags: String::new(),
            ..properties.clone()
        };
        self.writing(request, &untagged)?
            .header("x-amz-metadata-directive", "REPLACE")
    }

    /// Tells customers' keys apart, without telling them.
    pub fn customer(&self) -> String {
        let digest = self.customer_key.iter().find(|(name, _)| name.ends_with("-md5"));
        digest.map_or_else(String::new, |(_, md5)| format!(" {md5}"))
    }

    /// What reads the source of a copy.
    pub fn source<'a>(&self, request: Request<'a>) -> UfsResult<Request<'a>> {
        with(request, &self.source_key)
    }

    /// What goes with every request.
    pub fn always(&self) -> Option<(&'static str, &'static str)> {
        self.requester_pays.then_some(("x-amz-request-payer", "requester"))
    }
}

fn with<'a>(mut request: Request<'a>, headers: &Headers) -> UfsResult<Request<'a>> {
    for (name, value) in headers {
        request = request.header(name, value)?;
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> UfsResult<ObjectOptions> {
        let mut conf = Configuration::default();
        for (key, value) in pairs {
            conf.set(key, value);
        }
        ObjectOptions::new(&conf)
    }

    #[test]
    fn what_would_be_without_effect_is_refused() {
        const START: &str = "alluxio.underfs.s3.server.side.encryption.";
        let key = base64(&[7; 32]);
        let named = |pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, &str)> = pairs
                .iter()
                .map(|(key, value)| (format!("{START}{key}"), *value))
                .collect();
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (key.as_str(), *value)).collect();
            options(&pairs)
        };
        for bad in [
            &[("kms.key.id", "k")][..],
            &[("enabled", "true"), ("kms.key.id", "k")],
            &[("enabled", "true"), ("algorithm", "aws:kms"), ("kms.context", "a=b")],
            &[("enabled", "true"), ("algorithm", "aws:kms"), ("kms.key.id", "a b")],
            &[("customer.key", "c2hvcnQ=")],
            &[("enabled", "true"), ("customer.key", &key)],
        ] {
            assert_eq!(named(bad).unwrap_err().kind, UfsErrorKind::Invalid, "{bad:?}");
        }
        let secret = named(&[("customer.key", &key)]).unwrap();
        assert!(secret.encrypts() && !format!("{secret:?}").contains(&key));
        assert!(!options(&[]).unwrap().encrypts());
    }
}
