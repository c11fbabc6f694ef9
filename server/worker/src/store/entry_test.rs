use super::*;
use crate::store::Stamp;
use crate::store::sidecar::Base;

/// An open version over an object of three chunks, of which the first was fetched.
fn partly_fetched(layout: &Layout, data: &[u8]) -> Entry {
    let length = 3 * CHUNK_BYTES;
    let header = Header {
        inode: 7,
        version: 2,
        open: true,
        open_since: 2,
        length,
        base: Some(Base {
            ufs: Some(UfsSource {
                length,
                ..UfsSource::default()
            }),
            bytes: length,
            version: 1,
        }),
        ..Header::default()
    };
    let entry = Entry::create(layout, header).unwrap();
    let (_, _, epoch) = entry.source().unwrap();
    assert_eq!(entry.fill(epoch, 0, data).unwrap(), Some(CHUNK_BYTES));
    assert_eq!(first_missing(&entry), Some(1));
    entry
}

fn first_missing(entry: &Entry) -> Option<u64> {
    entry.missing(0..3).first().map(|run| run.start)
}

/// What a fetch left in the page cache of another boot may never have reached the disk, though its checksum did.
#[test]
fn a_power_cut_makes_fetched_chunks_of_an_open_version_absent() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::open(dir.path()).unwrap();
    drop(partly_fetched(&layout, &[7; CHUNK_BYTES as usize]));
    let again = Entry::load(&layout, InodeId(7)).unwrap().unwrap();
    assert_eq!(first_missing(&again), Some(1), "the process has only begun anew");
    drop(again);
    layout.boot_id = "another".to_owned();
    let after = Entry::load(&layout, InodeId(7)).unwrap().unwrap();
    assert_eq!(first_missing(&after), Some(0));
}

/// What a descriptor's writes have done to its times must not be undone by who brings what is here already.
#[test]
fn a_fill_that_keeps_nothing_changes_no_times() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open(dir.path()).unwrap();
    let data = [7; CHUNK_BYTES as usize];
    let entry = partly_fetched(&layout, &data);
    let (_, _, epoch) = entry.source().unwrap();
    let before = crate::io::stat(&entry.data).unwrap();
    assert_eq!(entry.fill(epoch, 0, &data).unwrap(), Some(0));
    assert_eq!(crate::io::stat(&entry.data).unwrap().ctime_ns, before.ctime_ns);
    // Nor by who is at it while a descriptor goes out.
    entry.set_writable_fd_out().unwrap();
    let out = crate::io::stat(&entry.data).unwrap();
    entry.keep_times(&before).unwrap();
    assert_eq!(crate::io::stat(&entry.data).unwrap().ctime_ns, out.ctime_ns);
}

/// Only who empties a file whose sync failed gets rid of that.
#[test]
fn a_failed_sync_holds_until_the_file_is_emptied() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open(dir.path()).unwrap();
    let entry = partly_fetched(&layout, &[7; CHUNK_BYTES as usize]);
    entry.sync_open(true).unwrap();
    entry.sync_failed.store(true, Ordering::Release);
    assert!(entry.sync_open(true).is_err() && entry.check_synced().is_err());
    entry.write_local(0, b"more").unwrap();
    assert!(entry.sync_open(false).is_err());
    entry.truncate_local(&layout).unwrap();
    entry.sync_open(true).unwrap();
}

/// A new file over which nothing lies, written as the kernel does it past us, of which only the data file was synced.
fn written_past_us(layout: &Layout, inode: u64, bytes: &[u8]) -> Entry {
    let header = Header {
        inode,
        version: 3,
        open: true,
        open_since: 3,
        whole: true,
        ..Header::default()
    };
    let entry = Entry::create(layout, header).unwrap();
    assert!(entry.is_opening_noted());
    let file = File::from(io::reopen(&entry.data).unwrap());
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
    entry
}

fn lose_sidecar(layout: &mut Layout, inode: u64) {
    let sidecar = File::options()
        .write(true)
        .open(layout.sidecar(InodeId(inode)))
        .unwrap();
    sidecar.set_len(0).unwrap();
    layout.boot_id = format!("another {:x}", rand::random::<u64>());
}

/// msync(2) reaches the data file alone.
#[test]
fn a_power_cut_that_takes_the_sidecar_of_a_new_file_leaves_it_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::open(dir.path()).unwrap();
    drop(written_past_us(&layout, 7, b"only here"));
    lose_sidecar(&mut layout, 7);
    for _ in 0..2 {
        // Also if it is killed before anybody recovers the file.
        let after = Entry::load(&layout, InodeId(7)).unwrap().expect("it is held");
        let header = after.view().header;
        assert!(header.open && header.whole && header.version == 3, "{header:?}");
        assert!(after.crossed_boot.load(Ordering::Relaxed), "nobody has looked at it");
        let read = after
            .read_local(0..9, false, super::super::content::Check::Once)
            .unwrap();
        assert!(matches!(read, super::super::content::Local::Data(bytes) if bytes == b"only here"[..]));
    }
}

