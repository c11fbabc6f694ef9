use super::*;
use crate::store::content::{Check, Local};
use crate::store::{Header, Layout, Mark};
use alluxio_common::checksum::crc32c;
use alluxio_proto::InodeId;
use alluxio_proto::types::UfsSource;
use std::fs::File;
use std::os::unix::fs::FileExt;

const CHUNKS: u64 = 40;
const INODE: InodeId = InodeId(7);

fn bytes_of(chunk: u64, salt: u8) -> Vec<u8> {
    vec![chunk as u8 ^ salt; CHUNK_BYTES as usize]
}

/// A file that the kernel writes past us.
struct Rig {
    _dir: tempfile::TempDir,
    layout: Layout,
    entry: Entry,
    /// As the kernel has it.
    past_us: File,
    version: u64,
}

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        let entry = Entry::create(&layout, Header::open_new(INODE.get(), 3)).unwrap();
        entry.begin_passing(true);
        entry.pass(Passing::Watched);
        entry.set_writable_fd_out().unwrap();
        entry.note_announcing();
        assert!(entry.is_guarded());
        let path = layout.data(INODE, entry.view().header.generation);
        let past_us = File::options().write(true).open(path).unwrap();
        for chunk in 0..CHUNKS {
            past_us
                .write_all_at(&bytes_of(chunk, 100), chunk * CHUNK_BYTES)
                .unwrap();
        }
        Rig {
            _dir: dir,
            layout,
            entry,
            past_us,
            version: 3,
        }
    }

    fn seal(&mut self) {
        let stat = io::stat(&self.entry.data).unwrap();
        let holes = self.entry.checksum_changes(&stat).unwrap();
        let next = self.version + 1;
        self.entry
            .label_sealed(self.version, next, &stat, holes, &self.layout.boot_id)
            .unwrap();
    }

    fn seal_held(&mut self) {
        self.seal();
        self.entry.note_sealed();
    }

    fn store(&mut self) {
        let length = self.entry.view().header.sealed.unwrap().length;
        let ufs = UfsSource {
            length,
            ..UfsSource::default()
        };
        let epoch = self.entry.view().content_epoch;
        assert!(self.entry.label_persisted(self.version, epoch, ufs).unwrap());
        self.version += 1;
    }

    /// All of it but the start and the end goes.
    fn spill(&mut self) {
        assert!(self.entry.begin_spilling());
        self.entry.drain().unwrap();
        self.seal_held();
        self.store();
        assert!(self.entry.give_up_stored().unwrap() > 10 * CHUNK_BYTES);
        self.entry.end_spilling();
    }

    fn read(&self, chunk: u64) -> Local {
        let range = chunk * CHUNK_BYTES..(chunk + 1) * CHUNK_BYTES;
        self.entry.read_local(range, false, Check::Always).unwrap()
    }

    #[track_caller]
    fn assert_reads(&self, chunk: u64, bytes: &[u8]) {
        match self.read(chunk) {
            Local::Data(found) => assert!(found == bytes),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn nobody_reads_past_us_what_is_not_here() {
    let mut rig = Rig::new();
    rig.spill();
    assert!(matches!(rig.read(20), Local::Missing), "a hole for content");
    rig.assert_reads(3, &bytes_of(3, 100));
    assert!(rig.entry.is_spilled());
    assert!(!rig.entry.pass(Passing::Anyhow));
    assert!(rig.entry.pass(Passing::Watched));
    assert!(rig.entry.is_guarded(), "nothing came of it");
    // Nor after a crash of this process, whose descriptors are out still.
    let again = Entry::load(&rig.layout, INODE).unwrap().unwrap();
    assert!(again.writable_fd_out() && again.is_spilled() && !again.is_guarded());
    assert!(!again.pass(Passing::Anyhow));
    // What is emptied is spilled no more.
    rig.entry.truncate_local(&rig.layout).unwrap();
    assert!(!rig.entry.is_spilled());
    assert!(rig.entry.pass(Passing::Anyhow));
    assert!(!rig.entry.is_guarded());
    assert!(!rig.entry.begin_spilling(), "somebody can read it past us");
}

#[test]
fn what_is_announced_is_ready_once_it_is_here_and_marked() {
    let mut rig = Rig::new();
    let within = |chunk: u64| chunk * CHUNK_BYTES + 5..chunk * CHUNK_BYTES + 10;
    assert!(rig.entry.is_ready_for(&within(20)), "nothing lies under it");
    rig.spill();
    assert!(!rig.entry.is_ready_for(&within(20)));
    assert!(!rig.entry.is_ready_for(&within(3)));
    rig.entry.mark_announced(3..4).unwrap();
    // Who appends announces another place.
    assert!(!rig.entry.is_ready_for(&within(3)));
    rig.entry.mark_announced(CHUNKS - 1..CHUNKS).unwrap();
    assert!(rig.entry.is_ready_for(&within(3)));
    assert!(
        rig.entry
            .is_ready_for(&(CHUNKS * CHUNK_BYTES..(CHUNKS + 3) * CHUNK_BYTES))
    );
    let again = Entry::load(&rig.layout, INODE).unwrap().unwrap();
    assert_eq!(
        again.marks(3, 1).unwrap(),
        [Mark::Dirty],
        "the base comes back after a cut of the power"
    );
}

#[test]
fn unannounced_changes_of_what_is_here_are_ours() {
    let mut rig = Rig::new();
    rig.spill();
    rig.past_us.write_all_at(&bytes_of(3, 7), 3 * CHUNK_BYTES).unwrap();
    // Who reads it first takes it for damage.
    assert!(matches!(rig.read(3), Local::Corrupt(3)));
    assert!(rig.entry.forget_chunk(3).unwrap());
    rig.assert_reads(3, &bytes_of(3, 7));
    // Who seals it finds it by its checksum.
    rig.past_us.write_all_at(&bytes_of(5, 7), 5 * CHUNK_BYTES).unwrap();
    rig.seal();
    let clean = rig.entry.clean_ranges(CHUNKS * CHUNK_BYTES).unwrap().unwrap();
    let is_clean = |chunk: u64| clean.iter().any(|range| range.contains(&(chunk * CHUNK_BYTES)));
    assert!(!is_clean(3) && !is_clean(5));
    assert!(is_clean(4) && is_clean(20), "{clean:?}");
    rig.assert_reads(5, &bytes_of(5, 7));
}

#[test]
fn what_changes_unannounced_during_the_upload_is_not_given_up() {
    let mut rig = Rig::new();
    assert!(rig.entry.begin_spilling());
    rig.seal_held();
    rig.past_us.write_all_at(&bytes_of(25, 7), 25 * CHUNK_BYTES).unwrap();
    rig.store();
    assert!(rig.entry.give_up_stored().unwrap() > 10 * CHUNK_BYTES);
    rig.entry.end_spilling();
    assert!(matches!(rig.read(24), Local::Missing));
    rig.assert_reads(25, &bytes_of(25, 7));
}

#[test]
fn a_part_of_a_block_written_unannounced_where_nothing_is_here_is_damage() {
    let mut rig = Rig::new();
    rig.spill();
    rig.past_us.write_all_at(&[9; 5000], 20 * CHUNK_BYTES + 4096).unwrap();
    // Not overwritten by a fetch that comes meanwhile.
    rig.past_us.write_all_at(&[9; 5000], 30 * CHUNK_BYTES).unwrap();
    let (_, _, epoch) = rig.entry.source().unwrap();
    for chunk in [20, 29] {
        let fetched: Vec<u8> = (chunk..chunk + 3).flat_map(|chunk| bytes_of(chunk, 100)).collect();
        rig.entry.fill(epoch, chunk * CHUNK_BYTES, &fetched).unwrap().unwrap();
    }
    rig.assert_reads(29, &bytes_of(29, 100));
    rig.assert_reads(31, &bytes_of(31, 100));
    rig.seal();
    for chunk in [20, 30] {
        assert_eq!(rig.entry.marks(chunk, 1).unwrap(), [Mark::Damaged]);
        assert!(matches!(rig.read(chunk), Local::Corrupt(at) if at == chunk));
        assert!(!rig.entry.forget_chunk(chunk).unwrap(), "nobody else has it");
        let range = chunk * CHUNK_BYTES..(chunk + 1) * CHUNK_BYTES;
        let uploaded = rig.entry.read_sealed(range, CHUNKS * CHUNK_BYTES).unwrap();
        assert_eq!(uploaded, None, "zeros, or the object's bytes, for what was written");
    }
}

/// It came after the base was brought for all that was there: whole blocks of it are the program's, which only the base tells.
#[test]
fn nothing_is_damaged_before_the_base_is_at_hand() {
    let mut rig = Rig::new();
    rig.spill();
    rig.past_us.write_all_at(&[9; 8192], 20 * CHUNK_BYTES + 4096).unwrap();
    let stat = io::stat(&rig.entry.data).unwrap();
    let error = rig.entry.checksum_changes(&stat).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    assert_eq!(rig.entry.marks(20, 1).unwrap(), [Mark::Absent]);
    let (_, _, epoch) = rig.entry.source().unwrap();
    rig.entry
        .fill(epoch, 20 * CHUNK_BYTES, &bytes_of(20, 100))
        .unwrap()
        .unwrap();
    rig.seal();
    let mut wanted = bytes_of(20, 100);
    wanted[4096..12288].fill(9);
    rig.assert_reads(20, &wanted);
}

/// The process is killed when bytes are about to go, and before they have gone. Programs write on meanwhile: also between two
/// looks of who finds these bytes, so that nothing is punched before accesses wait.
#[test]
fn what_was_about_to_go_at_a_crash_is_no_damage() {
    let mut rig = Rig::new();
    assert!(rig.entry.begin_spilling());
    rig.seal_held();
    rig.store();
    assert!(rig.entry.give_up_stored().unwrap() > 10 * CHUNK_BYTES);
    // As if the bytes of three had stayed, and somebody had put others into one since.
    for (chunk, salt) in [(20, 100), (21, 100), (22, 7)] {
        rig.past_us
            .write_all_at(&bytes_of(chunk, salt), chunk * CHUNK_BYTES)
            .unwrap();
    }
    let going = [20, 21, 22, 23].map(|chunk| Mark::Going(crc32c(&bytes_of(chunk, 100))));
    rig.entry.sidecar.set_marks(20, &going).unwrap();
    let disk_bytes = rig.entry.disk_bytes();
    rig.entry = Entry::load(&rig.layout, INODE).unwrap().unwrap();
    assert_eq!(
        rig.entry.disk_bytes(),
        disk_bytes,
        "a write that comes just now is punched"
    );
    assert_eq!(rig.entry.marks(20, 4).unwrap(), going);
    assert_eq!(rig.entry.unannounced().unwrap(), [22]);
    // A part of what was about to go is written anew.
    rig.past_us.write_all_at(&[9; 100], 21 * CHUNK_BYTES + 5000).unwrap();
    assert_eq!(rig.entry.unannounced().unwrap(), [21, 22]);
    let mut partly = bytes_of(21, 100);
    partly[5000..5100].fill(9);
    let (_, _, epoch) = rig.entry.source().unwrap();
    let fetched: Vec<u8> = (20..24).flat_map(|chunk| bytes_of(chunk, 100)).collect();
    rig.entry.fill(epoch, 20 * CHUNK_BYTES, &fetched).unwrap().unwrap();
    rig.assert_reads(20, &bytes_of(20, 100));
    rig.assert_reads(21, &partly);
    rig.assert_reads(22, &bytes_of(22, 7));
    rig.assert_reads(23, &bytes_of(23, 100));
}

/// What a crash or a failure kept from going goes with the next spill.
#[test]
fn what_was_about_to_go_goes_while_accesses_wait() {
    let mut rig = Rig::new();
    rig.spill();
    for (chunk, salt) in [(20, 100), (21, 100), (22, 7)] {
        rig.past_us
            .write_all_at(&bytes_of(chunk, salt), chunk * CHUNK_BYTES)
            .unwrap();
    }
    let going = [20, 21, 22].map(|chunk| Mark::Going(crc32c(&bytes_of(chunk, 100))));
    rig.entry.sidecar.set_marks(20, &going).unwrap();
    let (_, _, epoch) = rig.entry.source().unwrap();
    rig.entry
        .fill(epoch, 22 * CHUNK_BYTES, &bytes_of(22, 100))
        .unwrap()
        .unwrap();
    let before = rig.entry.disk_bytes();
    assert!(rig.entry.begin_spilling());
    rig.seal_held();
    rig.store();
    rig.entry.give_up_stored().unwrap();
    rig.entry.end_spilling();
    assert!(rig.entry.disk_bytes() + 2 * CHUNK_BYTES <= before);
    for chunk in [20, 21] {
        assert_eq!(rig.entry.marks(chunk, 1).unwrap(), [Mark::Absent]);
    }
    // As any that is here and stored.
    assert!(matches!(rig.read(22), Local::Missing));
}

/// The process is killed, or the disk is full, between the bytes of a fetch and their marks, and between marks and punching.
#[test]
fn what_we_left_ourselves_is_no_damage() {
    let mut rig = Rig::new();
    rig.spill();
    // Half of a chunk was fetched.
    let fetched = bytes_of(20, 100);
    rig.past_us.write_all_at(&fetched[..8192], 20 * CHUNK_BYTES).unwrap();
    assert_eq!(rig.entry.unannounced().unwrap(), [20]);
    let (_, _, epoch) = rig.entry.source().unwrap();
    rig.entry.fill(epoch, 20 * CHUNK_BYTES, &fetched).unwrap().unwrap();
    rig.assert_reads(20, &fetched);
    assert_eq!(rig.entry.marks(20, 1).unwrap(), [Mark::Clean(crc32c(&fetched))]);
    // A chunk was not punched.
    rig.past_us.write_all_at(&bytes_of(25, 100), 25 * CHUNK_BYTES).unwrap();
    let going = Mark::Going(crc32c(&bytes_of(25, 100)));
    rig.entry.sidecar.set_marks(25, &[going]).unwrap();
    rig.seal();
    assert_eq!(rig.entry.marks(25, 1).unwrap(), [going]);
    assert!(matches!(rig.read(25), Local::Missing));
    let clean = rig.entry.clean_ranges(CHUNKS * CHUNK_BYTES).unwrap().unwrap();
    assert!(
        clean.iter().any(|range| range.contains(&(25 * CHUNK_BYTES))),
        "{clean:?}"
    );
}

/// The worker was down, and programs wrote on.
#[test]
fn whole_blocks_that_nobody_announced_are_the_programs() {
    let mut rig = Rig::new();
    rig.spill();
    rig.past_us.write_all_at(&[9; 8192], 20 * CHUNK_BYTES + 4096).unwrap();
    let (_, _, epoch) = rig.entry.source().unwrap();
    rig.entry
        .fill(epoch, 20 * CHUNK_BYTES, &bytes_of(20, 100))
        .unwrap()
        .unwrap();
    let mut wanted = bytes_of(20, 100);
    wanted[4096..12288].fill(9);
    rig.assert_reads(20, &wanted);
    assert_eq!(rig.entry.marks(20, 1).unwrap(), [Mark::DirtyUnsynced]);
}

#[test]
fn only_what_was_sealed_while_accesses_wait_is_given_up() {
    let mut rig = Rig::new();
    rig.seal();
    rig.store();
    // Written past us, unarmed.
    rig.past_us.write_all_at(&bytes_of(3, 7), 3 * CHUNK_BYTES).unwrap();
    assert!(rig.entry.begin_spilling());
    assert_eq!(rig.entry.give_up_stored().unwrap(), 0);
    assert!(rig.entry.view().header.whole, "it rests on what it is no more");
    rig.entry.end_spilling();
}

#[test]
fn a_sync_finds_what_nobody_announced() {
    let mut rig = Rig::new();
    rig.spill();
    rig.past_us.write_all_at(&bytes_of(3, 7), 3 * CHUNK_BYTES).unwrap();
    rig.entry.sync_open(true).unwrap();
    let marks = rig.entry.marks(3, 2).unwrap();
    assert_eq!(marks, [Mark::Dirty, Mark::Clean(crc32c(&bytes_of(4, 100)))]);
}

#[test]
fn a_cut_of_the_power_heals_no_damage() {
    let mut rig = Rig::new();
    rig.spill();
    rig.past_us.write_all_at(&[9; 5000], 20 * CHUNK_BYTES).unwrap();
    let (_, _, epoch) = rig.entry.source().unwrap();
    rig.entry
        .fill(epoch, 20 * CHUNK_BYTES, &bytes_of(20, 100))
        .unwrap()
        .unwrap();
    rig.seal();
    assert_eq!(rig.entry.marks(20, 1).unwrap(), [Mark::Damaged]);
    let version = rig.entry.view().header.version;
    rig.entry.distrust_open(version).unwrap();
    assert!(matches!(rig.read(20), Local::Corrupt(20)), "it counts as ours");
}

#[test]
fn accesses_go_on_during_the_upload_and_mark_what_they_change() {
    let mut rig = Rig::new();
    for (round, chunk) in [(0, 25), (1, 26)] {
        assert!(rig.entry.begin_spilling());
        rig.seal_held();
        let length = io::stat(&rig.entry.data).unwrap().size;
        rig.entry.let_accesses_go();
        assert!(!rig.entry.is_held());
        // One in what was sealed, and one at its end, which is in the middle of a chunk in the second round.
        let at = chunk * CHUNK_BYTES;
        assert!(!rig.entry.is_ready_for(&(at..at + 10)));
        if rig.entry.missing(chunk..chunk + 1).is_empty() {
            rig.entry.mark_announced(chunk..chunk + 1).unwrap();
            rig.past_us.write_all_at(&bytes_of(chunk, 7), at).unwrap();
        }
        let last = (length - 1) / CHUNK_BYTES;
        rig.entry.mark_announced(last..last + 1).unwrap();
        rig.past_us.write_all_at(&[5; 5000], length).unwrap();
        // What was sealed can still be read for the upload where it is appended to.
        let tail = last * CHUNK_BYTES..length;
        assert!(rig.entry.read_sealed(tail, length).unwrap().is_some(), "round {round}");
        rig.store();
        assert_eq!(rig.entry.give_up_stored().unwrap(), 0, "accesses do not wait");
        assert!(rig.entry.hold_accesses());
        rig.entry.give_up_stored().unwrap();
        rig.entry.end_spilling();
        assert!(matches!(rig.read(24), Local::Missing));
        if round == 0 {
            rig.assert_reads(25, &bytes_of(25, 7));
        }
        let marks = rig.entry.marks(last, 1).unwrap();
        assert!(!matches!(marks[0], Mark::Clean(_)), "{marks:?}");
    }
    // A seal of a writer meanwhile: what it did not see is not known.
    assert!(rig.entry.begin_spilling());
    rig.seal_held();
    rig.entry.let_accesses_go();
    rig.seal_held();
    rig.store();
    assert!(rig.entry.hold_accesses());
    assert_eq!(rig.entry.give_up_stored().unwrap(), 0);
}
