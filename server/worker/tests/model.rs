//! Random operations on one file, against a plain vector of bytes.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::master::{RecoverTask, WorkerTasks};
use alluxio_proto::types::UfsSource;
use alluxio_proto::worker::{Allocate, Drop, OpenStat, Seal, SetLength, StatOpen, SyncOpen};
use alluxio_proto::{ErrorKind, FsResult};
use bytes::Bytes;
use harness::*;
use proptest::prelude::*;
use std::os::unix::fs::FileExt;

const INODE: u64 = 5;
const BYTES_MAX: u64 = 6 * CHUNK;

#[derive(Clone, Debug)]
enum Op {
    Write(u64, u64),
    WriteByDescriptor(u64, u64),
    SetLength(u64),
    Punch(u64, u64),
    Zero(u64, u64),
    Read(u64, u64),
    Sync,
    SealAndGoOn,
    Close,
    Open {
        truncate: bool,
    },
    OpenAndLeave,
    Persist,
    DropCached,
    Restart,
    /// Somebody else puts another object in the place of ours.
    Replace,
}

fn op() -> impl Strategy<Value = Op> {
    // Offsets near the edges of chunks are the interesting ones.
    let offset = || {
        prop_oneof![
            0..BYTES_MAX,
            (0..6u64, 0..40u64).prop_map(|(chunk, by)| (chunk * CHUNK + by).saturating_sub(20)),
        ]
    };
    let length = || prop_oneof![1..100u64, 1..CHUNK * 2, Just(CHUNK)];
    prop_oneof![
        4 => (offset(), length()).prop_map(|(at, n)| Op::Write(at, n)),
        2 => (offset(), length()).prop_map(|(at, n)| Op::WriteByDescriptor(at, n)),
        2 => offset().prop_map(Op::SetLength),
        1 => (offset(), length()).prop_map(|(at, n)| Op::Punch(at, n)),
        1 => (offset(), length()).prop_map(|(at, n)| Op::Zero(at, n)),
        4 => (offset(), length()).prop_map(|(at, n)| Op::Read(at, n)),
        1 => Just(Op::Sync),
        2 => Just(Op::SealAndGoOn),
        3 => Just(Op::Close),
        1 => any::<bool>().prop_map(|truncate| Op::Open { truncate }),
        3 => Just(Op::Open { truncate: false }),
        1 => Just(Op::OpenAndLeave),
        3 => Just(Op::Persist),
        2 => Just(Op::DropCached),
        2 => Just(Op::Restart),
        1 => Just(Op::Replace),
    ]
}

/// The file as it must be.
struct Model {
    node: Node,
    bytes: Vec<u8>,
    open: bool,
    /// Of the open version, or of the committed one.
    version: u64,
    /// The committed version, its bytes, and its place.
    committed: (u64, Vec<u8>, Option<UfsSource>),
    /// What is at the path now.
    there: UfsSource,
    there_version: u64,
    descriptor: Option<std::fs::File>,
    /// The object is somebody else's: bytes that only ours had are lost, and the model no longer says which. What is
    /// given must be right all the same.
    replaced: bool,
    steps: u64,
}

impl Model {
    async fn new(seed: u64, length: u64, track_bytes: u64) -> Self {
        let node = Node::with(&[
            ("alluxio.worker.file.whole.fetch.size", "0"),
            ("alluxio.worker.file.overwrite.track.size", &track_bytes.to_string()),
        ])
        .await;
        let bytes = pattern(seed, length);
        let there = node.put("f", bytes.clone()).await;
        Self {
            node,
            bytes: bytes.to_vec(),
            open: false,
            version: 1,
            committed: (1, bytes.to_vec(), Some(there.clone())),
            there,
            there_version: 1,
            descriptor: None,
            replaced: false,
            steps: 0,
        }
    }

    fn source(&self) -> alluxio_proto::master::ReadSource {
        let (version, bytes, ufs) = &self.committed;
        let mut source = local(*version, bytes.len() as u64);
        source.ufs.clone_from(ufs);
        source
    }

    fn put(&mut self, at: u64, data: &[u8]) {
        let end = at as usize + data.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[at as usize..end].copy_from_slice(data);
    }

