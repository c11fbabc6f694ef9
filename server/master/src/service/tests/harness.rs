//! A master with a client and a worker.

use alluxio_common::config::{Configuration, keys};
use alluxio_common::secret::SecretFile;
use alluxio_common::sync::Mutex;
use alluxio_proto::master::*;
use alluxio_proto::types::{Attr, Caller, WorkerAddress, WriteType};
use alluxio_proto::{FsResult, MasterApi, SessionId, WatchStream};
use alluxio_ufs::fault::{Call, FaultyUfs};
use alluxio_ufs::{BytesSource, Expect, UfsAttributes, UfsErrorKind, UnderFileSystem, memory};
use bytes::Bytes;
use futures::TryStreamExt;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::service::{Master, MasterOptions, MasterService, MetastoreKind};

pub const ROOT: u64 = 1;
pub const HOST: &str = "here";
/// Longer than anything takes on a loaded machine; nothing waits for it when all is well.
pub const LONG: Duration = Duration::from_secs(60);

pub struct Harness {
    pub dir: TempDir,
    pub conf: Configuration,
    pub ufs: Arc<FaultyUfs>,
    pub master: Arc<MasterService>,
    pub on_disk: bool,
}

/// What is beneath the root of a namespace. Names of it are shown as `memory://objects`, whichever it is.
#[derive(Clone, Copy, Debug)]
pub enum Store {
    /// Keys and prefixes, in memory.
    Objects,
    /// A folder beside those of the master.
    Folder,
}

/// The under-storage of a new folder, with faults on demand.
pub fn folder(path: &std::path::Path) -> FaultyUfs {
    std::fs::create_dir(path).unwrap();
    let opened = alluxio_ufs::open(path.to_str().unwrap(), &BTreeMap::new(), &Configuration::default());
    FaultyUfs::new(opened.unwrap())
}

/// Settings of most tests: nothing ripens, nothing is looked at again unless asked.
pub fn conf() -> Configuration {
    let mut conf = Configuration::default();
    conf.set(keys::master::ROOT_UFS.name, "memory://objects");
    conf.set(keys::user::PERSIST_WAIT.name, "0ms");
    conf.set(keys::user::SYNC_INTERVAL.name, "-1");
    conf.set(keys::master::PERSIST_INITIAL_INTERVAL.name, "20ms");
    conf.set(keys::master::PERSIST_MAX_INTERVAL.name, "100ms");
    conf.set(keys::master::REFUSED_TIMEOUT.name, "0ms");
    conf
}

impl Harness {
    pub async fn start() -> Harness {
        Self::with(conf()).await
    }

    pub async fn with(conf: Configuration) -> Harness {
        Self::on(conf, Store::Objects).await
    }

    pub async fn on(conf: Configuration, store: Store) -> Harness {
        let dir = tempfile::tempdir().unwrap();
        let ufs = Arc::new(match store {
            Store::Objects => memory(),
            Store::Folder => folder(&dir.path().join("store")),
        });
        Self::within(dir, conf, ufs, false).await
    }

    pub async fn over(conf: Configuration, ufs: Arc<FaultyUfs>, on_disk: bool) -> Harness {
        Self::within(tempfile::tempdir().unwrap(), conf, ufs, on_disk).await
    }

    async fn within(dir: TempDir, conf: Configuration, ufs: Arc<FaultyUfs>, on_disk: bool) -> Harness {
        let master = Self::open(&dir, &conf, &ufs, on_disk).await.unwrap();
        Harness {
            dir,
            conf,
            ufs,
            master,
            on_disk,
        }
    }

    pub async fn open(
        dir: &TempDir,
        conf: &Configuration,
        ufs: &Arc<FaultyUfs>,
        on_disk: bool,
    ) -> FsResult<Arc<MasterService>> {
        Master::start(conf, Self::options(dir, conf, ufs, on_disk)).await
    }

    pub fn options(dir: &TempDir, conf: &Configuration, ufs: &Arc<FaultyUfs>, on_disk: bool) -> MasterOptions {
        let mut options = MasterOptions::new(conf);
        let ufs: Arc<dyn UnderFileSystem> = ufs.clone();
        let conf = conf.clone();
        options.journal_dir = dir.path().join("journal");
        options.secret = SecretFile::new(dir.path().join("cluster.secret"));
        options.metastore = match on_disk {
            true => MetastoreKind::Disk(dir.path().join("metastore")),
            false => MetastoreKind::Heap,
        };
        // The root is the same store in every life of the master; others are what their URI says.
        options.ufs_opener = Arc::new(move |uri, options| match uri {
            "memory://objects" => Ok(ufs.clone()),
            uri => alluxio_ufs::open(uri, options, &conf),
        });
        options
    }

