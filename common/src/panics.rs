//! Panics that somebody waits for: code of others that cannot be trusted with what is on the disk.

use std::cell::Cell;
use std::panic::{UnwindSafe, catch_unwind};

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, which may panic; `None` if it did. The process's panic hook asks [`is_expected`], and does not end the role.
/// Panics of threads that `work` starts are not expected.
pub fn expecting<T>(work: impl FnOnce() -> T + UnwindSafe) -> Option<T> {
    let before = EXPECTED.replace(true);
    let done = catch_unwind(work);
    EXPECTED.set(before);
    done.ok()
}

/// Whether a panic of this thread is expected now.
pub fn is_expected() -> bool {
    EXPECTED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_expected_only_within() {
        assert_eq!(expecting(|| u32::from(is_expected())), Some(1));
        assert_eq!(expecting(|| -> u32 { panic!("as expected") }), None);
        assert!(!is_expected());
    }
}
