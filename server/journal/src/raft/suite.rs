//! openraft's own conformance tests for storage, on ours.

use std::{
    io::{self, Read},
    sync::Arc,
};

use alluxio_common::{clock::Clock, disk, sync::Mutex};
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};

use super::{LogStore, StateMachineAdapter, TypeConfig, VoteFile};
use crate::{
    CommitAt, StateMachine,
    applier::Applier,
    position::Applied,
    snapshot::SnapshotStore,
    stage::ApplyStage,
    waiting::Waiting,
    wal::{Wal, WalOptions},
};

/// A state machine without state.
#[derive(Default)]
struct Nothing(Mutex<Option<Vec<u8>>>);

impl StateMachine for Nothing {
    type Command = ();
    type Outcome = ();
    const LEVEL: u32 = 0;

    fn level_of(_command: &()) -> Option<u32> {
        Some(0)
    }

    fn apply(&self, position: &[u8], commands: Vec<()>) -> io::Result<Vec<()>> {
        *self.0.lock() = Some(position.to_vec());
        Ok(commands)
    }

    fn position(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().clone())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn snapshot(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::empty()))
    }

    fn restore(&self, position: &[u8], _snapshot: &mut dyn Read) -> io::Result<()> {
        *self.0.lock() = Some(position.to_vec());
        Ok(())
    }

    fn clear(&self) -> io::Result<()> {
        *self.0.lock() = None;
        Ok(())
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachineAdapter<Nothing>, tempfile::TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, StateMachineAdapter<Nothing>), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let options = WalOptions {
            dir: dir.path().join("log"),
            segment_bytes_max: 64 << 10,
            inline: false,
            commit: CommitAt::Synced,
            disk: disk::real(),
            clock: Clock::real(),
        };
        let wal = Arc::new(Wal::open(options, 0, Box::new(|_| ())).unwrap());
        let reader = wal.reader();
        let waiting = Arc::new(Waiting::new());
        let vote = VoteFile::open(disk::real(), dir.path().join("vote")).unwrap();
        let log = LogStore::new(wal, vote, waiting.clone());
        let snapshots = SnapshotStore::open(disk::real(), dir.path().join("snapshots")).unwrap();
        let (state, applied) = (Arc::new(Nothing::default()), Applied::of_stored(None).unwrap());
        let applier = Applier::new(state, 1, applied, snapshots, waiting, reader).unwrap();
        let stage = ApplyStage::start(Arc::new(applier), Clock::real()).unwrap();
        Ok((dir, log, StateMachineAdapter(Arc::new(stage))))
    }
}

#[tokio::test]
async fn storage_conforms_to_openraft() {
    Suite::test_all(Builder).await.unwrap();
}