    /// Stops the master and starts another one on the same folders.
    pub async fn restart(self) -> Harness {
        self.restart_with(|_| {}).await
    }

    /// As [`Self::restart`], with other options.
    pub async fn restart_with(self, change: impl FnOnce(&mut MasterOptions)) -> Harness {
        self.master.shutdown().await;
        // The folders are free when nobody holds the old one any more: its aborted worker ends at its next await.
        let Harness {
            dir,
            conf,
            ufs,
            master,
            on_disk,
        } = self;
        let old = Arc::downgrade(&master);
        drop(master);
        eventually("the end of the old master", || async { old.strong_count() == 0 }).await;
        let mut options = Self::options(&dir, &conf, &ufs, on_disk);
        change(&mut options);
        let master = Master::start(&conf, options).await.unwrap();
        Harness {
            dir,
            conf,
            ufs,
            master,
            on_disk,
        }
    }

    pub async fn client(&self) -> Client {
        Client::open(self.master.clone()).await
    }

    /// The client of a session that was opened before the master was started again.
    pub fn client_of(&self, session: u64) -> Client {
        Client {
            session,
            // Not with ids of its past life.
            op: Arc::new(AtomicU64::new(1_000_000)),
            ..Client::new(self.master.clone())
        }
    }

    pub async fn worker(&self) -> FakeWorker {
        FakeWorker::start(self.master.clone(), self.ufs.clone(), HOST, 0).await
    }

    /// Puts an object behind the master's back.
    pub async fn put(&self, path: &str, content: &str) {
        put(self.ufs.as_ref(), path, content.as_bytes()).await;
    }

    pub async fn remove(&self, path: &str) {
        for result in self.ufs.delete(&[Bytes::copy_from_slice(path.as_bytes())]).await {
            result.unwrap();
        }
    }

    /// All files of the store with their contents.
    pub async fn objects(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut dirs = vec![String::new()];
        while let Some(dir) = dirs.pop() {
            let mut token = None;
            loop {
                let page = match self.ufs.list(dir.as_bytes(), token, 1000).await {
                    Ok(page) => page,
                    Err(error) if error.kind == UfsErrorKind::NotFound => break,
                    Err(error) => panic!("{error}"),
                };
                for entry in page.entries {
                    let name = String::from_utf8(entry.name.to_vec()).unwrap();
                    let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                    if entry.kind == alluxio_proto::types::FileKind::Directory {
                        dirs.push(path);
                    } else {
                        let stream = self.ufs.read(path.as_bytes(), 0..entry.length, "").await.unwrap();
                        let parts: Vec<Bytes> = stream.try_collect().await.unwrap();
                        found.insert(path, String::from_utf8(parts.concat()).unwrap());
                    }
                }
                token = page.next;
                if token.is_none() {
                    break;
                }
            }
        }
        found
    }

    pub fn calls(&self, call: Call) -> u64 {
        self.ufs.faults().calls(call)
    }
}

pub async fn put(ufs: &dyn UnderFileSystem, path: &str, content: &[u8]) {
    let source = BytesSource(Bytes::copy_from_slice(content));
    ufs.write(path.as_bytes(), &source, &Expect::Any, &UfsAttributes::default())
        .await
        .unwrap();
}

/// Waits for a condition, looking often.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + LONG;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what} did not happen within {LONG:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[derive(Clone)]
pub struct Client {
    pub api: Arc<MasterService>,
    pub session: u64,
    pub caller: Caller,
    /// What it says of what it waits for; 0: nothing, as clients of before.
    pub lowest_op: u64,
    op: Arc<AtomicU64>,
}

impl Client {
    fn new(api: Arc<MasterService>) -> Client {
        Client {
            api,
            session: 0,
            caller: Caller {
                user: "root".into(),
                groups: vec!["root".into()],
            },
            lowest_op: 0,
            op: Arc::new(AtomicU64::new(1)),
        }
    }

    pub async fn open(api: Arc<MasterService>) -> Client {
        let mut client = Client::new(api);
        client.session = client.open_session(0, &[]).await.session;
        client
    }

