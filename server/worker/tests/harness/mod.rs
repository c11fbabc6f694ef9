//! A worker on a real folder with an under-storage in memory and a master that only hands out tasks.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_common::config::Configuration;
use alluxio_common::secret::SecretFile;
use alluxio_common::sync::Mutex;
use alluxio_proto::master::*;
use alluxio_proto::types::{UfsSource, WorkerAddress};
use alluxio_proto::worker::{
    OpenRead, OpenStat, OpenWrite, OpenedFile, Read, Seal, WorkerReplyBody, WorkerRequest, Write, Written,
};
use alluxio_proto::{ErrorKind, FsError, FsResult, MasterApi, WatchStream, WorkerApi, WorkerResponse};
use alluxio_ufs::fault::FaultyUfs;
use alluxio_ufs::{BytesSource, Expect, UfsAttributes, UnderFileSystem, memory};
use alluxio_worker::{Worker, WorkerOptions};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub const MB: u64 = 1024 * 1024;
pub const CHUNK: u64 = 64 * 1024;

/// Bytes that differ everywhere.
pub fn pattern(seed: u64, length: u64) -> Bytes {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(length as usize + 8);
    while (out.len() as u64) < length {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(length as usize);
    out.into()
}

#[derive(Default)]
pub struct TestMaster {
    pub cluster_id: Mutex<String>,
    pub away: Mutex<bool>,
    pub forget: Mutex<bool>,
    pub registrations: Mutex<Vec<RegisterWorker>>,
    tasks: Mutex<WorkerTasks>,
    work: Notify,
    pub done: Mutex<Vec<PersistDone>>,
    pub copied: Mutex<Vec<CopyDone>>,
    pub recovered: Mutex<Vec<Recovered>>,
    /// What was spilled; `None`: nothing may be.
    pub spills: Mutex<Option<Vec<Spill>>>,
    /// How often it was asked for that; no answer comes for so long.
    pub spills_asked: AtomicUsize,
    pub spill_pause: Mutex<Duration>,
    /// What it says of any inode.
    pub opened: Mutex<Option<ReadSource>>,
    pub held: Mutex<BTreeMap<u64, (u64, u64)>>,
    /// What it was told last of damaged bytes.
    pub damaged: Mutex<Vec<DamagedRange>>,
    /// Long polls by how many uploads they asked for.
    pub asked_for: Mutex<Vec<u32>>,
}

impl TestMaster {
    pub fn give(&self, tasks: WorkerTasks) {
        let mut waiting = self.tasks.lock();
        waiting.persist.extend(tasks.persist);
        waiting.drop.extend(tasks.drop);
        waiting.recover.extend(tasks.recover);
        waiting.copy.extend(tasks.copy);
        drop(waiting);
        // Uploads and copies are polled for one by one.
        self.work.notify_waiters();
    }

    fn take(&self, capacity: usize, copies: usize) -> Option<WorkerTasks> {
        let mut waiting = self.tasks.lock();
        let n = capacity.min(waiting.persist.len());
        let copies = copies.min(waiting.copy.len());
        let tasks = WorkerTasks {
            persist: waiting.persist.drain(..n).collect(),
            drop: std::mem::take(&mut waiting.drop),
            recover: std::mem::take(&mut waiting.recover),
            copy: waiting.copy.drain(..copies).collect(),
            reregister: false,
        };
        (tasks != WorkerTasks::default()).then_some(tasks)
    }

    async fn heartbeat(&self, beat: WorkerHeartbeat) -> WorkerTasks {
        if std::mem::take(&mut *self.forget.lock()) {
            return WorkerTasks {
                reregister: true,
                ..WorkerTasks::default()
            };
        }
        *self.damaged.lock() = beat.damaged;
        for file in beat.cached {
            self.held.lock().insert(file.inode, (file.version, file.bytes));
        }
        if beat.wait_ms > 0 && beat.capacity_copies == 0 {
            self.asked_for.lock().push(beat.capacity_tasks);
        }
        let deadline = Instant::now() + Duration::from_millis(beat.wait_ms);
        loop {
            let work = self.work.notified();
            if let Some(tasks) = self.take(beat.capacity_tasks as usize, beat.capacity_copies as usize) {
                return tasks;
            }
            if tokio::time::timeout_at(deadline.into(), work).await.is_err() {
                return WorkerTasks::default();
            }
        }
    }
}

#[async_trait::async_trait]
impl MasterApi for TestMaster {
    async fn call(&self, request: MasterRequest) -> FsResult<Reply> {
        if *self.away.lock() {
            return Err(FsError::new(ErrorKind::Unavailable, "the master is away"));
        }
        Ok(match request.op.unwrap() {
            Op::RegisterWorker(register) => {
                self.registrations.lock().push(register);
                Reply::Registered(Registered {
                    worker_id: 7,
                    cluster_id: self.cluster_id.lock().clone(),
                })
            }
            Op::WorkerHeartbeat(beat) => Reply::WorkerTasks(self.heartbeat(beat).await),
            Op::Challenge(_) => Reply::Challenged(Challenged::default()),
            Op::GetMounts(_) => Reply::MountTable(MountTable {
                mounts: vec![MountInfo {
                    mount_id: 1,
                    uri: "memory://test".into(),
                    ..MountInfo::default()
                }],
            }),
            Op::PersistDone(done) => {
                self.done.lock().push(done);
                Reply::Empty(Empty {})
            }
            Op::CopyDone(done) => {
                self.copied.lock().push(done);
                Reply::Empty(Empty {})
            }
            Op::UfsChanged(_) => Reply::Opened(Opened {
                read: self.opened.lock().clone(),
                ..Opened::default()
            }),
            Op::Recovered(recovered) => {
                self.recovered.lock().push(recovered);
                Reply::Empty(Empty {})
            }
            Op::Spill(spill) => {
                self.spills_asked.fetch_add(1, Ordering::Relaxed);
                let pause = *self.spill_pause.lock();
                tokio::time::sleep(pause).await;
                let mut spills = self.spills.lock();
                let Some(spills) = spills.as_mut() else {
                    return Err(FsError::new(ErrorKind::NotSupported, "it is not to be stored"));
                };
                if !spill.ask_only {
                    spills.push(spill);
                }
                Reply::Empty(Empty {})
            }
            other => panic!("unexpected {other:?}"),
        })
    }
    async fn watch(&self, _: alluxio_proto::SessionId) -> FsResult<WatchStream> {
        Err(FsError::new(ErrorKind::NotSupported, "no watch here"))
    }
}

pub struct Node {
    pub dir: PathBuf,
    _own: Option<tempfile::TempDir>,
    pub master: Arc<TestMaster>,
    pub ufs: Arc<FaultyUfs>,
    pub conf: Configuration,
    worker: Option<Arc<Worker>>,
}

impl Node {
    pub async fn new() -> Self {
        Self::with(&[]).await
    }
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        Self::at(path, Some(dir), settings).await
    }
    pub async fn at(dir: PathBuf, own: Option<tempfile::TempDir>, settings: &[(&str, &str)]) -> Self {
        let mut conf = Configuration::default();
        conf.set("alluxio.worker.block.heartbeat.interval", "20ms");
        for (key, value) in settings {
            conf.set(key, value);
        }
        let master = Arc::new(TestMaster::default());
        *master.cluster_id.lock() = "cluster-a".into();
        let mut node = Self {
            dir,
            _own: own,
            master,
            ufs: Arc::new(memory()),
            conf,
            worker: None,
        };
        node.start().await.unwrap();
        node
    }
    /// The cluster's secret, which the master would have made.
    pub fn secret(&self) -> Arc<SecretFile> {
        let file = SecretFile::new(self.dir.join("cluster.secret"));
        file.get_or_create().unwrap();
        file
    }
    pub fn options(&self) -> WorkerOptions {
        let address = WorkerAddress {
            host: "localhost".into(),
            ..WorkerAddress::default()
        };
        let master: Arc<dyn MasterApi> = self.master.clone();
        let mut options = WorkerOptions::new(&self.conf, &self.dir, master, address);
        let ufs = Arc::clone(&self.ufs);
        options.ufs_opener = Arc::new(move |_| Ok(ufs.clone()));
        options.secret = self.secret();
        options
    }
    pub async fn start(&mut self) -> FsResult<()> {
        self.worker = Some(Worker::start(&self.conf, self.options(), CancellationToken::new()).await?);
        Ok(())
    }
    pub fn worker(&self) -> &Arc<Worker> {
        self.worker.as_ref().unwrap()
    }
    pub async fn stop(&mut self) {
        let worker = self.worker.take().unwrap();
        worker.shutdown().await;
    }
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start().await.unwrap();
    }

    pub async fn put(&self, path: &str, bytes: Bytes) -> UfsSource {
        let length = bytes.len() as u64;
        let status = self
            .ufs
            .write(
                path.as_bytes(),
                &BytesSource(bytes),
                &Expect::Any,
                &UfsAttributes::default(),
            )
            .await
            .unwrap();
        UfsSource {
            mount_id: 1,
            path: Bytes::copy_from_slice(path.as_bytes()),
            fingerprint: status.fingerprint,
            length,
        }
    }
    pub async fn object(&self, path: &str) -> Bytes {
        use futures::TryStreamExt;
        let length = self.ufs.status(path.as_bytes()).await.unwrap().length;
        let stream = self.ufs.read(path.as_bytes(), 0..length, "").await.unwrap();
        stream.try_collect::<Vec<_>>().await.unwrap().concat().into()
    }
    /// Bytes that the under-storage was read for.
    pub fn fetched(&self) -> u64 {
        self.ufs.metrics().bytes_read.load(Ordering::Relaxed)
    }

    /// Bytes that the under-storage was sent, and those that it copied itself.
    pub fn sent_and_copied(&self) -> (u64, u64) {
        let metrics = self.ufs.metrics();
        (
            metrics.bytes_written.load(Ordering::Relaxed),
            metrics.bytes_copied.load(Ordering::Relaxed),
        )
    }

    pub async fn call(&self, request: impl Into<WorkerRequest>, data: Bytes) -> FsResult<WorkerResponse> {
        self.worker().call(request.into(), data).await
    }
    pub async fn stat_call(&self, request: impl Into<WorkerRequest>) -> FsResult<OpenStat> {
        match self.call(request, Bytes::new()).await?.reply {
            WorkerReplyBody::OpenStat(stat) => Ok(stat),
            other => panic!("{other:?}"),
        }
    }
    pub async fn read_with(
        &self,
        inode: u64,
        source: &ReadSource,
        offset: u64,
        length: u64,
        stream: u64,
    ) -> FsResult<Bytes> {
        let read = Read {
            inode,
            source: Some(source.clone()),
            offset,
            length,
            open_version: false,
            stream,
            verify: false,
        };
        Ok(self.call(read, Bytes::new()).await?.data)
    }
    pub async fn read(&self, inode: u64, source: &ReadSource, offset: u64, length: u64) -> FsResult<Bytes> {
        self.read_with(inode, source, offset, length, 0).await
    }
    /// All of it, in reads of `step`.
    pub async fn read_all(&self, inode: u64, source: &ReadSource, step: u64, stream: u64) -> FsResult<Bytes> {
        let mut out = Vec::new();
        while (out.len() as u64) < source.length {
            let bytes = self.read_with(inode, source, out.len() as u64, step, stream).await?;
            assert!(!bytes.is_empty());
            out.extend_from_slice(&bytes);
        }
        Ok(out.into())
    }
    pub async fn read_open(&self, inode: u64, version: u64, offset: u64, length: u64) -> FsResult<Bytes> {
        let source = ReadSource {
            version,
            ..ReadSource::default()
        };
        let read = Read {
            inode,
            source: Some(source),
            offset,
            length,
            open_version: true,
            stream: 0,
            verify: false,
        };
        Ok(self.call(read, Bytes::new()).await?.data)
    }
    pub async fn open_read(&self, inode: u64, source: &ReadSource) -> FsResult<(OpenedFile, Option<std::fs::File>)> {
        let open = OpenRead {
            inode,
            source: Some(source.clone()),
            want_fd: true,
            verify: false,
            check_source: false,
        };
        opened(self.call(open, Bytes::new()).await?)
    }
    pub async fn open_write(
        &self,
        inode: u64,
        version: u64,
        base: Option<ReadSource>,
        truncate: bool,
        want_fd: bool,
    ) -> FsResult<(OpenedFile, Option<std::fs::File>)> {
        self.open_write_with(inode, version, base, truncate, (want_fd, false))
            .await
    }
    /// With (`want_fd`, `needs_fd`).
    pub async fn open_write_with(
        &self,
        inode: u64,
        version: u64,
        base: Option<ReadSource>,
        truncate: bool,
        (want_fd, needs_fd): (bool, bool),
    ) -> FsResult<(OpenedFile, Option<std::fs::File>)> {
        let lease = WriteLease {
            version,
            base,
            ..WriteLease::default()
        };
        self.open_write_as(inode, lease, truncate, (want_fd, needs_fd)).await
    }
    /// A lease needs neither home nor signature.
    pub async fn open_write_as(
        &self,
        inode: u64,
        lease: WriteLease,
        truncate: bool,
        (want_fd, needs_fd): (bool, bool),
    ) -> FsResult<(OpenedFile, Option<std::fs::File>)> {
        let mut lease = WriteLease {
            home: Some(WorkerAddress {
                worker_id: 7,
                ..WorkerAddress::default()
            }),
            ..lease
        };
        let secret = self.secret().get().unwrap();
        lease.token = secret.sign_lease(alluxio_proto::InodeId(inode), &lease).into();
        let open = OpenWrite {
            inode,
            lease: Some(lease),
            truncate,
            want_fd,
            needs_fd,
            write_only: false,
        };
        let (opened, fd) = opened(self.call(open, Bytes::new()).await?)?;
        Ok((opened, fd.map(|fd| as_the_kernel(&fd))))
    }
    pub async fn write(&self, inode: u64, version: u64, offset: u64, data: impl Into<Bytes>) -> FsResult<Written> {
        let write = Write {
            inode,
            version,
            offset,
            append: false,
        };
        match self.call(write, data.into()).await?.reply {
            WorkerReplyBody::Written(written) => Ok(written),
            other => panic!("{other:?}"),
        }
    }
    pub async fn seal(&self, inode: u64, version: u64, next: u64) -> FsResult<OpenStat> {
        let release = false;
        self.stat_call(Seal {
            inode,
            version,
            next,
            release,
            closed_empty: false,
            may_be_mapped: false,
        })
        .await
    }
    /// One of its writers lets go.
    pub async fn release(&self, inode: u64, version: u64) -> FsResult<OpenStat> {
        let release = Seal {
            inode,
            version,
            release: true,
            ..Seal::default()
        };
        self.stat_call(release).await
    }
    /// A new file is closed; `changed` in the answer says that it is not empty.
    pub async fn close_empty(&self, inode: u64, release: bool) -> FsResult<OpenStat> {
        self.stat_call(Seal {
            inode,
            version: 1,
            next: 0,
            release,
            closed_empty: true,
            may_be_mapped: false,
        })
        .await
    }
    /// Gives an upload and waits for its end.
    pub async fn persist(&self, task: PersistTask) -> PersistDone {
        let intent = task.intent;
        self.master.give(WorkerTasks {
            persist: vec![task],
            ..WorkerTasks::default()
        });
        until("the upload ends", || {
            self.master
                .done
                .lock()
                .iter()
                .find(|done| done.intent == intent)
                .cloned()
        })
        .await
    }
}

