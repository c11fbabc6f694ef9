//! Pages of ListObjectsV2.

use percent_encoding::percent_decode_str;

use super::headers::identity;
use super::time;
use super::xml::Element;
use crate::object::client::{Listed, ListedPage, ObjectMeta, Properties, is_archive};
use crate::{UfsError, UfsErrorKind, UfsResult};

/// Objects and common prefixes, merged into the byte order of keys.
pub(super) fn listed_page(root: &Element) -> UfsResult<ListedPage> {
    if root.name != "ListBucketResult" {
        let why = format!("list objects: the server answered with <{}>", root.name);
        return Err(UfsError::new(UfsErrorKind::Other, why));
    }
    let decode = Decoder::of(root);
    let broken = |key: &str| {
        UfsError::new(
            UfsErrorKind::Other,
            format!("list objects: the key {key:?} is no UTF-8"),
        )
    };
    let mut items = Vec::new();
    for object in root.all("Contents") {
        let text = object.text_of("Key");
        let length = object.text_of("Size").parse().map_err(|_| broken(text))?;
        let modified_ns = time::iso_date_ns(object.text_of("LastModified"));
        items.push(Listed::Object(ObjectMeta {
            key: decode.key(text).ok_or_else(|| broken(text))?,
            length,
            modified_ns,
            etag: identity(object.text_of("ETag"), modified_ns, length),
            properties: Properties {
                storage_class: object.text_of("StorageClass").to_owned(),
                is_archived: is_archive(object.text_of("StorageClass")),
                ..Properties::default()
            },
        }));
    }
    for prefixes in root.all("CommonPrefixes") {
        for prefix in prefixes.all("Prefix") {
            items.push(Listed::Prefix(
                decode.key(&prefix.text).ok_or_else(|| broken(&prefix.text))?,
            ));
        }
    }
    items.sort_by(|a, b| a.key().cmp(b.key()));
    let token = match (root.text_of("IsTruncated"), root.text_of("NextContinuationToken")) {
        // To take it for the end would hide names, and have them removed.
        ("true", "") => {
            let why = "list objects: the server says that there is more, and not where";
            return Err(UfsError::new(UfsErrorKind::Other, why));
        }
        ("true", token) => Some(token.to_owned()),
        _ => None,
    };
    Ok(ListedPage { items, token })
}

/// Undoes `encoding-type=url`, where the server did it.
struct Decoder {
    encoded: bool,
}

impl Decoder {
    fn of(root: &Element) -> Self {
        Self {
            encoded: root.text_of("EncodingType") == "url",
        }
    }

    fn key(&self, text: &str) -> Option<String> {
        if !self.encoded {
            return Some(text.to_owned());
        }
        // S3 encodes as forms do: `+` is a space, a plus is %2B.
        let text = text.replace('+', " ");
        Some(percent_decode_str(&text).decode_utf8().ok()?.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::xml;
    use super::*;

    #[test]
    fn pages_are_merged_and_decoded() {
        let document = br#"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
            <NextContinuationToken>t+1</NextContinuationToken>
            <Contents><Key>p%2Fb+c%2B%25</Key><Size>3</Size><ETag>&quot;e&quot;</ETag>
            <LastModified>2026-11-21T10:00:00.250Z</LastModified></Contents>
            <CommonPrefixes><Prefix>p/a/</Prefix></CommonPrefixes></ListBucketResult>"#;
        let page = listed_page(&xml::parse(document).unwrap()).unwrap();
        let keys: Vec<_> = page.items.iter().map(Listed::key).collect();
        assert_eq!(keys, ["p/a/", "p/b c+%"]);
        assert_eq!(page.token.as_deref(), Some("t+1"));
        let Listed::Object(meta) = &page.items[1] else {
            panic!("{page:?}")
        };
        assert_eq!((meta.length, meta.etag.as_str()), (3, "e"));
        assert_eq!(meta.modified_ns, 1_795_255_200_000_000_000);
    }

    #[test]
    fn a_lost_token_is_no_end() {
        let document = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
        assert!(listed_page(&xml::parse(document).unwrap()).is_err());
    }
}