    pub async fn open_session(&self, resume: u64, open_inodes: &[u64]) -> SessionInfo {
        let open = OpenSession {
            client: "test".into(),
            host: HOST.into(),
            resume,
            open_inodes: open_inodes.to_vec(),
            ..Default::default()
        };
        self.ask(Op::OpenSession(open)).await.unwrap()
    }

    pub fn request(&self, op: Op) -> MasterRequest {
        MasterRequest {
            session: self.session,
            op_id: self.op.fetch_add(1, Ordering::Relaxed),
            lowest_op: self.lowest_op,
            caller: Some(self.caller.clone()),
            op: Some(op),
        }
    }

    pub async fn ask<T: FromReply>(&self, op: Op) -> FsResult<T> {
        let reply = self.api.call(self.request(op)).await?;
        Ok(T::from_reply(reply).expect("the answer is of the expected kind"))
    }

    pub async fn watch(&self) -> WatchStream {
        self.api.watch(SessionId(self.session)).await.unwrap()
    }

    pub async fn lookup(&self, parent: u64, name: &str) -> FsResult<Attr> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.ask(Op::Lookup(Lookup { parent, name })).await
    }

    pub async fn resolve(&self, path: &str) -> FsResult<Attr> {
        let path = Bytes::copy_from_slice(path.as_bytes());
        self.ask(Op::ResolvePath(ResolvePath { path, refresh: false })).await
    }

    pub async fn list_page(&self, inode: u64, after: &[u8], limit: u32) -> FsResult<DirPage> {
        let after = Bytes::copy_from_slice(after);
        self.ask(Op::ReadDir(ReadDir {
            inode,
            after,
            limit,
            refresh: false,
        }))
        .await
    }

    pub async fn names(&self, inode: u64) -> FsResult<Vec<String>> {
        let mut names = Vec::new();
        let mut after = Bytes::new();
        loop {
            let page = self.list_page(inode, &after, 0).await?;
            for entry in &page.entries {
                after = entry.name.clone();
                names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            }
            if page.eof {
                return Ok(names);
            }
        }
    }

    pub async fn create(&self, parent: u64, name: &str, write_type: WriteType) -> FsResult<Opened> {
        let create = Create {
            parent,
            name: Bytes::copy_from_slice(name.as_bytes()),
            mode: 0o644,
            open: true,
            write_type: write_type as i32,
            block_bytes: 0,
            umask: 0,
        };
        self.ask(Op::Create(create)).await
    }

    pub async fn mkdir(&self, parent: u64, name: &str) -> FsResult<Attr> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.ask(Op::Mkdir(Mkdir {
            parent,
            name,
            mode: 0o755,
            write_type: 0,
            umask: 0,
        }))
        .await
    }

    pub async fn unlink(&self, parent: u64, name: &str) -> FsResult<Empty> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        let tell_removed = false;
        self.ask(Op::Unlink(Unlink {
            parent,
            name,
            tell_removed,
        }))
        .await
    }

    pub async fn rename(&self, parent: u64, name: &str, new_parent: u64, new_name: &str) -> FsResult<Empty> {
        self.ask(Op::Rename(Rename {
            parent,
            name: Bytes::copy_from_slice(name.as_bytes()),
            new_parent,
            new_name: Bytes::copy_from_slice(new_name.as_bytes()),
            ..Default::default()
        }))
        .await
    }

    pub async fn open_file(&self, inode: u64, write: bool) -> FsResult<Opened> {
        self.ask(Op::Open(Open {
            inode,
            read: true,
            write,
            truncate: false,
            write_type: 0,
            ..Default::default()
        }))
        .await
    }

    pub async fn close(&self, inode: u64, write: bool) -> FsResult<Empty> {
        self.ask(Op::Close(Close {
            inode,
            write,
            abandon: false,
            ..Default::default()
        }))
        .await
    }

    /// Creates, writes, commits and closes a file. Answers with its inode.
    pub async fn write(&self, worker: &FakeWorker, parent: u64, name: &str, content: &str) -> u64 {
        let opened = self.create(parent, name, WriteType::AsyncThrough).await.unwrap();
        self.finish(worker, &opened, content).await
    }

    /// Writes, commits and closes what was opened.
    pub async fn finish(&self, worker: &FakeWorker, opened: &Opened, content: &str) -> u64 {
        let inode = opened.attr.as_ref().unwrap().inode;
        let version = opened.write.as_ref().unwrap().version;
        worker.keep(inode, version, content);
        self.commit(inode, version, content.len() as u64).await.unwrap();
        self.close(inode, true).await.unwrap();
        inode
    }

    pub async fn commit(&self, inode: u64, version: u64, length: u64) -> FsResult<Attr> {
        self.ask(Op::Commit(Commit {
            inode,
            version,
            length,
            mtime_ns: 1_000_000_000,
            keep_open: false,
            ctime_ns: 0,
            hole_bytes: 0,
            mapped: false,
        }))
        .await
    }

    pub async fn wait_persisted(&self, path: &str, timeout: Duration) -> FsResult<Counted> {
        self.ask(Op::WaitPersisted(WaitPersisted {
            path: Bytes::copy_from_slice(path.as_bytes()),
            schedule: false,
            timeout_ms: timeout.as_millis() as u64,
            expedite: true,
        }))
        .await
    }
}

