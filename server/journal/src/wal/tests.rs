//! The log against a model of it, and against what crashes and disks do to files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
};

use alluxio_common::{clock::Clock, disk};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const SEGMENT_BYTES: u64 = 16 << 10;

fn open_known(dir: &Path, known_index: u64) -> Result<Wal> {
    let options = WalOptions {
        dir: dir.to_owned(),
        segment_bytes_max: SEGMENT_BYTES,
        inline: false,
        commit: CommitAt::Synced,
        disk: disk::real(),
        clock: Clock::real(),
    };
    Wal::open(options, known_index, Box::new(|_| ()))
}

fn open(dir: &Path) -> Result<Wal> {
    open_known(dir, 0)
}

fn wait(submit: impl FnOnce(OnDone)) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    submit(Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv().unwrap()
}

fn append(wal: &Wal, records: Vec<Record>) {
    wait(|done| wal.append(records, false, done).unwrap()).unwrap();
}

fn record(index: u64, bytes: usize) -> Record {
    Record {
        index,
        term: 1 + index / 10,
        kind: (index % 3) as u8,
        payload: (0..bytes)
            .map(|at| (at as u64 * 7 + index) as u8 | 1)
            .collect::<Vec<_>>()
            .into(),
    }
}

fn all(wal: &Wal) -> Vec<Record> {
    let extent = wal.reader().extent();
    wal.reader()
        .read(extent.purged.index + 1..u64::MAX, usize::MAX)
        .unwrap()
}

fn indexes(wal: &Wal) -> Vec<u64> {
    all(wal).iter().map(|record| record.index).collect()
}

/// Name and content of every file.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = content(dir)
        .into_keys()
        .filter(|path| path.extension().is_some_and(|e| e == "wal"))
        .collect();
    found.sort();
    found
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .write_all_at(bytes, at)
        .unwrap();
}

/// A log of records 1, 2 and 3, each written and synced by itself, and where each starts; the last is where they end.
fn three(bytes: usize) -> (TempDir, Vec<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path()).unwrap();
    let mut starts = vec![segment::HEADER_BYTES];
    for index in 1..=3 {
        let record = record(index, bytes);
        starts.push(starts.last().unwrap() + record.disk_bytes() as u64);
        append(&wal, vec![record]);
    }
    (dir, starts)
}

/// Asserts that the log is refused as damaged at a place, and that nothing was changed.
fn assert_refused(dir: &Path, known_index: u64, file: &Path, offset: u64, index: u64) {
    let before = content(dir);
    match open_known(dir, known_index).map(drop).unwrap_err() {
        JournalError::Corrupt {
            file: f,
            offset: o,
            index: i,
            ..
        } => {
            assert_eq!((f.as_path(), o, i), (file, offset, index));
        }
        other => panic!("{other}"),
    }
    assert!(content(dir) == before, "a refused log must stay as it is");
}

#[test]
fn a_write_torn_at_any_byte_is_cut_off() {
    let (dir, starts) = three(61);
    let path = &segments(dir.path())[0];
    let whole = fs::read(path).unwrap();
    let (last, end) = (starts[2] as usize, starts[3] as usize);
    // From the 61 bytes of payload on there are 3 bytes of padding, whose loss is no loss.
    for cut in last..end - 3 {
        for fill in [0, 0xff] {
            let mut torn = whole.clone();
            torn[cut..end].fill(fill);
            fs::write(path, &torn).unwrap();
            let wal = open(dir.path()).unwrap();
            assert_eq!(indexes(&wal), [1, 2], "cut at {cut}, fill {fill}");
            if cut % 16 == 0 {
                append(&wal, vec![record(3, 5), record(4, 5)]);
                drop(wal);
                assert_eq!(indexes(&open(dir.path()).unwrap()), [1, 2, 3, 4]);
            }
        }
    }
}

