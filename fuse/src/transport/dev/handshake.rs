//! The handshake: what the kernel offers, what we take of it.

use super::decode::InitIn;
use super::wire::{self, init};
use crate::transport::MAX_WRITE_BYTES;
use crate::transport::operations::Features;

/// Pages of the largest request. The kernel lowers it to its own bound.
const MAX_PAGES: u16 = (MAX_WRITE_BYTES / 4096) as u16;

/// Bytes of our answer.
pub const INIT_OUT_BYTES: usize = 64;

/// Our answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitOut {
    minor: u32,
    max_readahead: u32,
    flags: u64,
    max_background: u16,
    max_stack_depth: u32,
}

/// Why a kernel is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It speaks a newer protocol, and will speak ours when it hears which that is.
    Newer,
    /// It is too old.
    Older,
}

impl InitOut {
    /// Takes what we want of what is offered.
    ///
    /// # Errors
    /// If we have no protocol in common.
    pub fn negotiate(offered: &InitIn, features: &Features) -> Result<InitOut, Refused> {
        if offered.major > wire::MAJOR {
            return Err(Refused::Newer);
        }
        if offered.major < wire::MAJOR || offered.minor < wire::MINOR_MIN {
            return Err(Refused::Older);
        }
        // Not wanted: FUSE_WRITEBACK_CACHE, which excludes passthrough; FUSE_NO_OPEN and FUSE_NO_OPENDIR, since we need both
        // requests; FUSE_AUTO_INVAL_DATA, since we tell what is stale.
        let wanted = [
            (init::ASYNC_READ, true),
            (init::ATOMIC_O_TRUNC, true),
            (init::BIG_WRITES, true),
            (init::DO_READDIRPLUS, true),
            (init::READDIRPLUS_AUTO, true),
            (init::ASYNC_DIO, true),
            (init::PARALLEL_DIROPS, true),
            (init::MAX_PAGES, true),
            (init::CACHE_SYMLINKS, true),
            (init::INIT_EXT, true),
            (init::DIRECT_IO_ALLOW_MMAP, true),
            (init::POSIX_LOCKS | init::FLOCK_LOCKS, features.locks),
            (init::POSIX_ACL, features.acl),
            (init::DONT_MASK, features.umask),
            (init::HANDLE_KILLPRIV_V2, features.kill_privileges),
            (init::PASSTHROUGH, features.passthrough),
        ];
        let wanted = wanted
            .iter()
            .filter(|(_, wanted)| *wanted)
            .fold(0, |all, (flag, _)| all | flag);
        let flags = offered.flags & wanted;
        Ok(InitOut {
            minor: offered.minor.min(wire::MINOR),
            max_readahead: offered.max_readahead.min(MAX_WRITE_BYTES),
            flags,
            max_background: features.max_background,
            // The backing file's own file system is the only one beneath.
            max_stack_depth: u32::from(flags & init::PASSTHROUGH != 0),
        })
    }

    /// Whether the kernel will work on backing files.
    pub fn has_passthrough(&self) -> bool {
        self.flags & init::PASSTHROUGH != 0
    }

    /// As `struct fuse_init_out`.
    pub fn to_bytes(self) -> [u8; INIT_OUT_BYTES] {
        let congestion = u16::try_from(u32::from(self.max_background) * 3 / 4).unwrap_or(u16::MAX);
        let (low, high) = (self.flags as u32, (self.flags >> 32) as u32);
        let fields: [&[u8]; 13] = [
            &wire::MAJOR.to_ne_bytes(),
            &self.minor.to_ne_bytes(),
            &self.max_readahead.to_ne_bytes(),
            &low.to_ne_bytes(),
            &self.max_background.to_ne_bytes(),
            &congestion.to_ne_bytes(),
            &MAX_WRITE_BYTES.to_ne_bytes(),
            // Times are kept to the nanosecond.
            &1_u32.to_ne_bytes(),
            &MAX_PAGES.to_ne_bytes(),
            // No mapping of files into the device.
            &0_u16.to_ne_bytes(),
            &high.to_ne_bytes(),
            &self.max_stack_depth.to_ne_bytes(),
            // No time after which the kernel gives up, and room for the future.
            &[0; 24],
        ];
        let mut bytes = [0; INIT_OUT_BYTES];
        let mut at = 0;
        for field in fields {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX_6_18: InitIn = InitIn {
        major: 7,
        minor: 45,
        max_readahead: 128 << 10,
        flags: u64::MAX,
    };

    #[test]
    fn only_what_is_offered_and_wanted() {
        let features = Features::default();
        let all = InitOut::negotiate(&LINUX_6_18, &features).unwrap();
        assert_eq!(all.flags & (init::POSIX_LOCKS | init::POSIX_ACL | init::PASSTHROUGH), 0);
        assert_ne!(all.flags & init::PARALLEL_DIROPS, 0);
        assert_eq!(all.max_readahead, 128 << 10);
        assert_eq!(all.max_stack_depth, 0);

        let wants = Features {
            passthrough: true,
            locks: true,
            acl: true,
            ..features
        };
        let more = InitOut::negotiate(&LINUX_6_18, &wants).unwrap();
        assert!(more.has_passthrough() && more.max_stack_depth == 1);
        assert_ne!(more.flags & init::FLOCK_LOCKS, 0);
        let old = InitIn {
            minor: 31,
            flags: u64::from(u32::MAX) & !init::INIT_EXT,
            ..LINUX_6_18
        };
        let less = InitOut::negotiate(&old, &wants).unwrap();
        assert!(!less.has_passthrough() && less.max_stack_depth == 0 && less.minor == 31);
    }

    #[test]
    fn protocols_that_are_not_ours() {
        let refused = |major, minor| {
            let offered = InitIn {
                major,
                minor,
                ..LINUX_6_18
            };
            InitOut::negotiate(&offered, &Features::default()).unwrap_err()
        };
        assert_eq!(refused(8, 0), Refused::Newer);
        assert_eq!(refused(7, 30), Refused::Older);
        assert_eq!(refused(6, 99), Refused::Older);
    }

    #[test]
    fn the_layout_of_the_answer() {
        let wants = Features {
            passthrough: true,
            max_background: 100,
            ..Features::default()
        };
        let bytes = InitOut::negotiate(&LINUX_6_18, &wants).unwrap().to_bytes();
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let half = |at: usize| u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap());
        assert_eq!((word(0), word(4)), (7, 45));
        assert_eq!((half(16), half(18)), (100, 75));
        assert_eq!((word(20), word(24), half(28)), (1 << 20, 1, 256));
        assert_eq!(
            u64::from(word(32)) << 32,
            init::PASSTHROUGH | init::DIRECT_IO_ALLOW_MMAP
        );
        assert_eq!(word(36), 1, "stack depth");
    }
}