    async fn apply(&mut self, op: Op) {
        self.steps += 1;
        match op {
            Op::Write(at, n) if self.open => {
                let data = pattern(self.steps, n);
                let written = self.node.write(INODE, self.version, at, data.clone()).await;
                if self.succeeds(written) {
                    self.put(at, &data);
                }
            }
            Op::WriteByDescriptor(at, n) if self.descriptor.is_some() => {
                let data = pattern(self.steps, n);
                self.descriptor.as_ref().unwrap().write_all_at(&data, at).unwrap();
                self.put(at, &data);
            }
            Op::SetLength(length) if self.open => {
                let set = SetLength {
                    inode: INODE,
                    version: self.version,
                    length,
                    number: 0,
                };
                assert_eq!(self.node.stat_call(set).await.unwrap().length, length);
                self.bytes.resize(length as usize, 0);
            }
            Op::Punch(at, n) if self.open => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                if self.allocate(mode, at, n).await {
                    let end = self.bytes.len().min((at + n) as usize);
                    self.bytes[end.min(at as usize)..end].fill(0);
                }
            }
            Op::Zero(at, n) if self.open => {
                let is_done = self.allocate(libc::FALLOC_FL_ZERO_RANGE, at, n).await;
                if is_done {
                    self.put(at, &vec![0; n as usize]);
                }
            }
            Op::Read(at, n) => self.read(at, n).await,
            Op::Sync if self.open => {
                let sync = SyncOpen {
                    inode: INODE,
                    version: self.version,
                    data_only: true,
                };
                self.node.stat_call(sync).await.unwrap();
            }
            Op::SealAndGoOn if self.open && self.changed().await => {
                let sealed = self.node.seal(INODE, self.version, self.version + 1).await.unwrap();
                assert_eq!(sealed.length, self.bytes.len() as u64);
                self.committed = (self.version, self.bytes.clone(), None);
                self.version += 1;
            }
            Op::Close if self.open => self.close().await,
            Op::Open { truncate } if !self.open => self.open(truncate).await,
            Op::OpenAndLeave if !self.open => {
                self.open(false).await;
                if self.open {
                    self.close().await;
                }
            }
            Op::Persist => self.persist().await,
            Op::DropCached if !self.open && self.committed.2.is_some() => {
                let drop = Drop {
                    inode: INODE,
                    version: self.version,
                    open: false,
                };
                self.node.call(drop, Bytes::new()).await.unwrap();
            }
            Op::Replace => {
                let length = self.there.length;
                self.node.put("f", pattern(self.steps + 1_000_000, length)).await;
                self.replaced = true;
            }
            Op::Restart => {
                self.descriptor = None;
                self.node.restart().await;
            }
            _ => {}
        }
        self.check().await;
    }

    async fn open(&mut self, truncate: bool) {
        let base = self.source();
        self.version += 1;
        // The master keeps a file of no bytes without base.
        let opened = self
            .node
            .open_write(INODE, self.version, Some(base), truncate, self.steps.is_multiple_of(2))
            .await;
        let (opened, descriptor) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                assert!(!truncate && self.committed.2.is_some(), "{error:?}");
                assert!(!self.succeeds::<()>(Err(error)));
                return self.give_up().await;
            }
        };
        if truncate {
            self.bytes.clear();
        }
        assert_eq!(opened.length, self.bytes.len() as u64);
        assert_eq!(self.changed().await, truncate, "{opened:?}");
        self.descriptor = descriptor;
        self.open = true;
    }

    /// An opening met another object: the master has its home drop what was opened.
    async fn give_up(&mut self) {
        let drop = Drop {
            inode: INODE,
            version: self.version,
            open: true,
        };
        self.node.call(drop, Bytes::new()).await.unwrap();
        self.version = self.committed.0;
    }

    async fn close(&mut self) {
        self.descriptor = None;
        let release = Seal {
            inode: INODE,
            version: self.version,
            next: 0,
            release: true,
            closed_empty: false,
            may_be_mapped: false,
        };
        let mut sealed = self.node.stat_call(release).await.unwrap();
        if sealed.others_write {
            sealed = self.recover().await;
        }
        assert_eq!(sealed.length, self.bytes.len() as u64);
        if sealed.changed {
            self.committed = (self.version, self.bytes.clone(), None);
        } else {
            assert_eq!(self.bytes, self.committed.1);
            self.version = self.committed.0;
        }
        self.open = false;
    }

    /// The home was started again, and has forgotten who writes: the master has the version recovered after the last close.
    async fn recover(&mut self) -> OpenStat {
        self.node.master.give(WorkerTasks {
            recover: vec![RecoverTask {
                inode: INODE,
                version: self.version,
                ..RecoverTask::default()
            }],
            ..WorkerTasks::default()
        });
        let recovered = until("it is recovered", || self.node.master.recovered.lock().pop()).await;
        let is_given_back = recovered.kept_version == self.committed.0;
        assert!(recovered.found || is_given_back, "{recovered:?}");
        OpenStat {
            changed: recovered.found,
            length: match recovered.found {
                true => recovered.length,
                false => self.committed.1.len() as u64,
            },
            ..OpenStat::default()
        }
    }

    async fn changed(&self) -> bool {
        let stat = StatOpen {
            inode: INODE,
            version: self.version,
        };
        self.node.stat_call(stat).await.unwrap().changed
    }

    /// What needs bytes of the object may fail if that is another one.
    fn succeeds<T>(&self, result: FsResult<T>) -> bool {
        let Err(error) = result else { return true };
        let lost = matches!(
            error.kind,
            ErrorKind::VersionMismatch | ErrorKind::Stale | ErrorKind::DataLost
        );
        assert!(self.replaced && lost, "{error:?}");
        false
    }

    async fn allocate(&self, mode: i32, offset: u64, length: u64) -> bool {
        let allocate = Allocate {
            inode: INODE,
            version: self.version,
            mode: mode as u32,
            offset,
            length,
            number: 0,
        };
        self.succeeds(self.node.stat_call(allocate).await)
    }

    async fn read(&self, at: u64, n: u64) {
        let bytes = match self.open {
            true => self.node.read_open(INODE, self.version, at, n).await,
            false => self.node.read(INODE, &self.source(), at, n).await,
        };
        let length = self.bytes.len() as u64;
        let expected = &self.bytes[at.min(length) as usize..(at + n).min(length) as usize];
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => return assert!(!self.succeeds::<()>(Err(error))),
        };
        let differs = bytes.iter().zip(expected).position(|(a, b)| a != b);
        assert!(
            bytes == expected,
            "{} bytes at {at} of {length}, open: {}, first difference at {differs:?}",
            bytes.len(),
            self.open
        );
    }

    /// Uploads the committed version, if it still can be.
    async fn persist(&mut self) {
        let (version, bytes, None) = &self.committed else {
            return;
        };
        let mut upload = task(self.steps, INODE, *version, bytes.len() as u64, "f");
        upload.expect.clone_from(&self.there.fingerprint);
        upload.base = Some(self.there.clone());
        upload.base_version = self.there_version;
        let overwritten = self.open && self.changed().await;
        let done = self.node.persist(upload).await;
        if let Some(error) = done.error {
            assert!(overwritten || self.replaced, "{error:?}");
            return;
        }
        assert!(self.node.object("f").await == *bytes);
        (self.there_version, self.replaced) = (*version, false);
        self.there.fingerprint = done.fingerprint;
        self.there.length = bytes.len() as u64;
        self.committed.2 = Some(self.there.clone());
    }

    async fn check(&self) {
        if self.open {
            let stat = StatOpen {
                inode: INODE,
                version: self.version,
            };
            assert_eq!(self.node.stat_call(stat).await.unwrap().length, self.bytes.len() as u64);
        }
    }
}

/// As many as a quick run can afford; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_file_behaves_as_a_vector_of_bytes(seed in 1u64..1000, length in 0..BYTES_MAX, track in 0..BYTES_MAX, ops in proptest::collection::vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new(seed, length, track).await;
            for op in ops {
                model.apply(op).await;
            }
            model.read(0, BYTES_MAX * 2).await;
            if model.open {
                model.close().await;
            }
            model.node.restart().await;
            model.read(0, BYTES_MAX * 2).await;
            assert!(files(&model.node.dir.join("lost+found"), "").is_empty());
            model.node.stop().await;
        });
    }
}