#[test]
fn one_write_may_reach_the_disk_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path()).unwrap();
    append(&wal, vec![record(1, 50)]);
    append(&wal, vec![record(2, 50), record(3, 50), record(4, 50)]);
    drop(wal);
    let second = segment::HEADER_BYTES + record(1, 50).disk_bytes() as u64;
    overwrite(&segments(dir.path())[0], second, &[0; 60]);
    let wal = open(dir.path()).unwrap();
    assert_eq!(indexes(&wal), [1], "3 and 4 are intact but were never acknowledged");
    // What is left of them must not come back behind a new entry of the same size.
    append(&wal, vec![record(2, 50)]);
    drop(wal);
    assert_eq!(indexes(&open(dir.path()).unwrap()), [1, 2]);
}

#[test]
fn damage_before_synced_records_is_refused() {
    let (dir, starts) = three(61);
    let path = segments(dir.path())[0].clone();
    let whole = fs::read(&path).unwrap();
    for at in [0, 4, 9, 30, 45, 100] {
        let mut bad = whole.clone();
        bad[starts[1] as usize + at] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        assert_refused(dir.path(), 0, &path, starts[1], 2);
    }
    // A block of the file that was lost altogether.
    let mut bad = whole.clone();
    bad[starts[1] as usize..starts[2] as usize].fill(0);
    fs::write(&path, &bad).unwrap();
    assert_refused(dir.path(), 0, &path, starts[1], 2);
    fs::write(&path, &whole).unwrap();
    assert_eq!(indexes(&open(dir.path()).unwrap()), [1, 2, 3]);
}

#[test]
fn an_entry_that_was_applied_may_not_be_missing() {
    let (dir, starts) = three(61);
    let path = segments(dir.path())[0].clone();
    overwrite(&path, starts[2] + 20, &[0xee; 8]);
    assert_refused(dir.path(), 3, &path, starts[2], 3);
    assert_eq!(indexes(&open_known(dir.path(), 2).unwrap()), [1, 2]);
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        open_known(empty.path(), 3).map(drop),
        Err(JournalError::Incomplete { .. })
    ));
}

#[test]
fn damaged_or_missing_segments_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path()).unwrap();
    for index in 1..=40 {
        append(&wal, vec![record(index, 1000)]);
    }
    drop(wal);
    let files = segments(dir.path());
    assert!(files.len() >= 3, "{files:?}");
    let second_first = parse(&files[1]);
    let second = fs::read(&files[1]).unwrap();

    overwrite(&files[0], segment::HEADER_BYTES + 100, b"?");
    assert_refused(dir.path(), 0, &files[0], segment::HEADER_BYTES, 1);
    overwrite(&files[0], segment::HEADER_BYTES + 100, &record(1, 1000).payload[60..61]);

    fs::remove_file(&files[1]).unwrap();
    let error = open(dir.path()).map(drop).unwrap_err().to_string();
    assert!(
        error.contains(&format!("log index {second_first}")) && error.contains("goes on in a segment"),
        "{error}"
    );

    let mut bad = second.clone();
    bad[17] ^= 1;
    fs::write(&files[1], &bad).unwrap();
    assert_refused(dir.path(), 0, &files[1], 0, second_first);

    let mut newer = second.clone();
    newer[8] = 2;
    fs::write(&files[1], &newer).unwrap();
    assert!(matches!(
        open(dir.path()).map(drop),
        Err(JournalError::NewerFormat { found: 2, .. })
    ));

    fs::write(&files[1], &second).unwrap();
    assert_eq!(indexes(&open(dir.path()).unwrap()), (1..=40).collect::<Vec<_>>());
}

fn parse(path: &Path) -> u64 {
    segment::parse_file_name(path.file_name().unwrap().to_str().unwrap()).unwrap()
}