/// What the kernel makes of a read-only descriptor when a file is opened for writing by passthrough.
fn as_the_kernel(fd: &std::fs::File) -> std::fs::File {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd));
    std::fs::File::options().read(true).write(true).open(path).unwrap()
}

fn opened(response: WorkerResponse) -> FsResult<(OpenedFile, Option<std::fs::File>)> {
    match response.reply {
        WorkerReplyBody::OpenedFile(opened) => Ok((opened, response.fd.map(Into::into))),
        other => panic!("{other:?}"),
    }
}

pub fn source(version: u64, ufs: &UfsSource) -> ReadSource {
    ReadSource {
        version,
        length: ufs.length,
        ufs: Some(ufs.clone()),
        ..ReadSource::default()
    }
}

/// Of a version that is in no under-storage.
pub fn local(version: u64, length: u64) -> ReadSource {
    ReadSource {
        version,
        length,
        ..ReadSource::default()
    }
}

pub fn task(intent: u64, inode: u64, version: u64, length: u64, path: &str) -> PersistTask {
    PersistTask {
        intent,
        inode,
        version,
        length,
        mount_id: 1,
        path: Bytes::copy_from_slice(path.as_bytes()),
        ..PersistTask::default()
    }
}

/// Waits until there is something, at most 10 s.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Files beneath `dir` whose name ends with `end`.
pub fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files(&path, end));
        } else if path.to_str().unwrap().ends_with(end) {
            out.push(path);
        }
    }
    out
}

