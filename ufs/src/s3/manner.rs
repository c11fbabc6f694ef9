//! What a store understands of conditions and checksums, found out by asking.
//!
//! A request is tried as it should be, then without what the store may not know. The first way that succeeds is the store's
//! way from then on, which is said once; if none succeeds, the first refusal is the answer, and nothing was learned.

use std::sync::atomic::{AtomicBool, Ordering};

use alluxio_common::config::{Configuration, keys::underfs as keys};

use crate::UfsError;

/// Requests whose conditions a store may know or not, each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    Write,
    Read,
    Delete,
    Copy,
    /// Copies of objects onto themselves.
    Replace,
}

impl On {
    /// For a person.
    fn named(self) -> &'static str {
        match self {
            Self::Write => "If-Match and If-None-Match on writes",
            Self::Read => "If-Match on reads",
            Self::Delete => "If-Match on deletes",
            Self::Copy => "conditions on the source of copies",
            Self::Replace => "If-Match on copies of objects onto themselves",
        }
    }
}

/// The checksum that goes with a body, or is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sum {
    Crc32c,
    Md5,
    None,
}

impl Sum {
    /// What goes with an uploaded part of an upload that has copied parts, too.
    pub fn beside_copies(self) -> Self {
        match self {
            Self::Crc32c => Self::Md5,
            other => other,
        }
    }
}

/// One way to send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    /// With its condition, if it has one.
    pub conditional: bool,
    pub sum: Sum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Auto,
    Fixed,
}

/// What is known of one store.
#[derive(Debug)]
pub(super) struct Manners {
    conditions: Policy,
    /// By [`On`]: no conditions there.
    unconditional: [AtomicBool; 5],
    sums: Policy,
    /// What is sent if `sums` is fixed.
    sum: Sum,
    /// The store refuses CRC32C of what is written, and to tell that of what is read.
    no_crc32c: [AtomicBool; 2],
}

impl Manners {
    pub fn new(conf: &Configuration) -> Self {
        let conditions = conf.string(&keys::S3_CONDITIONAL_REQUESTS);
        let (sums, sum) = match conf.string(&keys::S3_CHECKSUM_ALGORITHM).as_str() {
            "CRC32C" => (Policy::Fixed, Sum::Crc32c),
            "MD5" => (Policy::Fixed, Sum::Md5),
            "NONE" => (Policy::Fixed, Sum::None),
            _ => (Policy::Auto, Sum::Crc32c),
        };
        let never = conditions == "NEVER";
        Self {
            conditions: if conditions == "AUTO" {
                Policy::Auto
            } else {
                Policy::Fixed
            },
            unconditional: std::array::from_fn(|_| AtomicBool::new(never)),
            sums,
            sum,
            no_crc32c: Default::default(),
        }
    }

    /// The checksum that the store is thought to know there.
    fn sum_of(&self, on: On) -> Sum {
        match self.sum {
            Sum::Crc32c if self.no_crc32c[usize::from(on == On::Read)].load(Ordering::Relaxed) => Sum::Md5,
            sum => sum,
        }
    }

    /// Ways to send a request, best first: a checksum is given up before a condition, which protects more.
    pub fn of(&self, on: On, has_condition: bool) -> Vec<Manner> {
        let known = self.unconditional[on as usize].load(Ordering::Relaxed);
        let conditions: &[bool] = match (has_condition && !known, self.conditions) {
            (false, _) => &[false],
            (true, Policy::Auto) => &[true, false],
            (true, Policy::Fixed) => &[true],
        };
        let has_sum = matches!(on, On::Write | On::Read);
        let sums: &[Sum] = match (self.sum_of(on), self.sums) {
            _ if !has_sum => &[Sum::None],
            (Sum::Crc32c, Policy::Auto) => &[Sum::Crc32c, Sum::Md5],
            (Sum::Crc32c, Policy::Fixed) => &[Sum::Crc32c],
            (Sum::Md5, _) => &[Sum::Md5],
            (Sum::None, _) => &[Sum::None],
        };
        let manner = |conditional| move |sum: &Sum| Manner { conditional, sum: *sum };
        conditions
            .iter()
            .flat_map(|conditional| sums.iter().map(manner(*conditional)))
            .collect()
    }

