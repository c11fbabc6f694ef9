use super::*;
use crate::store::content::{Check, Local};
use crate::store::{Header, Layout};
use alluxio_proto::InodeId;
use alluxio_proto::types::UfsSource;

const CHUNKS: u64 = 40;
const INODE: InodeId = InodeId(7);

fn at(length: u64) -> UfsSource {
    UfsSource {
        length,
        ..UfsSource::default()
    }
}

fn one(run: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(run).collect()
}

fn bytes_of(chunk: u64, salt: u8) -> Vec<u8> {
    vec![chunk as u8 ^ salt; CHUNK_BYTES as usize]
}

/// A new file that was written through the worker, and sealed while it stays open.
fn sealed(layout: &Layout) -> Entry {
    let entry = Entry::create(layout, Header::open_new(INODE.get(), 3)).unwrap();
    for chunk in 0..CHUNKS {
        entry.write_local(chunk * CHUNK_BYTES, &bytes_of(chunk, 0)).unwrap();
    }
    seal(&entry, layout, 3);
    entry
}

fn seal(entry: &Entry, layout: &Layout, version: u64) {
    let stat = io::stat(&entry.data).unwrap();
    let holes = entry.checksum_changes(&stat).unwrap();
    entry
        .label_sealed(version, version + 1, &stat, holes, &layout.boot_id)
        .unwrap();
    entry.sync(&stat, false).unwrap();
}

fn store(entry: &Entry, version: u64) {
    let length = entry.view().header.sealed.unwrap().length;
    let epoch = entry.view().content_epoch;
    assert!(entry.label_persisted(version, epoch, at(length)).unwrap());
}

fn read(entry: &Entry, chunk: u64) -> Option<Vec<u8>> {
    let range = chunk * CHUNK_BYTES..(chunk + 1) * CHUNK_BYTES;
    match entry.read_local(range, false, Check::Once).unwrap() {
        Local::Data(bytes) => Some(bytes.to_vec()),
        Local::Missing => None,
        other => panic!("{other:?}"),
    }
}

/// The power is cut when bytes go, and after it: each time the disk has just what was synced of the sidecar.
#[test]
fn at_a_cut_of_the_power_no_mark_lies_over_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::open(dir.path()).unwrap();
    let entry = sealed(&layout);
    store(&entry, 3);
    entry.write_local(20 * CHUNK_BYTES, &bytes_of(20, 99)).unwrap();
    assert!(entry.give_up_stored().unwrap() >= 20 * CHUNK_BYTES);
    let cuts = std::mem::take(&mut entry.sidecar.cuts.lock().unwrap().at_punches);
    assert_eq!(cuts.len(), 1);
    drop(entry);
    for (number, sidecar) in cuts.into_iter().enumerate() {
        std::fs::write(layout.sidecar(INODE), sidecar).unwrap();
        layout.boot_id = format!("another {number}");
        let after = Entry::load(&layout, INODE).unwrap().expect("it is held");
        let header = after.view().header;
        assert!(header.open && !header.whole && header.base.is_some(), "{header:?}");
        for chunk in 0..CHUNKS {
            let is_kept = !(HEAD_CHUNKS..CHUNKS - TAIL_CHUNKS).contains(&chunk) || chunk == 20;
            // What is the object's is fetched again after a cut.
            match read(&after, chunk) {
                Some(bytes) => assert_eq!(
                    (bytes, is_kept),
                    (bytes_of(chunk, if chunk == 20 { 99 } else { 0 }), true)
                ),
                None => assert_ne!(chunk, 20, "what was written is taken for the object's"),
            }
        }
    }
}

#[test]
fn what_is_given_up_is_missing_and_what_is_ours_stays() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open(dir.path()).unwrap();
    let entry = sealed(&layout);
    assert_eq!(entry.give_up_stored().unwrap(), 0, "nothing is stored yet");
    store(&entry, 3);
    let stat = io::stat(&entry.data).unwrap();
    assert!(entry.give_up_stored().unwrap() > 0);
    let now = io::stat(&entry.data).unwrap();
    assert_eq!((now.size, now.mtime_ns), (stat.size, stat.mtime_ns));
    assert!(!entry.changed_since_seal(&now, true), "nothing was changed");
    assert_eq!(entry.missing(0..CHUNKS), one(HEAD_CHUNKS..CHUNKS - TAIL_CHUNKS));
    // It comes back, and goes again without another upload; and so does what is appended, once that is stored.
    let (_, _, epoch) = entry.source().unwrap();
    entry.fill(epoch, 18 * CHUNK_BYTES, &bytes_of(18, 0)).unwrap();
    assert_eq!(read(&entry, 18), Some(bytes_of(18, 0)));
    for chunk in CHUNKS..2 * CHUNKS {
        entry.write_local(chunk * CHUNK_BYTES, &bytes_of(chunk, 0)).unwrap();
    }
    // And what was the end until now.
    assert_eq!(entry.give_up_stored().unwrap(), 3 * CHUNK_BYTES);
    seal(&entry, &layout, 4);
    store(&entry, 4);
    entry.give_up_stored().unwrap();
    assert_eq!(entry.missing(0..2 * CHUNKS), one(HEAD_CHUNKS..2 * CHUNKS - TAIL_CHUNKS));
    assert!(entry.restore_sealed().unwrap());
    assert!(!entry.is_open() && entry.view().header.ufs.is_some());
}

