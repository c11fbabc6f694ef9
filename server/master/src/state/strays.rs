//! Strays: single objects that their store refuses to move or to delete, and what depends on them.
//!
//! A stray is an intent like any other: a rename or delete of one object, or the removal of one folder's marker, that was refused. So
//! what is at its paths is known to whoever looks or reads, and a person sees and settles it. What is special is that others need not
//! wait for it. [`passes`] says who goes on; `apply/strays.rs`, what that makes of the stray.

use super::records::{Intent, IntentKind};

/// How the proposer of a step means strays to be met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passing {
    /// They hold up only what depends on them.
    pub passes: bool,
    /// A rename of a folder can leave single objects where they are.
    pub keeps: bool,
}

/// Where an intent's path lies, seen from that of a stray.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// A folder above it.
    Above,
    /// The same.
    Exact,
    /// Beneath it, as if it were a folder.
    Beneath,
}

/// A stray in the way of an intent that goes on all the same.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    pub stray: Intent,
    /// They meet where the stray is to go, and nothing of it is; otherwise where it is.
    pub at_goal: bool,
    /// They meet at the target of the intent, which is a rename.
    pub at_target: bool,
    pub relation: Relation,
}

impl Passed {
    /// A rename that is to end at exactly the intent's path.
    pub fn is_missing_at(&self) -> bool {
        self.stray.kind() == IntentKind::Rename && self.at_goal && self.relation == Relation::Exact
    }
}

/// Whether `later` goes on although the stray was journaled before it and touches its path.
///
/// Where a stray *is*, its object is protected unless it is to be deleted anyway; where it is *to go*, there is nothing yet, so the
/// only question is what becomes of the stray then.
pub(super) fn passes(later: &Intent, met: &Passed, keeps: bool) -> bool {
    use IntentKind::{Delete, DeleteTree, Mkdir, Persist, Rename, Rmdir, SetAttr, Symlink};
    if later.is_across() {
        return false;
    }
    let is_unwanted = met.stray.kind() != Rename;
    // One that came back is where it is to go, and is done soon.
    let at_goal = met.at_goal && met.stray.path != met.stray.to_path;
    if met.stray.kind() == Rmdir {
        return later.kind() != SetAttr || met.relation == Relation::Above;
    }
    match (later.kind(), met.relation) {
        (Mkdir | Rmdir | DeleteTree | SetAttr, Relation::Above) => true,
        (Rename, Relation::Above) if later.is_folder() => met.at_goal || keeps,
        (Persist | Symlink | Delete, Relation::Exact) => at_goal || is_unwanted,
        (Rename, Relation::Exact) if !later.is_folder() => at_goal || (met.at_target && is_unwanted),
        _ => false,
    }
}