#[test]
fn an_interrupted_truncation_is_completed() {
    for after in [0, 1, 17, 39] {
        let dir = tempfile::tempdir().unwrap();
        let wal = open(dir.path()).unwrap();
        for index in 1..=40 {
            append(&wal, vec![record(index, 1000)]);
        }
        drop(wal);
        recover::begin_truncation(disk::real().as_ref(), dir.path(), after).unwrap();
        // The crash came while the tail was being cleared: something behind the cut is zeroed, not all.
        let last = segments(dir.path()).pop().unwrap();
        let staying = (after + 1).saturating_sub(parse(&last));
        let cut = segment::HEADER_BYTES + staying * record(1, 1000).disk_bytes() as u64;
        overwrite(&last, cut, &[0; 500]);
        let wal = open(dir.path()).unwrap();
        assert_eq!(indexes(&wal), (1..=after).collect::<Vec<_>>(), "after {after}");
        append(&wal, vec![record(after + 1, 10)]);
        drop(wal);
        assert_eq!(indexes(&open(dir.path()).unwrap()).len() as u64, after + 1);
    }
}

#[test]
fn after_a_failed_write_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let wal = open(&log).unwrap();
    append(&wal, vec![record(1, 10)]);
    // The next segment cannot be created any more.
    fs::remove_dir_all(&log).unwrap();
    wait(|done| {
        wal.append(vec![record(2, SEGMENT_BYTES as usize)], false, done)
            .unwrap()
    })
    .unwrap_err();
    let error = wal.append(vec![record(3, 10)], false, Box::new(|_| ())).unwrap_err();
    assert!(error.to_string().contains("failed before"), "{error}");
}

#[test]
fn what_is_written_is_synced_later_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let (sender, told) = mpsc::channel();
    let options = WalOptions {
        dir: dir.path().to_owned(),
        segment_bytes_max: SEGMENT_BYTES,
        inline: true,
        commit: CommitAt::Written {
            flush_interval: std::time::Duration::from_secs(3600),
        },
        disk: disk::real(),
        clock: Clock::real(),
    };
    let wal = Wal::open(options, 0, Box::new(move |index| sender.send(index).unwrap())).unwrap();
    let synced = wal.reader().synced_index();
    append(&wal, vec![record(1, 50)]);
    append(&wal, vec![record(2, 50), record(3, 50)]);
    assert_eq!((*synced.borrow(), wal.reader().extent().last.index), (0, 3));
    wait(|done| wal.sync(done)).unwrap();
    assert_eq!(*synced.borrow(), 3);
    // Who is in a hurry takes all before along.
    append(&wal, vec![record(4, 50)]);
    wait(|done| wal.append(vec![record(5, 50)], true, done).unwrap()).unwrap();
    assert_eq!(told.iter().find(|index| *index > 3), Some(5));
    // What stays after a truncation was synced with it, and nothing else.
    append(&wal, vec![record(6, 50), record(7, 50)]);
    wait(|done| wal.truncate_after(6, done)).unwrap();
    assert_eq!(*synced.borrow(), 6);
    append(&wal, vec![record(7, 60)]);
    append(&wal, vec![record(8, 60)]);
    assert_eq!(*synced.borrow(), 6);
    drop(wal);
    assert_eq!(told.iter().last(), Some(8), "closing syncs");
    // Records say what was on disk before them, so one that is bad among those that were not is torn, and no damage.
    let seventh = segment::HEADER_BYTES + 6 * record(1, 50).disk_bytes() as u64;
    overwrite(&segments(dir.path())[0], seventh + 20, &[0xee; 8]);
    assert_eq!(indexes(&open(dir.path()).unwrap()), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path()).unwrap();
    let sizes = [10, 3 * SEGMENT_BYTES as usize, 10];
    for (index, bytes) in (1..).zip(sizes) {
        append(&wal, vec![record(index, bytes)]);
    }
    let before = all(&wal);
    drop(wal);
    assert_eq!(all(&open(dir.path()).unwrap()), before);
}

