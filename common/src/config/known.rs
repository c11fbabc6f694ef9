//! Which names are known: keys we honour, Alluxio's keys that have no effect here, and names that pass through.

use super::{Key, keys};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Alluxio 2.9's keys. Those among them that we honour are told apart by the registry.
static ACCEPTED: &str = include_str!("accepted.txt");

/// Starts of names that are for others to understand: options of the root mount, and of S3 and Hadoop clients.
const PASSED_THROUGH: [&str; 5] = [ROOT_OPTION, "s3a.", "fs.", "aws.", "dfs."];

/// Options of the root mount.
pub const ROOT_OPTION: &str = "alluxio.master.mount.table.root.option.";

/// Starts of Alluxio's keys that have a user's or tier's name in the middle.
const ACCEPTED_STARTS: [&str; 4] = [
    "alluxio.master.impersonation.",
    "alluxio.locality.",
    "alluxio.worker.tieredstore.level",
    "alluxio.master.tieredstore.global.level",
];

static HONOURED: LazyLock<HashMap<&'static str, &'static Key>> =
    LazyLock::new(|| keys::all().map(|key| (key.name, key)).collect());

/// What a name means to us.
#[derive(Clone, Copy, Debug)]
pub enum Meaning {
    /// A key we honour.
    Honoured(&'static Key),
    /// A key of Alluxio that has no effect here.
    NoEffect,
    /// For an under-storage to understand.
    PassedThrough,
    /// Nothing.
    Unknown,
}

/// What a name means to us.
pub fn meaning(name: &str) -> Meaning {
    if let Some(key) = HONOURED.get(name) {
        return Meaning::Honoured(key);
    }
    if PASSED_THROUGH.iter().any(|start| name.starts_with(start)) {
        return Meaning::PassedThrough;
    }
    let accepted = accepted().any(|key| key == name) || ACCEPTED_STARTS.iter().any(|start| name.starts_with(start));
    if accepted { Meaning::NoEffect } else { Meaning::Unknown }
}

/// The key we honour under that name.
pub fn find(name: &str) -> Option<&'static Key> {
    HONOURED.get(name).copied()
}

/// Names of Alluxio's keys.
pub(super) fn accepted() -> impl Iterator<Item = &'static str> {
    ACCEPTED.lines()
}

/// The known name that `name` probably is with a slip or two of the fingers, if there is one. Of two that are as near, the one
/// that we honour.
pub fn nearest(name: &str) -> Option<&'static str> {
    let honoured = keys::all().map(|key| key.name);
    let known = honoured.chain(accepted());
    let near = known.filter_map(|key| slips(key, name).map(|slips| (slips, key)));
    near.min_by_key(|(slips, _)| *slips).map(|(_, key)| key)
}

/// In how many letters two names differ, if it is so few that one may be meant by the other. Names share long starts, which say
/// nothing: of the words behind those, one letter in four may differ.
fn slips(key: &str, name: &str) -> Option<usize> {
    const LETTERS_PER_SLIP: usize = 4;
    let (key, name) = (key.to_ascii_lowercase(), name.to_ascii_lowercase());
    let shared = key.split('.').zip(name.split('.')).take_while(|(a, b)| a == b);
    let shared: usize = shared.map(|(word, _)| word.len() + 1).sum();
    let own = name.len().saturating_sub(shared);
    let allowed = own.div_ceil(LETTERS_PER_SLIP);
    // Cheaper than comparing.
    if key.len().abs_diff(name.len()) > allowed {
        return None;
    }
    let slips = strsim::osa_distance(&key, &name);
    (slips <= allowed).then_some(slips)
}

/// Whether the value of a key must not be shown: its name ends in what credentials are called.
pub fn is_credential(name: &str) -> bool {
    const ENDS: [&str; 10] = [
        "secretkey",
        "secretaccesskey",
        "accesskeyid",
        "accesskeysecret",
        "accesskey",
        "password",
        "token",
        "secret",
        "auth.key",
        "customer.key",
    ];
    let plain: String = name.to_ascii_lowercase().replace(['-', '_'], ".");
    let joined = plain.replace('.', "");
    ENDS.iter()
        .any(|end| plain.ends_with(end) || joined.ends_with(&end.replace('.', "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert!(matches!(meaning("alluxio.master.rpc.port"), Meaning::Honoured(_)));
        assert!(matches!(meaning("alluxio.fuse.jnifuse.enabled"), Meaning::NoEffect));
        assert!(matches!(
            meaning("alluxio.worker.tieredstore.level1.alias"),
            Meaning::NoEffect
        ));
        assert!(matches!(meaning("s3a.accessKeyId"), Meaning::Honoured(_)));
        assert!(matches!(meaning("s3a.whatever"), Meaning::PassedThrough));
        assert!(matches!(meaning("fs.azure.account.key.x"), Meaning::PassedThrough));
        assert!(matches!(
            meaning("alluxio.master.mount.table.root.option.a.b"),
            Meaning::PassedThrough
        ));
        assert!(matches!(meaning("alluxio.master.rpc.prt"), Meaning::Unknown));
        assert!(matches!(meaning("aluxio.master.rpc.port"), Meaning::Unknown));
    }

    #[test]
    fn nearest_names() {
        assert_eq!(nearest("alluxio.master.rpc.prt"), Some("alluxio.master.rpc.port"));
        assert_eq!(
            nearest("alluxio.user.file.write.type.default"),
            Some("alluxio.user.file.writetype.default")
        );
        assert_eq!(nearest("aluxio.worker.hostname"), Some("alluxio.worker.hostname"));
        assert_eq!(
            nearest("alluxio.underfs.s3.endpont"),
            Some("alluxio.underfs.s3.endpoint")
        );
        assert_eq!(nearest("s3a.accesskeyid"), Some("s3a.accessKeyId"));
        assert_eq!(nearest("s3a.accesKeyId"), Some("s3a.accessKeyId"));
        assert_eq!(
            nearest("alluxio.master.hotsname"),
            Some("alluxio.master.hostname"),
            "two letters swapped"
        );
        assert_eq!(nearest("completely.different"), None);
        // Long starts are no likeness.
        assert_eq!(nearest("alluxio.nope"), None);
        assert_eq!(nearest("alluxio.master.rpc.nope"), None);
        assert_eq!(nearest(""), None);
    }

    #[test]
    fn credentials() {
        for name in [
            "s3a.secretKey",
            "s3a.accessKeyId",
            "fs.oss.accessKeySecret",
            "fs.swift.password",
            "fs.gcs.secretAccessKey",
            "fs.azure.account.oauth2.client.secret",
            "aws.session.token",
            "alluxio.underfs.cephfs.auth.key",
            "fs.cos.access.key",
            "fs.cos.secret.key",
            "fs.kodo.accesskey",
            "alluxio.underfs.s3.server.side.encryption.customer.key",
        ] {
            assert!(is_credential(name), "{name}");
        }
        for name in [
            "alluxio.master.hostname",
            "alluxio.underfs.s3.endpoint",
            "alluxio.worker.keytab.file",
            "alluxio.underfs.s3.server.side.encryption.kms.key.id",
        ] {
            assert!(!is_credential(name), "{name}");
        }
    }
}
