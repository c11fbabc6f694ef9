//! openraft's own conformance tests for storage, on ours.

use std::{
    io::{self, Read},
    sync::Arc,
};

use alluxio_common::sync::Mutex;
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};

use super::{Applier, LogStore, StateMachineAdapter, TypeConfig, VoteFile};
use crate::{
    StateMachine,
    snapshot::SnapshotStore,
    wal::{Wal, WalOptions},
};

/// A state machine without state.
#[derive(Default)]
struct Nothing(Mutex<Option<Vec<u8>>>);

impl StateMachine for Nothing {
    type Command = ();
    type Outcome = ();

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
        };
        let wal = Arc::new(Wal::open(options, 0).unwrap());
        let log = LogStore::new(wal, VoteFile::open(dir.path().join("vote")).unwrap());
        let snapshots = SnapshotStore::open(dir.path().join("snapshots")).unwrap();
        let applier = Applier::new(Arc::new(Nothing::default()), snapshots).unwrap();
        Ok((dir, log, StateMachineAdapter(Arc::new(applier))))
    }
}

#[tokio::test]
async fn storage_conforms_to_openraft() {
    Suite::test_all(Builder).await.unwrap();
}
