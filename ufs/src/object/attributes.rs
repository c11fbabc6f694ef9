//! Attributes as user metadata of objects; the names are documented in the parent module.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::client::Metadata;
use crate::UfsAttributes;

const MODE: &str = "alluxio-mode";
const OWNER: &str = "alluxio-owner";
const GROUP: &str = "alluxio-group";
const MTIME: &str = "alluxio-mtime";
/// Names the bytes of a write.
const WRITE_ID: &str = "alluxio-write-id";

pub(super) fn to_metadata(attributes: &UfsAttributes) -> Metadata {
    let encode = |name: &String| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
    [
        (MODE, attributes.mode.map(|mode| format!("{:o}", mode & 0o7777))),
        (OWNER, attributes.owner.as_ref().map(encode)),
        (GROUP, attributes.group.as_ref().map(encode)),
        (MTIME, attributes.mtime_ns.map(|mtime| mtime.to_string())),
        (WRITE_ID, attributes.write_id.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// What others wrote under our names and makes no sense is left out.
pub(super) fn from_metadata(metadata: &Metadata) -> UfsAttributes {
    let find = |name: &str| {
        metadata
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let text = |name| Some(percent_decode_str(find(name)?).decode_utf8().ok()?.into_owned());
    UfsAttributes {
        mode: find(MODE)
            .and_then(|mode| u32::from_str_radix(mode, 8).ok())
            .map(|mode| mode & 0o7777),
        owner: text(OWNER),
        group: text(GROUP),
        mtime_ns: find(MTIME).and_then(|mtime| mtime.parse().ok()),
        write_id: find(WRITE_ID).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let attributes = UfsAttributes {
            mode: Some(0o4755),
            owner: Some("Jürgen ,\"x\"".to_owned()),
            group: Some("users".to_owned()),
            mtime_ns: Some(-5),
            write_id: Some("w-1".to_owned()),
        };
        let metadata = to_metadata(&attributes);
        assert!(metadata.iter().all(|(_, value)| value.is_ascii()));
        assert_eq!(from_metadata(&metadata), attributes);
        assert_eq!(
            from_metadata(&vec![(MODE.to_owned(), "rwx".to_owned())]),
            UfsAttributes::default()
        );
    }
}