    /// Takes note of what a request succeeded with after `refused`, the answer to a better one.
    pub fn learn(&self, on: On, has_condition: bool, manner: Manner, refused: Option<&UfsError>, bucket: &str) {
        let Some(error) = refused else { return };
        let refused = &self.no_crc32c[usize::from(on == On::Read)];
        if manner.sum == Sum::Md5 && self.sum == Sum::Crc32c && !refused.swap(true, Ordering::Relaxed) {
            let what = match on {
                On::Read => "what is read is not held against them from now on",
                _ => "Content-MD5 goes with what is written from now on",
            };
            tracing::warn!(
                bucket, %error,
                "the store refuses CRC32C checksums: {what} (alluxio.underfs.s3.checksum.algorithm)"
            );
        }
        let lost = has_condition && !manner.conditional;
        if lost && !self.unconditional[on as usize].swap(true, Ordering::Relaxed) {
            tracing::warn!(
                bucket, %error,
                "the store refuses {}: from now on it is looked at just before, and what somebody changes between the two \
                 requests is not noticed (alluxio.underfs.s3.conditional.requests)",
                on.named()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UfsErrorKind;

    #[test]
    fn what_was_found_out_once_is_not_asked_again() {
        let manners = Manners::new(&Configuration::default());
        let all = manners.of(On::Write, true);
        assert_eq!(all.len(), 4);
        assert_eq!(
            all[0],
            Manner {
                conditional: true,
                sum: Sum::Crc32c
            }
        );
        assert_eq!(
            all[1],
            Manner {
                conditional: true,
                sum: Sum::Md5
            }
        );
        let refused = UfsError::new(UfsErrorKind::Unsupported, "501");
        manners.learn(On::Write, true, all[2], Some(&refused), "b");
        assert_eq!(
            manners.of(On::Write, true)[0],
            Manner {
                conditional: false,
                sum: Sum::Crc32c
            }
        );
        assert!(
            manners.of(On::Delete, true)[0].conditional,
            "each kind of request by itself"
        );
        manners.learn(
            On::Write,
            false,
            Manner {
                conditional: false,
                sum: Sum::Md5,
            },
            Some(&refused),
            "b",
        );
        assert_eq!(
            manners.of(On::Write, false),
            [Manner {
                conditional: false,
                sum: Sum::Md5
            }]
        );
        assert_eq!(manners.of(On::Copy, true).len(), 2, "no checksum goes with a copy");
    }

    #[test]
    fn the_keys_decide() {
        let with = |key: &str, value: &str| {
            let mut conf = Configuration::default();
            conf.set(key, value);
            Manners::new(&conf).of(On::Write, true)
        };
        let conditional = |all: Vec<Manner>| all.iter().map(|manner| manner.conditional).collect::<Vec<_>>();
        assert_eq!(
            conditional(with("alluxio.underfs.s3.conditional.requests", "ALWAYS")),
            [true, true]
        );
        assert_eq!(
            conditional(with("alluxio.underfs.s3.conditional.requests", "NEVER")),
            [false, false]
        );
        let sums = |value| {
            let all = with("alluxio.underfs.s3.checksum.algorithm", value);
            all.iter().map(|manner| manner.sum).collect::<Vec<_>>()
        };
        assert_eq!(sums("CRC32C"), [Sum::Crc32c, Sum::Crc32c]);
        assert_eq!(sums("MD5"), [Sum::Md5, Sum::Md5]);
        assert_eq!(sums("NONE"), [Sum::None, Sum::None]);
    }
}
