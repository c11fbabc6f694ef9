//! The log on a disk that loses, tears, fails and is cut off from its power, by seeds.

use std::{path::Path, sync::mpsc, time::Duration};

use alluxio_common::disk::SimDisk;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const SEEDS: u64 = 150;
const LIVES: u32 = 4;

fn open(disk: &SimDisk, commit: CommitAt, known_index: u64) -> Wal {
    let options = WalOptions {
        dir: "/j/log".into(),
        segment_bytes_max: 16 << 10,
        inline: true,
        commit,
        disk: disk.disk(),
        clock: Clock::simulated(0),
    };
    Wal::open(options, known_index, Box::new(|_| ())).unwrap()
}

fn wait(submit: impl FnOnce(OnDone)) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    submit(Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv().map_err(|_| io::Error::other("it was refused"))?
}

/// What was appended, and how much of it must be there.
#[derive(Default)]
struct Model {
    records: Vec<Record>,
    /// Everything up to here was reported as done.
    done: usize,
    /// Everything up to here was told to be on disk.
    synced: usize,
}

impl Model {
    fn next(&mut self, random: &mut StdRng) -> Vec<Record> {
        let records: Vec<Record> = (0..random.random_range(1..4))
            .map(|offset| Record {
                index: self.records.len() as u64 + offset + 1,
                term: 1,
                kind: 1,
                payload: (0..random.random_range(0..3000))
                    .map(|_| random.random())
                    .collect::<Vec<u8>>()
                    .into(),
            })
            .collect();
        self.records.extend(records.iter().cloned());
        records
    }
}

/// Works on the log for a while; ends early at an error.
fn live(wal: &Wal, disk: &SimDisk, model: &mut Model, random: &mut StdRng) {
    let synced = wal.reader().synced_index();
    for _ in 0..random.random_range(0..25) {
        if random.random_range(0..40) == 0 {
            disk.fail_syncs(1);
        }
        let result = match random.random_range(0..10) {
            0 => wait(|done| wal.sync(done)),
            1 if !model.records.is_empty() => {
                let after = random.random_range(model.records.len() / 2..=model.records.len());
                let result = wait(|done| wal.truncate_after(after as u64, done));
                if result.is_ok() {
                    model.records.truncate(after);
                    model.done = model.records.len();
                } else {
                    // Done or not: what stays in both cases must be there.
                    model.done = model.done.min(after);
                }
                model.synced = model.synced.min(after);
                result
            }
            _ => {
                let records = model.next(random);
                let urgent = random.random_range(0..5) == 0;
                // Who is refused is not called back.
                let result = wait(|done| drop(wal.append(records, urgent, done)));
                if result.is_ok() {
                    model.done = model.records.len();
                }
                result
            }
        };
        model.synced = model.synced.max((*synced.borrow() as usize).min(model.records.len()));
        if result.is_err() {
            assert!(
                wal.append(Vec::new(), false, Box::new(|_| ())).is_err(),
                "nothing is written any more"
            );
            return;
        }
    }
}

#[test]
fn what_was_synced_survives_every_cut_and_what_was_written_every_kill() {
    let written = CommitAt::Written {
        flush_interval: Duration::from_secs(3600),
    };
    let mut lost = 0;
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let disk = SimDisk::new(seed);
        let commit = if seed % 2 == 0 { CommitAt::Synced } else { written };
        let mut model = Model::default();
        for life in 0..LIVES {
            let wal = open(&disk, commit, model.synced as u64);
            let found = wal.reader().read(1..u64::MAX, usize::MAX).unwrap();
            let what = format!("seed {seed}, life {life}, {commit:?}");
            assert!(
                found.len() >= model.synced,
                "{what}: {} of {} synced",
                found.len(),
                model.synced
            );
            assert!(
                found.len() <= model.records.len() && found == model.records[..found.len()],
                "{what}: not a prefix"
            );
            lost += model.records.len() - found.len();
            model.records.truncate(found.len());
            (model.done, model.synced) = (found.len(), found.len());
            live(&wal, &disk, &mut model, &mut random);
            let failed = wal.reader().0.failed.get().is_some();
            if random.random() {
                disk.cut_power();
            } else {
                disk.kill();
                if !failed {
                    // A crash of the process loses nothing that was reported as done.
                    model.synced = model.done;
                }
            }
            disk.fail_syncs(0);
            drop(wal);
        }
        assert!(disk.list(Path::new("/j/log")).unwrap().len() < 64);
    }
    assert!(
        lost > 0,
        "no cut has ever taken anything: the disk does not do its worst"
    );
}

/// The kernel tells only the first of those who sync a file of what it could not write.
#[test]
fn who_syncs_beside_another_hears_of_his_failure() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let written = CommitAt::Written {
            flush_interval: Duration::from_secs(3600),
        };
        let wal = open(&disk, written, 0);
        let record = Record {
            index: 1,
            term: 1,
            kind: 1,
            payload: vec![1; 100].into(),
        };
        wait(|done| wal.append(vec![record], false, done).unwrap()).unwrap();
        let file = wal.shared.index.lock().segments.back().unwrap().file.clone();
        disk.fail_syncs(1);
        std::thread::scope(|scope| {
            let two = [(); 2].map(|()| scope.spawn(|| wal.shared.sync_file(&*file, 1)));
            for one in two {
                one.join().unwrap().unwrap_err();
            }
        });
        assert_eq!(*wal.reader().synced_index().borrow(), 0, "nothing is durable");
    }
}
