//! ListObjectsV2: keys in byte order, rolled up at a delimiter, page by page.

use super::answer::{Answer, Refused, escape, url_encoded};
use super::request::Request;
use super::store::{Object, State, quoted};

enum Item {
    Object(String, Box<Object>),
    Prefix(String),
}

impl State {
    pub(super) fn list(&mut self, request: &Request) -> Result<Answer, Refused> {
        let prefix = request.parameter("prefix").unwrap_or("").to_owned();
        self.allow("ListBucket", &prefix)?;
        let delimiter = request.parameter("delimiter").unwrap_or("").to_owned();
        let asked = request
            .parameter("max-keys")
            .and_then(|keys| keys.parse().ok())
            .unwrap_or(1000);
        let most = self.habits.page_max.min(asked);
        let after = match request.parameter("continuation-token") {
            Some(token) => decode_token(token)?,
            None => request.parameter("start-after").unwrap_or("").to_owned(),
        };
        let mut items = Vec::new();
        let mut last = String::new();
        let mut truncated = false;
        for (key, object) in &self.bucket(&request.bucket)?.objects {
            let Some(rest) = key.strip_prefix(&prefix) else {
                continue;
            };
            let rolled = rest.find(&delimiter).filter(|_| !delimiter.is_empty());
            let rolled = rolled.map(|at| format!("{prefix}{}", &rest[..at + delimiter.len()]));
            let place = rolled.as_ref().unwrap_or(key);
            // What was rolled up on the page before does not come again.
            if (!after.is_empty() && *place <= after) || *place == last {
                continue;
            }
            if items.len() >= most {
                truncated = true;
                break;
            }
            last.clone_from(place);
            items.push(match rolled {
                Some(prefix) => Item::Prefix(prefix),
                None => Item::Object(key.clone(), Box::new(object.clone())),
            });
        }
        let token = Some(encode_token(&last)).filter(|_| truncated && !items.is_empty());
        Ok(Answer::xml(document(request, &items, token.as_deref())))
    }
}

fn document(request: &Request, items: &[Item], token: Option<&str>) -> String {
    let encoded = request.parameter("encoding-type") == Some("url");
    let text = |key: &str| if encoded { url_encoded(key) } else { escape(key) };
    let mut out = format!(
        "<ListBucketResult><Name>{}</Name><KeyCount>{}</KeyCount><IsTruncated>{}</IsTruncated>",
        escape(&request.bucket),
        items.len(),
        token.is_some()
    );
    if encoded {
        out.push_str("<EncodingType>url</EncodingType>");
    }
    if let Some(token) = token {
        out.push_str(&format!("<NextContinuationToken>{token}</NextContinuationToken>"));
    }
    for item in items {
        match item {
            Item::Object(key, object) => out.push_str(&format!(
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size>\
                 <StorageClass>{}</StorageClass></Contents>",
                text(key),
                object.modified.format("%Y-%m-%dT%H:%M:%S.000Z"),
                escape(&quoted(&object.etag)),
                object.content.length(),
                object.storage_class
            )),
            Item::Prefix(prefix) => out.push_str(&format!(
                "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>",
                text(prefix)
            )),
        }
    }
    out.push_str("</ListBucketResult>");
    out
}

/// Opaque, and nothing that XML or a URL would change.
fn encode_token(key: &str) -> String {
    format!("t{}", super::answer::hex(key.as_bytes()))
}

fn decode_token(token: &str) -> Result<String, Refused> {
    let wrong = || Refused::new(400, "InvalidArgument", "The continuation token provided is incorrect");
    let digits = token.strip_prefix('t').ok_or_else(wrong)?;
    let bytes: Result<Vec<u8>, _> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2).unwrap_or("x"), 16))
        .collect();
    String::from_utf8(bytes.map_err(|_| wrong())?).map_err(|_| wrong())
}