type Contents = Arc<Mutex<HashMap<(u64, u64), Bytes>>>;

/// Keeps versions in a map and uploads them when told to.
pub struct FakeWorker {
    pub id: u64,
    pub files: Contents,
    /// Uploads wait while this is held.
    pub hold: Arc<tokio::sync::RwLock<()>>,
    pub dropped: Arc<Mutex<Vec<CachedFile>>>,
    task: JoinHandle<()>,
}

/// A worker's proof that it has the secret.
pub async fn prove(api: &Arc<MasterService>, worker_id: u64) -> MemberProof {
    let challenged: Challenged = ask(api, Op::Challenge(Challenge {})).await.unwrap();
    api.core
        .ufs
        .secret()
        .get()
        .unwrap()
        .prove(worker_id, &challenged.challenge)
}

impl FakeWorker {
    pub async fn start(api: Arc<MasterService>, ufs: Arc<FaultyUfs>, host: &str, id: u64) -> FakeWorker {
        Self::start_with(api, ufs, host, id, Contents::default()).await
    }

    pub async fn start_with(
        api: Arc<MasterService>,
        ufs: Arc<FaultyUfs>,
        host: &str,
        id: u64,
        files: Contents,
    ) -> FakeWorker {
        let register = RegisterWorker {
            worker_id: id,
            address: Some(WorkerAddress {
                host: host.into(),
                port: 1,
                ..Default::default()
            }),
            tiers: vec![ReportTier {
                capacity_bytes: 1 << 30,
                ..Default::default()
            }],
            version: "test".into(),
            cluster_id: String::new(),
            boot: 0,
            proof: Some(prove(&api, id).await),
        };
        let registered: Registered = ask(&api, Op::RegisterWorker(register)).await.unwrap();
        let (hold, dropped) = (Arc::new(tokio::sync::RwLock::new(())), Arc::new(Mutex::new(Vec::new())));
        let work = Working {
            id: registered.worker_id,
            api,
            ufs,
            files: files.clone(),
            hold: hold.clone(),
            dropped: dropped.clone(),
        };
        let task = tokio::spawn(Arc::new(work).run());
        FakeWorker {
            id: registered.worker_id,
            files,
            hold,
            dropped,
            task,
        }
    }

    pub fn keep(&self, inode: u64, version: u64, content: &str) {
        self.files
            .lock()
            .insert((inode, version), Bytes::copy_from_slice(content.as_bytes()));
    }

    /// Dies without a word.
    pub fn kill(&self) {
        self.task.abort();
    }
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Working {
    id: u64,
    api: Arc<MasterService>,
    ufs: Arc<FaultyUfs>,
    files: Contents,
    hold: Arc<tokio::sync::RwLock<()>>,
    dropped: Arc<Mutex<Vec<CachedFile>>>,
}

async fn ask<T: FromReply>(api: &Arc<MasterService>, op: Op) -> FsResult<T> {
    let request = MasterRequest {
        op: Some(op),
        ..Default::default()
    };
    Ok(T::from_reply(api.call(request).await?).expect("the answer is of the expected kind"))
}

impl Working {
    async fn run(self: Arc<Self>) {
        loop {
            let beat = WorkerHeartbeat {
                worker_id: self.id,
                wait_ms: 1000,
                capacity_tasks: 16,
                capacity_copies: 16,
                ..WorkerHeartbeat::default()
            };
            let Ok(tasks) = ask::<WorkerTasks>(&self.api, Op::WorkerHeartbeat(beat)).await else {
                return;
            };
            self.dropped.lock().extend(tasks.drop);
            for task in tasks.recover {
                let worker = self.clone();
                tokio::spawn(async move { worker.recover(task).await });
            }
            for task in tasks.persist {
                let worker = self.clone();
                tokio::spawn(async move { worker.persist(task).await });
            }
            for task in tasks.copy {
                let worker = self.clone();
                tokio::spawn(async move { worker.copy(task).await });
            }
        }
    }