#[derive(Clone, Debug)]
enum Step {
    /// Sizes of records that are appended with one call.
    Append(Vec<usize>),
    /// Several appends that are submitted before the first is waited for.
    Burst(Vec<usize>),
    /// What stays, as a share of what is there.
    Truncate(f64),
    Purge(f64),
    /// So many entries beyond the last.
    PurgeBeyond(u64),
    Reserve(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = || prop::collection::vec(prop_oneof![8 => 0..300_usize, 1 => 3000..20_000_usize], 1..8);
    prop_oneof![
        6 => sizes().prop_map(Step::Append),
        3 => sizes().prop_map(Step::Burst),
        2 => (0.0..1.0).prop_map(Step::Truncate),
        2 => (0.0..1.0).prop_map(Step::Purge),
        1 => (0..5_u64).prop_map(Step::PurgeBeyond),
        1 => (0..100_000_u64).prop_map(Step::Reserve),
        3 => Just(Step::Reopen),
    ]
}

/// The log as a plain vector.
#[derive(Default)]
struct Model {
    purged: Position,
    records: Vec<Record>,
    /// Every record that is still part of history, also those dropped from the front.
    history: BTreeMap<u64, Record>,
}

impl Model {
    fn last(&self) -> Position {
        self.records.last().map_or(self.purged, |r| Position {
            term: r.term,
            index: r.index,
        })
    }

    fn next(&mut self, bytes: usize) -> Record {
        let last = self.last();
        let mut record = record(last.index + 1, bytes);
        record.term = record.term.max(last.term);
        self.records.push(record.clone());
        self.history.insert(record.index, record.clone());
        record
    }

    fn pick(&self, share: f64) -> u64 {
        self.purged.index + (share * (self.records.len() + 1) as f64) as u64
    }
}

fn run(wal: Wal, dir: &Path, model: &mut Model, step: &Step) -> Wal {
    match step {
        Step::Append(sizes) => {
            let records = sizes.iter().map(|bytes| model.next(*bytes)).collect();
            append(&wal, records);
        }
        Step::Burst(sizes) => {
            let (sender, receiver) = mpsc::channel();
            for bytes in sizes {
                let sender = sender.clone();
                let record = model.next(*bytes);
                wal.append(vec![record.clone()], false, Box::new(move |r| sender.send(r).unwrap()))
                    .unwrap();
                let read = wal.reader().read(record.index..record.index + 1, 1).unwrap();
                assert_eq!(read, [record], "readable at once");
            }
            for _ in sizes {
                receiver.recv().unwrap().unwrap();
            }
        }
        Step::Truncate(share) => {
            let after = model.pick(*share);
            wait(|done| wal.truncate_after(after, done)).unwrap();
            model.records.retain(|record| record.index <= after);
            model.history.retain(|index, _| *index <= after);
        }
        Step::Purge(share) => {
            let index = model.pick(*share);
            let term = model
                .records
                .iter()
                .find(|r| r.index == index)
                .map_or(model.purged.term, |r| r.term);
            model.purged = Position { term, index };
            model.records.retain(|record| record.index > index);
            wait(|done| wal.purge(model.purged, done)).unwrap();
        }
        Step::PurgeBeyond(count) => {
            let last = model.last();
            model.purged = Position {
                term: last.term,
                index: last.index + count,
            };
            model.records.clear();
            if *count > 0 {
                model.history.clear();
            }
            wait(|done| wal.purge(model.purged, done)).unwrap();
        }
        Step::Reserve(bytes) => {
            wait(|done| wal.reserve(*bytes, done)).unwrap();
            assert!(wal.reader().has_room(*bytes));
        }
        Step::Reopen => {
            drop(wal);
            let wal = open(dir).unwrap();
            // Whole segments are dropped, so a part of what was purged may be there again.
            let purged = wal.reader().extent().purged;
            assert!(purged.index <= model.purged.index);
            let last = model.last();
            model.purged = purged;
            model.records = model
                .history
                .range(purged.index + 1..)
                .map(|(_, record)| record.clone())
                .collect();
            assert_eq!(model.last(), last, "the end stays");
            return wal;
        }
    }
    wal
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..Default::default() })]

    #[test]
    fn agrees_with_a_vector(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let mut wal = open(dir.path()).unwrap();
        for step in steps {
            wal = run(wal, dir.path(), &mut model, &step);
            let extent = wal.reader().extent();
            prop_assert_eq!(extent.purged, model.purged, "after {:?}", &step);
            prop_assert_eq!(extent.last, model.last(), "after {:?}", &step);
            prop_assert!(all(&wal) == model.records, "after {:?}", &step);
        }
    }
}