/// The same of a committed version that was emptied when it was opened, and whose header of before is the one on disk.
#[test]
fn a_power_cut_after_an_opening_that_emptied_a_file_leaves_what_came_then() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::open(dir.path()).unwrap();
    let ufs = UfsSource {
        length: 9,
        ..UfsSource::default()
    };
    let header = Header {
        inode: 7,
        version: 2,
        length: 9,
        ufs: Some(ufs),
        ..Header::default()
    };
    let entry = Entry::create(&layout, header).unwrap();
    let (_, _, epoch) = entry.source().unwrap();
    entry.fill(epoch, 0, b"old bytes").unwrap();
    let before = std::fs::read(layout.sidecar(InodeId(7))).unwrap();
    entry
        .begin_open(true, Some(stamp_of(&entry)), 3, &layout.boot_id)
        .unwrap();
    entry.truncate_local(&layout).unwrap();
    entry.note_opening(&layout).unwrap();
    let file = File::from(io::reopen(&entry.data).unwrap());
    std::os::unix::fs::FileExt::write_all_at(&file, b"new", 0).unwrap();
    drop(entry);
    std::fs::write(layout.sidecar(InodeId(7)), before).unwrap();
    layout.boot_id = "another".to_owned();
    let after = Entry::load(&layout, InodeId(7)).unwrap().expect("it is held");
    after.distrust_open(3).unwrap();
    let header = after.view().header;
    assert!(header.open && header.whole && header.version == 3, "{header:?}");
    assert_eq!(after.length().unwrap(), 3);
}

fn stamp_of(entry: &Entry) -> Stamp {
    let stat = io::stat(&entry.data).unwrap();
    Stamp {
        size: stat.size,
        mtime_ns: stat.mtime_ns,
        ctime_ns: stat.ctime_ns,
        writes: 0,
    }
}

/// Nothing of a file that was never synced, or that the under-storage has, is worth keeping.
#[test]
fn a_power_cut_leaves_no_files_without_content() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::open(dir.path()).unwrap();
    drop(written_past_us(&layout, 7, b""));
    lose_sidecar(&mut layout, 7);
    drop(partly_fetched(&layout, &[7; CHUNK_BYTES as usize]));
    let shard = layout.shard(InodeId(7));
    lose_sidecar(&mut layout, 7);
    assert!(Entry::load(&layout, InodeId(7)).unwrap().is_none());
    assert_eq!(std::fs::read_dir(shard).unwrap().count(), 0);
}

/// Bytes of which nobody knows what they are stay.
#[test]
fn data_without_header_and_note_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::open(dir.path()).unwrap();
    layout.notes_openings = false;
    let header = Header {
        inode: 7,
        version: 3,
        open: true,
        whole: true,
        ..Header::default()
    };
    let entry = Entry::create(&layout, header).unwrap();
    entry.write_local(0, b"whose?").unwrap();
    drop(entry);
    lose_sidecar(&mut layout, 7);
    assert!(matches!(Entry::load(&layout, InodeId(7)), Err(LoadError::Damaged)));
}

/// The chunk in which the base ends has bytes of ours behind that: fetched again, they would be zeros.
#[test]
fn the_chunk_in_which_the_base_ends_is_never_taken_for_the_base() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::open(dir.path()).unwrap();
    let at = |length| UfsSource {
        length,
        ..UfsSource::default()
    };
    let base_bytes = CHUNK_BYTES + 2048;
    let header = Header {
        inode: 7,
        version: 2,
        open: true,
        open_since: 2,
        length: base_bytes,
        base: Some(Base {
            ufs: Some(at(base_bytes)),
            bytes: base_bytes,
            version: 1,
        }),
        ..Header::default()
    };
    let entry = Entry::create(&layout, header).unwrap();
    let (_, _, epoch) = entry.source().unwrap();
    entry.fill(epoch, 0, &vec![7; base_bytes as usize]).unwrap();
    entry.write_local(CHUNK_BYTES, &[8; CHUNK_BYTES as usize]).unwrap();
    // Sealed as 2 while it stays open as 3, uploaded, and sealed again, as the last writer closes it.
    let stat = io::stat(&entry.data).unwrap();
    let holes = entry.checksum_changes(&stat).unwrap();
    entry.label_sealed(2, 3, &stat, holes, &layout.boot_id).unwrap();
    let epoch = entry.view().content_epoch;
    assert!(entry.label_persisted(2, epoch, at(2 * CHUNK_BYTES)).unwrap());
    entry.rebase_marks().unwrap();
    let marks = entry.marks(0, 2).unwrap();
    assert!(matches!(marks[..], [Mark::Clean(_), Mark::Local(_)]), "{marks:?}");
    drop(entry);
    // What is clean in an open version is fetched again after a power cut.
    layout.boot_id = "another".to_owned();
    let after = Entry::load(&layout, InodeId(7)).unwrap().unwrap();
    let missing = after.missing(0..2);
    assert!(missing.len() == 1 && missing[0] == (0..1), "{missing:?}");
}

/// The header on disk is of an open version over a base, which was given back since: nothing of that lies under what was emptied.
#[test]
fn a_power_cut_after_an_opening_that_emptied_a_file_brings_no_base_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::open(dir.path()).unwrap();
    let entry = partly_fetched(&layout, &[7; CHUNK_BYTES as usize]);
    let before = std::fs::read(layout.sidecar(InodeId(7))).unwrap();
    entry.truncate_local(&layout).unwrap();
    entry.note_opening(&layout).unwrap();
    entry.set_length_local(3 * CHUNK_BYTES).unwrap();
    drop(entry);
    std::fs::write(layout.sidecar(InodeId(7)), &before[..16384]).unwrap();
    layout.boot_id = "another".to_owned();
    let after = Entry::load(&layout, InodeId(7)).unwrap().unwrap();
    assert!(after.missing(0..3).is_empty() && after.source().is_none());
}
