//! Answers: status, headers, body, and S3's way to write errors and listings.

use http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::content::Content;

/// What S3 leaves as it is under `encoding-type=url`.
const URL: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*')
    .remove(b'/');

/// An answer that has not been sent.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Content,
}

impl Answer {
    pub fn ok() -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Content::default(),
        }
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).expect("a status");
        self
    }

    pub fn xml(document: String) -> Self {
        let document = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{document}");
        let mut answer = Self::ok().header("content-type", "application/xml");
        answer.body = Content::from(bytes::Bytes::from(document));
        answer
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: http::HeaderName = name.parse().expect("a header's name");
        self.headers.insert(
            name,
            HeaderValue::from_bytes(value.as_bytes()).expect("a header's value"),
        );
        self
    }

    pub fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }
}

/// A request that is refused.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub status: u16,
    pub code: String,
    pub message: String,
    pub region: Option<String>,
}

impl Refused {
    pub fn new(status: u16, code: &str, message: &str) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.to_owned(),
            region: None,
        }
    }

    pub fn denied() -> Self {
        Self::new(403, "AccessDenied", "Access Denied")
    }

    pub fn no_such_key() -> Self {
        Self::new(404, "NoSuchKey", "The specified key does not exist.")
    }

    pub fn answer(&self) -> Answer {
        let answer = if self.code.is_empty() {
            Answer::ok()
        } else {
            Answer::xml(format!(
                "<Error><Code>{}</Code><Message>{}</Message><RequestId>0</RequestId></Error>",
                escape(&self.code),
                escape(&self.message)
            ))
        };
        answer
            .status(self.status)
            .maybe("x-amz-bucket-region", self.region.as_deref())
    }
}

/// Text for an element. Control characters that XML cannot hold are written all the same, as S3 does.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            character if character.is_control() => out.push_str(&format!("&#x{:x};", u32::from(character))),
            character => out.push(character),
        }
    }
    out
}

/// As `encoding-type=url` asks for.
pub(super) fn url_encoded(text: &str) -> String {
    utf8_percent_encode(text, URL).to_string().replace("%20", "+")
}

pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let three = chunk.iter().fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            match place > chunk.len() {
                true => out.push('='),
                false => out.push(char::from(ALPHABET[(three >> (18 - 6 * place)) as usize & 63])),
            }
        }
    }
    out
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
