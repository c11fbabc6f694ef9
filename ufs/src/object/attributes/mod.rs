//! Attributes as user metadata of objects: keys that s3fs and rclone know where they agree, ours for what they cannot say.
//! `docs/s3-attributes.md` lists them.
//!
//! Promises: what is written comes back; what others wrote is read in s3fs's form and in rclone's; a value that makes no sense is
//! as if it were not there. Left out: access lists, attributes outside `user.`, device numbers.

mod times;
mod xattrs;

#[cfg(test)]
mod tests;

use alluxio_common::users;
use alluxio_proto::types::FileKind;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::client::Metadata;
use crate::UfsAttributes;

/// Kind and permission bits, decimal, as `st_mode` has them (s3fs).
const MODE: &str = "mode";
const UID: &str = "uid";
const GID: &str = "gid";
const MTIME: &str = "mtime";
const ATIME: &str = "atime";
/// s3fs's; we neither write nor read it, but it would be wrong after a change of ours.
const CTIME: &str = "ctime";
const XATTR: &str = "xattr";
/// `NUMBER:NAME`, the name percent-encoded: it counts while the number is that of [`UID`]. Older software wrote the name alone.
const OWNER: &str = "alluxio-owner";
const GROUP: &str = "alluxio-group";
/// Names the bytes of a write.
const WRITE_ID: &str = "alluxio-write-id";
/// ETag of what an object was copied from to give it other attributes.
const COPIED_FROM: &str = "alluxio-copied-from";
/// On a folder's marker: what is in the folder may carry attributes.
const MARK: &str = "alluxio-attributes";
const MARK_FORMAT: &str = "1";
/// Of older software: octal, and nanoseconds since 1970.
const OLD_MODE: &str = "alluxio-mode";
const OLD_MTIME: &str = "alluxio-mtime";
/// Keys that begin so are ours.
const OURS: &str = "alluxio-";
/// What S3 lets the names and values of an object's user metadata have together.
const METADATA_BYTES_MAX: usize = 2048;

const TYPE: u32 = libc::S_IFMT;
/// What fits the type of a Unix mode; more are not kept.
const MODE_MAX: u32 = 0o177_777;

/// Whether attributes are kept with objects, and looked for in listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Looked for in folders whose marker says that what is in them carries some.
    Auto,
    /// Looked for at every object.
    Always,
    /// Neither written nor read.
    Never,
}

impl Policy {
    /// By the word of the configuration.
    pub fn parse(word: &str) -> Self {
        match word {
            "ALWAYS" => Self::Always,
            "NEVER" => Self::Never,
            _ => Self::Auto,
        }
    }
}

/// What an object says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub attributes: UfsAttributes,
    /// Its bytes are the target of a symbolic link.
    pub is_link: bool,
    /// ETag of what it was copied from to get its attributes.
    pub copied_from: Option<String>,
}

