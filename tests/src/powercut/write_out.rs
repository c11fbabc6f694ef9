//! Dirty pages written to the disk while nobody asks for it: as a kernel short of memory, or of patience, does.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(3);

/// Begins to write dirty pages of some of the files in `folder` to the disk, which keeps no order among them and no promise of a
/// flush.
pub fn write_out(folder: &Path, random: &mut StdRng) {
    for path in files(folder) {
        if random.random_bool(0.5) {
            begin(&path);
        }
    }
}

/// Writes dirty pages of one file and another until it is dropped.
#[derive(Debug)]
pub struct WriteOut {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WriteOut {
    /// Begins, with the files in `folder`.
    pub fn start(folder: &Path, seed: u64) -> WriteOut {
        let stop = Arc::new(AtomicBool::new(false));
        let (folder, stopped) = (folder.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut random = StdRng::seed_from_u64(seed);
            while !stopped.load(Ordering::Relaxed) {
                for path in files(&folder) {
                    if random.random_ratio(1, 16) && !stopped.load(Ordering::Relaxed) {
                        begin(&path);
                    }
                }
                std::thread::sleep(PAUSE);
            }
        });
        WriteOut {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for WriteOut {
    /// Waits for the thread: the disk must answer, or have said that it does not.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed, and it only makes other things happen.
            let _ = thread.join();
        }
    }
}

/// Files come and go meanwhile: what cannot be listed is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}

fn begin(path: &Path) {
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    if let Ok(file) = opened {
        // SAFETY: the descriptor is open.
        unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    }
}