    async fn recover(&self, task: RecoverTask) {
        let content = self.files.lock().get(&(task.inode, task.version)).cloned();
        let recovered = Recovered {
            worker_id: self.id,
            inode: task.inode,
            version: task.version,
            found: content.is_some() && !task.never_committed,
            length: content.map_or(0, |content| content.len() as u64),
            mtime_ns: 2_000_000_000,
            ..Default::default()
        };
        let _: FsResult<Empty> = ask(&self.api, Op::Recovered(recovered)).await;
    }

    /// The store of a mount; of the root, the one with faults.
    fn store_of(&self, mount_id: u64) -> Arc<dyn UnderFileSystem> {
        let record = self.api.core.state.mount(alluxio_proto::MountId(mount_id)).unwrap();
        match record.uri() {
            "memory://objects" => self.ufs.clone(),
            uri => alluxio_ufs::open(uri, &BTreeMap::new(), &Configuration::default()).unwrap(),
        }
    }

    async fn copy(&self, task: CopyTask) {
        let _free = self.hold.read().await;
        let source = task.source.clone().unwrap();
        let copied = async {
            let (from, to) = (self.store_of(source.mount_id), self.store_of(task.mount_id));
            let stream = from.read(&source.path, 0..source.length, &source.fingerprint).await?;
            let parts: Vec<Bytes> = stream.try_collect().await?;
            let expect = match task.expect.as_str() {
                "" => Expect::Absent,
                fingerprint => Expect::Fingerprint(fingerprint.to_owned()),
            };
            let attributes = UfsAttributes {
                write_id: Some(task.write_id.clone()),
                mtime_ns: task.attributes.as_ref().and_then(|attributes| attributes.mtime_ns),
                mode: task.attributes.as_ref().and_then(|attributes| attributes.mode),
                ..Default::default()
            };
            let bytes = BytesSource(Bytes::from(parts.concat()));
            to.write(&task.path, &bytes, &expect, &attributes).await
        };
        let copied = copied.await.map_err(alluxio_proto::FsError::from);
        let done = CopyDone {
            worker_id: self.id,
            intent: task.intent,
            mount_id: task.mount_id,
            path: task.path,
            source_fingerprint: source.fingerprint,
            fingerprint: copied
                .as_ref()
                .map_or_else(|_| String::new(), |there| there.fingerprint.clone()),
            length: copied.as_ref().map_or(0, |there| there.length),
            error: copied.err().map(|error| error.to_wire()),
        };
        let _: FsResult<Empty> = ask(&self.api, Op::CopyDone(done)).await;
    }

    async fn persist(&self, task: PersistTask) {
        let _free = self.hold.read().await;
        let content = self.files.lock().get(&(task.inode, task.version)).cloned();
        let result = match content {
            Some(content) => {
                assert_eq!(content.len() as u64, task.length);
                let expect = match task.expect.as_str() {
                    "" => Expect::Absent,
                    fingerprint => Expect::Fingerprint(fingerprint.to_owned()),
                };
                let source = BytesSource(content);
                let written = self
                    .ufs
                    .write(&task.path, &source, &expect, &UfsAttributes::default())
                    .await;
                written
                    .map(|status| status.fingerprint)
                    .map_err(alluxio_proto::FsError::from)
            }
            None => Err(alluxio_proto::FsError::new(
                alluxio_proto::ErrorKind::Stale,
                "no such version here",
            )),
        };
        let done = PersistDone {
            worker_id: self.id,
            intent: task.intent,
            inode: task.inode,
            version: task.version,
            mount_id: task.mount_id,
            path: task.path,
            fingerprint: result.clone().unwrap_or_default(),
            error: result.err().map(|error| error.to_wire()),
        };
        let _: FsResult<Empty> = ask(&self.api, Op::PersistDone(done)).await;
    }
}