/// As metadata of an object of that kind.
pub(super) fn to_metadata(attributes: &UfsAttributes, kind: FileKind) -> Metadata {
    let owner = attributes.owner.as_deref().map(|name| (users::name_to_uid(name), name));
    let group = attributes.group.as_deref().map(|name| (users::name_to_gid(name), name));
    let number = |who: Option<(Option<u32>, &str)>| who.and_then(|(id, _)| id).map(|id| id.to_string());
    let mode = attributes
        .mode
        .map(|mode| (type_of(kind) | (mode & 0o7777)).to_string());
    let xattrs = attributes.xattrs.as_deref().filter(|xattrs| !xattrs.is_empty());
    [
        (MODE, mode),
        (UID, number(owner)),
        (GID, number(group)),
        (MTIME, attributes.mtime_ns.map(times::to_text)),
        (ATIME, attributes.atime_ns.map(times::to_text)),
        (OWNER, owner.and_then(named)),
        (GROUP, group.and_then(named)),
        (XATTR, xattrs.and_then(xattrs::to_text)),
        (WRITE_ID, attributes.write_id.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// What others wrote and makes no sense is left out.
pub(super) fn from_metadata(metadata: &Metadata, kind: FileKind) -> Found {
    let find = |name: &str| find(metadata, name);
    let (mode, is_link) = match find(MODE).and_then(|text| mode_of(text, kind)) {
        Some((mode, kind)) => (Some(mode), kind == FileKind::Symlink),
        None => (find(OLD_MODE).and_then(octal).map(|mode| mode & 0o7777), false),
    };
    let time = |text| times::from_text(text);
    let id = |name| find(name).and_then(id_of);
    Found {
        attributes: UfsAttributes {
            mode,
            owner: owner_of(find(OWNER), id(UID), users::name_to_uid, users::uid_to_name),
            group: owner_of(find(GROUP), id(GID), users::name_to_gid, users::gid_to_name),
            mtime_ns: find(MTIME)
                .and_then(time)
                .or_else(|| find(OLD_MTIME).and_then(|text| text.parse().ok())),
            atime_ns: find(ATIME).and_then(time),
            xattrs: find(XATTR).and_then(xattrs::from_text),
            // s3fs notes with each write when it made it, and keeps what it does not know: the bytes may be others by then.
            write_id: find(WRITE_ID).filter(|_| find(CTIME).is_none()).map(str::to_owned),
            carried: None,
        },
        is_link,
        copied_from: find(COPIED_FROM).map(str::to_owned),
    }
}

/// What is to be, where a change says nothing of something.
pub(super) fn merged(wanted: &UfsAttributes, there: &UfsAttributes) -> UfsAttributes {
    UfsAttributes {
        mode: wanted.mode.or(there.mode),
        owner: wanted.owner.clone().or_else(|| there.owner.clone()),
        group: wanted.group.clone().or_else(|| there.group.clone()),
        mtime_ns: wanted.mtime_ns.or(there.mtime_ns),
        atime_ns: wanted.atime_ns.or(there.atime_ns),
        xattrs: wanted.xattrs.clone().or_else(|| there.xattrs.clone()),
        // The bytes stay.
        write_id: there.write_id.clone(),
        carried: None,
    }
}

/// Whether a key says something of a file that would be wrong, or twice there, after we have written it. With
/// [`Policy::Never`] only what is said of the bytes is.
pub(super) fn is_replaced(name: &str, policy: Policy) -> bool {
    match name {
        MTIME | ATIME | CTIME => true,
        MODE | UID | GID | XATTR => policy != Policy::Never,
        name => name.starts_with(OURS),
    }
}

/// Leaves out attributes of users that the store would refuse the whole write for.
pub(super) fn fit(metadata: &mut Metadata) -> bool {
    let bytes = |metadata: &Metadata| {
        let sizes = metadata.iter().map(|(name, value)| name.len() + value.len());
        sizes.sum::<usize>()
    };
    if bytes(metadata) <= METADATA_BYTES_MAX {
        return true;
    }
    metadata.retain(|(name, _)| name != XATTR);
    false
}

/// The mark of a folder.
pub(super) fn mark() -> (String, String) {
    (MARK.to_owned(), MARK_FORMAT.to_owned())
}

/// That an object is a copy of one with that ETag.
pub(super) fn copied_from(etag: &str) -> (String, String) {
    (COPIED_FROM.to_owned(), etag.to_owned())
}

/// Whether a folder with that marker is one in which objects carry attributes: by our mark, or because a program that keeps them
/// with folders (s3fs) made it.
pub(super) fn says_attributes(marker: &Metadata) -> bool {
    find(marker, MARK).is_some() || (find(marker, MODE).is_some() && find(marker, UID).is_some())
}

/// Whether a marker has our mark, so that other programs of ours need not set it.
pub(super) fn is_marked(marker: &Metadata) -> bool {
    find(marker, MARK).is_some()
}

fn find<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a str> {
    let pair = metadata.iter().find(|(key, _)| key == name);
    pair.map(|(_, value)| value.as_str())
}

fn type_of(kind: FileKind) -> u32 {
    match kind {
        FileKind::Directory => libc::S_IFDIR,
        FileKind::Symlink => libc::S_IFLNK,
        _ => libc::S_IFREG,
    }
}

/// Permission bits and kind, from s3fs's decimal or rclone's octal number. Which of the two it is shows by the type that it
/// holds, which must be one that an object of that kind can have; links are s3fs's and ours alone.
fn mode_of(text: &str, kind: FileKind) -> Option<(u32, FileKind)> {
    let digits = |text: &str| !text.is_empty() && text.len() <= 7 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(text) {
        return None;
    }
    let decimal = text
        .parse()
        .ok()
        .filter(|mode| *mode <= MODE_MAX && !text.starts_with('0'));
    let octal = octal(text).filter(|mode| *mode <= MODE_MAX);
    let bits = |mode: u32| mode & 0o7777;
    if kind == FileKind::Directory {
        let is_dir = |mode: &u32| mode & TYPE == libc::S_IFDIR;
        return decimal
            .filter(is_dir)
            .or(octal.filter(is_dir))
            .map(|mode| (bits(mode), kind));
    }
    match (decimal, octal) {
        (Some(mode), _) if mode & TYPE == libc::S_IFREG => Some((bits(mode), FileKind::File)),
        (Some(mode), _) if mode & TYPE == libc::S_IFLNK => Some((bits(mode), FileKind::Symlink)),
        (_, Some(mode)) if mode & TYPE == libc::S_IFREG => Some((bits(mode), FileKind::File)),
        // As `chmod` takes it: a leading zero says that it is octal.
        (_, Some(mode)) if text.starts_with('0') && mode & TYPE == 0 => Some((bits(mode), FileKind::File)),
        _ => None,
    }
}

fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok()
}

fn id_of(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // The last one says "nobody" to chown.
    text.parse().ok().filter(|id| is_number && *id != u32::MAX)
}

/// Of a name that is but its number, nothing is to be said.
fn named((id, name): (Option<u32>, &str)) -> Option<String> {
    let number = id.map_or(String::new(), |id| id.to_string());
    let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC);
    (number != name).then(|| format!("{number}:{encoded}"))
}

/// The name, unless somebody has changed the number since, or this host does not know the name: then the number.
fn owner_of(
    named: Option<&str>,
    id: Option<u32>,
    id_of_name: impl Fn(&str) -> Option<u32>,
    name_of_id: impl Fn(u32) -> String,
) -> Option<String> {
    let decode = |name: &str| Some(percent_decode_str(name).decode_utf8().ok()?.into_owned());
    let valid = |name: &String| !name.is_empty() && !name.contains(['\0', '\n', ':']);
    let (number, name) = match named.map(|named| named.split_once(':').unwrap_or(("", named))) {
        Some((number, name)) => (number, decode(name).filter(valid)),
        None => ("", None),
    };
    match (name, id) {
        (Some(name), None) => Some(name),
        (Some(name), Some(id)) if number == id.to_string() && id_of_name(&name).is_some() => Some(name),
        (_, Some(id)) => Some(name_of_id(id)),
        (None, None) => None,
    }
}
