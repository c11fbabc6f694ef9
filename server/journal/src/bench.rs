//! How fast the journal is, against the disk that it is on.
//!
//! The yardstick is taken in the same directory and the same run: one thread that appends 512 bytes to a file and
//! calls `fdatasync`, over and over. Ratios survive a change of machine; absolute figures do not.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use alluxio_common::sync::Mutex;
use futures::{StreamExt, TryStreamExt};

use crate::{Journal, JournalError, JournalOptions, NodeId, StateMachine};

/// Callers in the concurrent measurement.
const CALLERS: usize = 16;
/// Bytes of one command: about what a create is.
const COMMAND_BYTES: usize = 200;
/// Rounds: disks are noisy, so each figure is the best of several rounds, interleaved with the yardstick's.
const ROUNDS: usize = 3;

/// What was measured.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Figures {
    /// 512-byte appends with `fdatasync`, per second.
    pub disk_syncs_per_s: f64,
    /// Proposals of one caller after the other, per second.
    pub serial_per_s: f64,
    /// Proposals of 16 callers, per second.
    pub concurrent_per_s: f64,
    /// `serial_per_s / disk_syncs_per_s`; should be at least 0.8.
    pub serial_ratio: f64,
    /// `concurrent_per_s / disk_syncs_per_s`; should be at least 4.
    pub concurrent_ratio: f64,
    /// Opening a journal with 100,000 entries that the state machine has not seen, up to serving.
    pub replay_100k_ms: f64,
    /// Opening an empty journal, up to serving.
    pub open_ms: f64,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "disk: 512-byte append + fdatasync  {:>9.0} /s",
            self.disk_syncs_per_s
        )?;
        writeln!(
            f,
            "journal: 1 caller                  {:>9.0} /s  ratio {:.2}",
            self.serial_per_s, self.serial_ratio
        )?;
        writeln!(
            f,
            "journal: {CALLERS} callers                {:>9.0} /s  ratio {:.2}",
            self.concurrent_per_s, self.concurrent_ratio
        )?;
        writeln!(f, "open, empty                        {:>9.1} ms", self.open_ms)?;
        write!(f, "open, 100,000 entries to replay    {:>9.1} ms", self.replay_100k_ms)
    }
}

/// Measures in a new folder below `dir`, for about `seconds` in all. Removes what it wrote.
///
/// # Errors
/// If the journal cannot be opened there, or fails.
pub async fn run(dir: &Path, seconds: f64) -> Result<Figures, JournalError> {
    let scratch = dir.join(format!("journal-bench-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(JournalError::io("create the bench's folder"))?;
    let figures = measure(&scratch, seconds).await;
    std::fs::remove_dir_all(&scratch).map_err(JournalError::io("remove the bench's folder"))?;
    figures
}

async fn measure(dir: &Path, seconds: f64) -> Result<Figures, JournalError> {
    let slice = Duration::from_secs_f64(seconds / (3 * ROUNDS) as f64);
    let options = JournalOptions::new(dir.join("journal"), "bench", NodeId(1));
    let began = Instant::now();
    let journal = Journal::open(options, Arc::new(Sink::default())).await?;
    let open_ms = began.elapsed().as_secs_f64() * 1e3;
    let (mut disk, mut serial, mut concurrent) = (0.0_f64, 0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        let file = dir.join("yardstick");
        let syncs = tokio::task::spawn_blocking(move || sync_rate(&file, slice)).await;
        let syncs = syncs.map_err(|e| JournalError::Failed { reason: e.to_string() })?;
        disk = disk.max(syncs.map_err(JournalError::io("measure the disk"))?);
        serial = serial.max(propose_rate(&journal, 1, slice).await?);
        concurrent = concurrent.max(propose_rate(&journal, CALLERS, slice).await?);
    }
    journal.shutdown().await?;
    Ok(Figures {
        disk_syncs_per_s: disk,
        serial_per_s: serial,
        concurrent_per_s: concurrent,
        serial_ratio: serial / disk,
        concurrent_ratio: concurrent / disk,
        replay_100k_ms: replay(dir).await?,
        open_ms,
    })
}

fn sync_rate(path: &Path, during: Duration) -> io::Result<f64> {
    let file = File::create(path)?;
    let (began, mut count) = (Instant::now(), 0_u64);
    while began.elapsed() < during {
        file.write_all_at(&[b'x'; 512], count * 512)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

async fn propose_rate(journal: &Journal<Sink>, callers: usize, during: Duration) -> Result<f64, JournalError> {
    let began = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let journal = journal.clone();
            tokio::spawn(async move {
                let mut count = 0_u64;
                while began.elapsed() < during {
                    journal.propose(command()).await?;
                    count += 1;
                }
                Ok::<_, JournalError>(count)
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task
            .await
            .map_err(|e| JournalError::Failed { reason: e.to_string() })??;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

async fn replay(dir: &Path) -> Result<f64, JournalError> {
    let options = JournalOptions::new(dir.join("replay"), "bench", NodeId(1));
    let journal = Journal::open(options.clone(), Arc::new(Sink::default())).await?;
    let proposals = futures::stream::iter(0..100_000)
        .map(Ok)
        .try_for_each_concurrent(1000, |_: u32| {
            let journal = &journal;
            async move { journal.propose(command()).await }
        });
    proposals.await?;
    journal.shutdown().await?;
    let (began, sink) = (Instant::now(), Arc::new(Sink::default()));
    let journal = Journal::open(options, sink.clone()).await?;
    let elapsed = began.elapsed();
    let applied = sink.applied.load(Ordering::Relaxed);
    journal.shutdown().await?;
    match applied {
        100_000 => Ok(elapsed.as_secs_f64() * 1e3),
        other => Err(JournalError::Failed {
            reason: format!("{other} commands were replayed instead of 100000"),
        }),
    }
}

fn command() -> Filler {
    Filler {
        bytes: vec![b'c'; COMMAND_BYTES - 3],
    }
}

/// A command that does nothing.
#[derive(Clone, PartialEq, prost::Message)]
struct Filler {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
}

/// A state machine that only counts.
#[derive(Default)]
struct Sink {
    applied: AtomicU64,
    position: Mutex<Option<Vec<u8>>>,
}

impl StateMachine for Sink {
    type Command = Filler;
    type Outcome = ();
    const LEVEL: u32 = 0;

    fn level_of(_command: &Filler) -> Option<u32> {
        Some(0)
    }

    fn apply(&self, position: &[u8], commands: Vec<Filler>) -> io::Result<Vec<()>> {
        self.applied.fetch_add(commands.len() as u64, Ordering::Relaxed);
        *self.position.lock() = Some(position.to_vec());
        Ok(vec![(); commands.len()])
    }

    fn position(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.position.lock().clone())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn snapshot(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(
            self.applied.load(Ordering::Relaxed).to_le_bytes(),
        )))
    }

    fn restore(&self, position: &[u8], snapshot: &mut dyn Read) -> io::Result<()> {
        let mut applied = [0; 8];
        snapshot.read_exact(&mut applied)?;
        self.applied.store(u64::from_le_bytes(applied), Ordering::Relaxed);
        *self.position.lock() = Some(position.to_vec());
        Ok(())
    }

    fn clear(&self) -> io::Result<()> {
        self.applied.store(0, Ordering::Relaxed);
        *self.position.lock() = None;
        Ok(())
    }
}
