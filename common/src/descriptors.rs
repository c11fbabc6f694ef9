//! How many files this process may still open.
//!
//! The kernel gives each new descriptor the lowest free number, so a high number says how many are in use: no count is kept, and
//! all parts of a process share the one truth. What is only faster with a descriptor does without once they are scarce, so that
//! what cannot do without still gets one.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// Of this share of the limit on, descriptors are scarce.
const SCARCE_SHARE: (u64, u64) = (4, 8);
/// And of this one on nothing that keeps a descriptor for long is begun: what is under way needs the rest.
const LAST_SHARE: (u64, u64) = (7, 8);

/// Whether descriptors are scarce, as this one shows, which was just made.
pub fn are_scarce(newest: &impl AsFd) -> bool {
    u64::try_from(newest.as_fd().as_raw_fd()).is_ok_and(|number| number >= share_of_limit(SCARCE_SHARE))
}

/// Whether only those are left that what is under way needs; asked by duplicating `any` for a moment.
pub fn are_nearly_used_up(any: &impl AsFd) -> bool {
    let Ok(number) = fcntl(any, FcntlArg::F_DUPFD_CLOEXEC(0)) else {
        return true;
    };
    // SAFETY: it was just made, and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
    u64::try_from(number).is_ok_and(|number| number >= share_of_limit(LAST_SHARE))
}

/// Whether an error says that there are none left.
pub fn are_used_up(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

/// The limit is raised once, before anything is served.
fn share_of_limit((part, of): (u64, u64)) -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    let limit = *LIMIT.get_or_init(|| {
        let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
        // 1,024 is what processes are given everywhere.
        let (soft, _) = limit.unwrap_or((1024, 1024));
        soft
    });
    limit / of * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_high_number_is_a_scarce_one() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(!are_scarce(&file));
        let from = i32::try_from(share_of_limit(LAST_SHARE)).unwrap();
        let high = fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(from)).unwrap();
        // SAFETY: the same as above.
        let high = unsafe { OwnedFd::from_raw_fd(high) };
        assert!(are_scarce(&high));
        assert!(!are_nearly_used_up(&high), "the lowest free number counts");
        assert!(are_used_up(&Errno::EMFILE.into()));
        assert!(!are_used_up(&Errno::EIO.into()));
    }
}