#[test]
fn what_was_cut_off_does_not_come_back_from_the_object() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open(dir.path()).unwrap();
    let entry = sealed(&layout);
    entry.set_length_local(25 * CHUNK_BYTES + 10).unwrap();
    entry.set_length_local(CHUNKS * CHUNK_BYTES).unwrap();
    store(&entry, 3);
    assert!(entry.give_up_stored().unwrap() > 0);
    assert_eq!(entry.missing(0..CHUNKS), one(HEAD_CHUNKS..25));
    assert_eq!(read(&entry, 30), Some(vec![0; CHUNK_BYTES as usize]));
    assert_eq!(
        read(&entry, 25).unwrap()[..11],
        [25, 25, 25, 25, 25, 25, 25, 25, 25, 25, 0]
    );
    // And if it is only shorter, and grows later.
    let entry = {
        entry.remove().unwrap();
        sealed(&layout)
    };
    entry.set_length_local(25 * CHUNK_BYTES + 10).unwrap();
    store(&entry, 3);
    entry.give_up_stored().unwrap();
    entry.set_length_local(CHUNKS * CHUNK_BYTES).unwrap();
    assert_eq!(
        read(&entry, 25).unwrap()[..11],
        [25, 25, 25, 25, 25, 25, 25, 25, 25, 25, 0]
    );
    assert_eq!(read(&entry, 26), Some(vec![0; CHUNK_BYTES as usize]));
}

/// The chunk that the cut goes through is not here, and what is behind it is written anew, not synced.
#[test]
fn what_is_cut_off_after_it_was_given_up_does_not_come_back_either() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::open(dir.path()).unwrap();
    let entry = sealed(&layout);
    store(&entry, 3);
    assert!(entry.give_up_stored().unwrap() > 0);
    let cut = 25 * CHUNK_BYTES + 10;
    entry.set_length_local(cut).unwrap();
    for chunk in 26..30 {
        entry.write_local(chunk * CHUNK_BYTES, &bytes_of(chunk, 99)).unwrap();
    }
    entry.give_up_stored().unwrap();
    let base_bytes = |entry: &Entry| entry.view().header.base.unwrap().bytes;
    assert_eq!(base_bytes(&entry), cut);
    drop(entry);
    layout.boot_id = "another".to_owned();
    let after = Entry::load(&layout, INODE).unwrap().expect("it is held");
    assert_eq!(base_bytes(&after), cut);
    assert!(after.missing(26..30).is_empty(), "bytes from before the cut");
}

#[test]
fn what_somebody_reads_or_may_write_past_us_stays() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open(dir.path()).unwrap();
    let entry = sealed(&layout);
    store(&entry, 3);
    let reader = entry.reopen_complete().unwrap().unwrap();
    assert_eq!(entry.give_up_stored().unwrap(), 0);
    drop(reader);
    let held = entry.hold(0..CHUNKS).unwrap();
    assert_eq!(entry.give_up_stored().unwrap(), 0);
    drop(held);
    entry.count_upload(true);
    assert_eq!(entry.give_up_stored().unwrap(), 0);
    entry.count_upload(false);
    assert!(entry.give_up_stored().unwrap() > 0);
    assert!(entry.hold(0..CHUNKS).is_none() && entry.reopen_complete().unwrap().is_none());
    entry.remove().unwrap();
    let entry = sealed(&layout);
    store(&entry, 3);
    entry.set_writable_fd_out().unwrap();
    assert!(!entry.can_spill());
    assert_eq!(entry.give_up_stored().unwrap(), 0);
}

/// A damaged chunk that is forgotten is no other case.
#[test]
fn a_damaged_chunk_is_forgotten_before_its_bytes_go() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open(dir.path()).unwrap();
    let header = Header::cached(INODE.get(), 2, CHUNK_BYTES, Some(at(CHUNK_BYTES)));
    let entry = Entry::create(&layout, header).unwrap();
    let (_, _, epoch) = entry.source().unwrap();
    entry.fill(epoch, 0, &bytes_of(0, 1)).unwrap();
    entry.sidecar.sync().unwrap();
    let file = std::fs::File::from(io::reopen(&entry.data).unwrap());
    std::os::unix::fs::FileExt::write_all_at(&file, b"rot", 5).unwrap();
    drop(file);
    assert!(entry.forget_chunk(0).unwrap());
    let cut = entry.sidecar.cuts.lock().unwrap().at_punches.pop().unwrap();
    drop(entry);
    std::fs::write(layout.sidecar(INODE), cut).unwrap();
    assert_eq!(Entry::load(&layout, INODE).unwrap().unwrap().missing(0..1), one(0..1));
}
