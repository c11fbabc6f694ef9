//! The smallest sequences that failed once.

use super::*;

fn runs(ops: Vec<Op>) {
    let mut world = World::new(heap_state(), ops.len().is_multiple_of(2));
    world.passes = true;
    for op in ops {
        world.run(op);
        world.check_names();
        world.check_sources();
    }
    world.check_end();
}

fn rename(from: usize, to: usize) -> Op {
    Op::Rename { from, to, flags: 0 }
}

fn create(at: usize, tag: u8) -> Op {
    Op::Create {
        at,
        tag,
        keep: 0,
        write_type: 0,
    }
}

/// The rename that was to replace `a/a` is refused, and then `a/a` is left behind by that of its folder: nobody wants it any more.
#[test]
fn what_a_refused_rename_was_to_replace_is_left_behind() {
    runs(vec![
        rename(2, 4),
        Op::Start { nth: 0 },
        Op::Mkdir {
            at: 12,
            cached_only: false,
        },
        Op::Start { nth: 1 },
        Op::Refuse { nth: 0 },
        rename(0, 3),
        Op::Start { nth: 2 },
        Op::Leave { nth: 1, choice: 3 },
    ]);
}

/// A new file takes over a name whose object is left behind, and moves back to where that is.
#[test]
fn the_name_of_what_is_left_behind_was_taken_over() {
    runs(vec![
        rename(0, 3),
        create(12, 1),
        rename(12, 8),
        Op::Start { nth: 0 },
        Op::Leave { nth: 0, choice: 7 },
        rename(3, 0),
    ]);
}

/// Three renames of a folder are pending, each of which gives what is in it another fingerprint, and behind them its removal.
#[test]
fn a_removal_behind_several_renames_knows_all_copies() {
    runs(vec![
        create(12, 0),
        rename(0, 3),
        rename(3, 0),
        rename(12, 4),
        rename(0, 3),
        Op::Unlink { at: 8 },
    ]);
}
