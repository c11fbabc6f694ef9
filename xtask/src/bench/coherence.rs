//! How soon a change on one mount is seen on another, under load; and whether an open ever reads what is not there any more.

use super::table::Target::AtMost;
use super::{Phases, Row, Table};
use alluxio_tests::LocalBuilder;
use alluxio_tests::cluster::Mount;
use alluxio_tests::disk::Disk;
use alluxio_tests::modes::Mode;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Changes of attributes, of names and of data, in turn.
const CHANGES: usize = 10_000;
/// So often it is said how far it is.
const PROGRESS: usize = 1_000;
/// Files that both mounts have in their caches.
const FILES: usize = 200;
/// A change that is not seen by then is a defect, not a latency.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs the benchmark; rounds do not matter.
pub fn run(_: usize) -> anyhow::Result<Table> {
    let disk = Disk::new("bench-coherence", 4);
    let local = LocalBuilder::at(disk.path()).start();
    let second = Mount::start(&local, &disk.path().join("second"), Mode::Passthrough);
    let (a, b) = (local.mount().join("watched"), second.path().join("watched"));
    std::fs::create_dir(&a)?;
    for number in 0..FILES {
        std::fs::write(a.join(number.to_string()), "0")?;
        // Both know it, so that what follows has a cache to invalidate.
        std::fs::read(b.join(number.to_string()))?;
    }
    let stop = AtomicBool::new(false);
    let measured = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(local.mount(), &stop));
        let measured = changes(&a, &b);
        stop.store(true, Ordering::Relaxed);
        load.join().expect("the load's thread").and(measured)
    })?;
    let mut table = Table::default();
    let Measured { mut seen, stale } = measured;
    seen.sort();
    let at = |share: f64| seen[((seen.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    for (name, share, bound) in [
        ("p50", 0.5, Some(5.0)),
        ("p99", 0.99, Some(50.0)),
        ("longest", 1.0, None),
    ] {
        table.rows.push(Row::figure(
            &format!("change on A seen on B, {name}"),
            "ms",
            at(share),
            bound.map(AtMost),
        ));
    }
    table.rows.push(Row::figure(
        "opens on B that read what A had replaced",
        "reads",
        stale as f64,
        Some(AtMost(0.0)),
    ));
    Ok(table)
}

/// Files made and removed on the first mount all the time.
fn load(mount: &Path, stop: &AtomicBool) -> anyhow::Result<()> {
    let dir = mount.join("load");
    std::fs::create_dir(&dir)?;
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        std::fs::write(dir.join(number.to_string()), vec![1; 10_000])?;
        if number >= 50 {
            std::fs::remove_file(dir.join((number - 50).to_string()))?;
        }
        number += 1;
    }
    Ok(())
}

struct Measured {
    seen: Vec<Duration>,
    stale: usize,
}

fn changes(a: &Path, b: &Path) -> anyhow::Result<Measured> {
    let mut measured = Measured {
        seen: Vec::with_capacity(CHANGES),
        stale: 0,
    };
    let mut phases = Phases::new();
    for change in 0..CHANGES {
        if change > 0 && change % PROGRESS == 0 {
            phases.ended(&format!("{change} of {CHANGES} changes"));
        }
        let name = (change % FILES).to_string();
        let (ours, theirs) = (a.join(&name), b.join(&name));
        let latency = match change % 3 {
            0 => {
                let mode = if std::fs::metadata(&ours)?.mode() & 0o777 == 0o600 {
                    0o644
                } else {
                    0o600
                };
                std::fs::metadata(&theirs)?;
                std::fs::set_permissions(&ours, std::fs::Permissions::from_mode(mode))?;
                until_seen(|| Ok(std::fs::metadata(&theirs)?.mode() & 0o777 == mode))?
            }
            1 => {
                // Away and back, each a change of a name that the other mount may have cached.
                let moved = b.join("moved");
                rename(&ours, &a.join("moved"))?;
                let latency = until_seen(|| Ok(moved.exists() && !theirs.exists()))?;
                rename(&a.join("moved"), &ours)?;
                until_seen(|| Ok(theirs.exists() && !moved.exists()))?;
                latency
            }
            _ => {
                let text = change.to_string();
                std::fs::write(&ours, &text)?;
                let start = Instant::now();
                // No waiting: what was closed is what open reads.
                let read = std::fs::read(&theirs)?;
                if read != text.as_bytes() {
                    measured.stale += 1;
                }
                let length = text.len() as u64;
                until_seen(|| Ok(std::fs::metadata(&theirs)?.len() == length))?;
                start.elapsed()
            }
        };
        measured.seen.push(latency);
    }
    Ok(measured)
}

/// rename(2) alone: what syncs the folder too would measure that.
fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    use nix::fcntl::{AT_FDCWD, renameat};
    Ok(renameat(AT_FDCWD, from, AT_FDCWD, to)?)
}

fn until_seen(is_seen: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    while !is_seen()? {
        anyhow::ensure!(start.elapsed() < LIMIT, "a change was not seen within {LIMIT:?}");
        std::hint::spin_loop();
    }
    Ok(start.elapsed())
}
