//! Extended attributes as s3fs keeps them: a percent-encoded JSON object of names and values in base64.

use std::collections::BTreeMap;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::s3::sums::{base64, from_base64};

/// What any program may set; the rest means something to this host alone.
const USER: &str = "user.";
/// Limits of xattr(7): of a name, of a value; and how many we keep.
const NAME_BYTES_MAX: usize = 255;
const VALUE_BYTES_MAX: usize = 64 << 10;
const XATTRS_MAX: usize = 256;

/// Nothing if none can be kept so: names must be UTF-8.
pub(super) fn to_text(xattrs: &[(Bytes, Bytes)]) -> Option<String> {
    let kept: BTreeMap<&str, String> = xattrs
        .iter()
        .filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, base64(value))))
        .filter(|(name, _)| name.starts_with(USER))
        .collect();
    let json = serde_json::to_string(&kept).ok().filter(|_| !kept.is_empty())?;
    Some(utf8_percent_encode(&json, NON_ALPHANUMERIC).to_string())
}

/// Those of users, sorted; what makes no sense is left out.
pub(super) fn from_text(text: &str) -> Option<Vec<(Bytes, Bytes)>> {
    let json = percent_decode_str(text).decode_utf8().ok()?;
    let all: BTreeMap<String, serde_json::Value> = serde_json::from_str(&json).ok()?;
    let found = all.into_iter().filter_map(|(name, value)| {
        let value = from_base64(value.as_str()?)?;
        let is_name =
            name.starts_with(USER) && name.len() > USER.len() && name.len() <= NAME_BYTES_MAX && !name.contains('\0');
        (is_name && value.len() <= VALUE_BYTES_MAX).then(|| (Bytes::from(name), Bytes::from(value)))
    });
    Some(found.take(XATTRS_MAX).collect())
}
