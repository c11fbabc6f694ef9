use super::*;
use crate::core::Counters;
use crate::fill::Filler;
use crate::options::{Settings, UfsOpener};
use crate::report::Reports;
use crate::scrub::Unverified;
use crate::spill::Spiller;
use crate::store::{Check, Header, Layout, Local, Mark, Passing, Store};
use crate::ufs_clients::UfsClients;
use alluxio_common::config::Configuration;
use alluxio_common::metrics::Metrics;
use alluxio_common::secret::SecretFile;
use alluxio_proto::master::{Challenged, MasterRequest, MountInfo, MountTable, Op, Opened, Reply};
use alluxio_proto::types::UfsSource;
use alluxio_proto::{CHUNK_BYTES, MasterApi, SessionId, WatchStream};
use alluxio_ufs::{BytesSource, Expect, UfsAttributes, UnderFileSystem, memory};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const INODE: InodeId = InodeId(7);
const MOUNT: u64 = 1;
const CHUNKS: u64 = 40;

/// A master that has one mount, and knows of nothing that has moved.
struct Master;

#[async_trait::async_trait]
impl MasterApi for Master {
    async fn call(&self, request: MasterRequest) -> FsResult<Reply> {
        Ok(match request.op {
            Some(Op::Challenge(_)) => Reply::Challenged(Challenged::default()),
            Some(Op::GetMounts(_)) => Reply::MountTable(MountTable {
                mounts: vec![MountInfo {
                    mount_id: MOUNT,
                    ..MountInfo::default()
                }],
            }),
            Some(Op::UfsChanged(_)) => Reply::Opened(Opened::default()),
            other => panic!("{other:?}"),
        })
    }
    async fn watch(&self, _: SessionId) -> FsResult<WatchStream> {
        Err(FsError::new(ErrorKind::NotSupported, "no watch here"))
    }
}

/// What operations of a worker over `dir` need.
fn core_at(dir: &Path, ufs: Arc<dyn UnderFileSystem>) -> Core {
    let (settings, metrics) = (Settings::new(&Configuration::default()).unwrap(), Metrics::new());
    let layout = Layout::open(dir).unwrap();
    let store = Store::open(layout, &settings, Arc::new(Reports::default()), &metrics).unwrap();
    let secret = SecretFile::new(dir.join("cluster.secret"));
    secret.get_or_create().unwrap();
    let opener: UfsOpener = Arc::new(move |_| Ok(Arc::clone(&ufs)));
    let clients = Arc::new(UfsClients::new(
        Arc::new(Master),
        opener,
        Arc::clone(&secret),
        metrics.clone(),
    ));
    let filler = Filler::new(
        Arc::clone(&store),
        Arc::clone(&clients),
        TaskTracker::new(),
        CancellationToken::new(),
        &settings,
        &metrics,
    );
    Core {
        settings,
        store,
        filler: Arc::new(filler),
        clients,
        secret,
        nonce: 1,
        counters: Counters::new(&metrics),
        spiller: Spiller::default(),
        guard: None,
        unverified: Unverified::default(),
    }
}

fn bytes_of(chunk: u64) -> Vec<u8> {
    vec![chunk as u8 + 1; CHUNK_BYTES as usize]
}

async fn put(ufs: &dyn UnderFileSystem, bytes: Vec<u8>) -> UfsSource {
    let length = bytes.len() as u64;
    let (source, attributes) = (BytesSource(bytes.into()), UfsAttributes::default());
    let status = ufs.write(b"f", &source, &Expect::Any, &attributes).await.unwrap();
    UfsSource {
        mount_id: MOUNT,
        path: b"f"[..].into(),
        fingerprint: status.fingerprint,
        length,
    }
}

/// An open file that the kernel writes past us, and of which the middle is in its object alone. Answers its data file.
fn spilled(dir: &Path, object: &UfsSource) -> File {
    let layout = Layout::open(dir).unwrap();
    let entry = Entry::create(&layout, Header::open_new(INODE.get(), 3)).unwrap();
    entry.begin_passing(true);
    entry.pass(Passing::Watched);
    entry.set_writable_fd_out().unwrap();
    entry.note_announcing();
    let path = layout.data(INODE, entry.view().header.generation);
    let past_us = File::options().write(true).open(path).unwrap();
    for chunk in 0..CHUNKS {
        past_us.write_all_at(&bytes_of(chunk), chunk * CHUNK_BYTES).unwrap();
    }
    assert!(entry.begin_spilling());
    entry.drain().unwrap();
    let stat = io::stat(&entry.data).unwrap();
    let holes = entry.checksum_changes(&stat).unwrap();
    entry.label_sealed(3, 4, &stat, holes, &layout.boot_id).unwrap();
    entry.note_sealed();
    let epoch = entry.view().content_epoch;
    assert!(entry.label_persisted(3, epoch, object.clone()).unwrap());
    assert!(entry.give_up_stored().unwrap() > 10 * CHUNK_BYTES);
    entry.end_spilling();
    past_us
}

/// Its writer wrote a part of what is not here, unannounced, and died; then somebody replaced its object. The master would ask for
/// ever, and nobody could open the file.
#[tokio::test]
async fn a_spilled_file_whose_object_was_replaced_is_recovered_with_what_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let ufs: Arc<dyn UnderFileSystem> = Arc::new(memory());
    let object = put(&*ufs, (0..CHUNKS).flat_map(bytes_of).collect()).await;
    let past_us = spilled(dir.path(), &object);
    for chunk in [20, 25] {
        past_us.write_all_at(&[9; 5000], chunk * CHUNK_BYTES + 4096).unwrap();
    }
    drop(past_us);
    put(&*ufs, b"somebody else's".to_vec()).await;
    let core = core_at(dir.path(), ufs);
    let task = RecoverTask {
        inode: INODE.get(),
        version: 4,
        ..RecoverTask::default()
    };
    let recovery = core.recover(&task, false).await.unwrap();
    let Recovery::Done(recovered) = recovery else {
        panic!("{recovery:?}")
    };
    assert_eq!((recovered.found, recovered.length), (true, CHUNKS * CHUNK_BYTES));
    let entry = core.store.find(INODE).await.unwrap().unwrap();
    assert!(!entry.view().header.open);
    let read = |chunk: u64| {
        let range = chunk * CHUNK_BYTES..(chunk + 1) * CHUNK_BYTES;
        entry.read_local(range, false, Check::Always).unwrap()
    };
    assert!(matches!(read(20), Local::Corrupt(20)) && matches!(read(25), Local::Corrupt(25)));
    for chunk in [0, 3, CHUNKS - 1] {
        match read(chunk) {
            Local::Data(found) => assert!(found == bytes_of(chunk)),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(read(21), Local::Missing), "it went with the object");
    // A person sees it.
    let damaged: Vec<u64> = core.store.damages.ranges().iter().map(|range| range.offset).collect();
    assert_eq!(damaged, [20 * CHUNK_BYTES, 25 * CHUNK_BYTES]);
    assert_eq!(entry.marks(20, 1).unwrap(), [Mark::Damaged]);
}
