//! A request as it came: exact key, query, headers, and the operation that it means.

use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use super::answer::Refused;
use super::content::Received;

/// One request with its body.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub method: Method,
    /// As on the wire.
    pub raw_path: String,
    pub bucket: String,
    /// Exactly: nothing is normalised.
    pub key: String,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Received,
}

impl Request {
    /// # Errors
    /// If path or query are no UTF-8.
    pub fn new(head: &http::request::Parts, body: Received) -> Result<Self, Refused> {
        let raw_path = head.uri.path().to_owned();
        let (bucket, key) = match raw_path[1..].split_once('/') {
            Some((bucket, key)) => (bucket, key),
            None => (&raw_path[1..], ""),
        };
        let decode = |text: &str| match percent_decode_str(text).decode_utf8() {
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(Refused::new(400, "InvalidURI", "Couldn't parse the specified URI.")),
        };
        let mut query = Vec::new();
        for pair in head
            .uri
            .query()
            .unwrap_or("")
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            query.push((decode(name)?, decode(value)?));
        }
        Ok(Self {
            method: head.method.clone(),
            bucket: decode(bucket)?,
            key: decode(key)?,
            raw_path,
            query,
            headers: head.headers.clone(),
            body,
        })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Name of the operation in S3's API; empty if there is none.
    pub fn operation(&self) -> &'static str {
        let has = |name: &str| self.parameter(name).is_some();
        let copies = self.header("x-amz-copy-source").is_some();
        match (self.method.as_str(), self.key.is_empty()) {
            ("GET", true) if self.parameter("list-type") == Some("2") => "ListObjectsV2",
            ("GET", true) if has("location") => "GetBucketLocation",
            ("HEAD", true) => "HeadBucket",
            ("POST", true) if has("delete") => "DeleteObjects",
            ("GET", false) if has("tagging") => "GetObjectTagging",
            ("PUT", false) if has("tagging") => "PutObjectTagging",
            ("GET", false) if has("uploadId") => "ListParts",
            ("GET", false) => "GetObject",
            ("HEAD", false) => "HeadObject",
            ("PUT", false) if has("uploadId") && copies => "UploadPartCopy",
            ("PUT", false) if has("uploadId") => "UploadPart",
            ("PUT", false) if copies => "CopyObject",
            ("PUT", false) => "PutObject",
            ("POST", false) if has("uploads") => "CreateMultipartUpload",
            ("POST", false) if has("uploadId") => "CompleteMultipartUpload",
            ("POST", false) if has("restore") => "RestoreObject",
            ("DELETE", false) if has("uploadId") => "AbortMultipartUpload",
            ("DELETE", false) => "DeleteObject",
            _ => "",
        }
    }

    /// Bucket and key that a copy is made from.
    pub fn copy_source(&self) -> Result<(String, String), Refused> {
        let source = self.header("x-amz-copy-source").unwrap_or("");
        let wrong = || Refused::new(400, "InvalidArgument", "Invalid copy source");
        let source = percent_decode_str(source).decode_utf8().map_err(|_| wrong())?;
        let source = source.strip_prefix('/').unwrap_or(&source);
        let (bucket, key) = source.split_once('/').ok_or_else(wrong)?;
        Ok((bucket.to_owned(), key.to_owned()))
    }
}

/// The children's texts of each element of that name.
pub(super) fn records(document: &[u8], element: &str) -> Result<Vec<Vec<(String, String)>>, Refused> {
    use quick_xml::events::Event;
    let malformed = || Refused::new(400, "MalformedXML", "The XML you provided was not well-formed");
    let text = std::str::from_utf8(document).map_err(|_| malformed())?;
    let mut reader = quick_xml::Reader::from_str(text);
    let (mut records, mut names) = (Vec::new(), Vec::<String>::new());
    loop {
        let add = |records: &mut Vec<Vec<(String, String)>>, names: &[String], piece: &str| {
            if let [.., parent, _] = names
                && parent == element
                && let Some((_, value)) = records.last_mut().and_then(|record| record.last_mut())
            {
                value.push_str(piece);
            }
        };
        match reader.read_event().map_err(|_| malformed())? {
            Event::Start(start) => {
                let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
                if name == element {
                    records.push(Vec::new());
                } else if let (Some(parent), Some(record)) = (names.last(), records.last_mut())
                    && parent == element
                {
                    record.push((name.clone(), String::new()));
                }
                names.push(name);
            }
            Event::End(_) => drop(names.pop()),
            Event::Text(piece) => add(&mut records, &names, &piece.decode().map_err(|_| malformed())?),
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|_| malformed())?;
                let character = match &*name {
                    "amp" => Some('&'),
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => reference.resolve_char_ref().map_err(|_| malformed())?,
                };
                add(&mut records, &names, &character.ok_or_else(malformed)?.to_string());
            }
            Event::Eof => return Ok(records),
            _ => {}
        }
    }
}