/// Replaces the boot id in both header slots and mends their checksums.
pub fn rewrite_boot(sidecar: &std::path::Path, boot: &str) {
    let mut bytes = std::fs::read(sidecar).unwrap();
    let mut found = 0;
    for slot in [0usize, 8192] {
        let Some(head) = bytes.get(slot..slot + 24).filter(|head| head.starts_with(b"ALXS")) else {
            continue;
        };
        let length = u32::from_le_bytes(head[16..20].try_into().unwrap()) as usize;
        let payload = slot + 24..slot + 24 + length;
        let at = bytes[payload.clone()]
            .windows(boot.len())
            .position(|w| w == boot.as_bytes())
            .unwrap();
        bytes[payload.start + at] ^= 1;
        let crc = [&bytes[slot + 8..slot + 16], &bytes[payload]].concat();
        bytes[slot + 20..slot + 24].copy_from_slice(&alluxio_common::checksum::crc32c(&crc).to_le_bytes());
        found += 1;
    }
    assert!(found > 0);
    std::fs::write(sidecar, bytes).unwrap();
}

/// A small file system of its own, unmounted at the end.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn new(megabytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(dir.path())
            .status();
        assert!(mounted.unwrap().success(), "mounting a tmpfs needs root");
        Self(dir)
    }
    pub fn path(&self) -> &Path {
        self.0.path()
    }
    pub fn free_bytes(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(self.path()).unwrap();
        stat.blocks_available() * stat.fragment_size()
    }
    /// Somebody else takes all but `left` bytes of it.
    pub fn fill(&self, left: u64) {
        let others = vec![7; (self.free_bytes() - left) as usize];
        std::fs::write(self.path().join("others"), others).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}
