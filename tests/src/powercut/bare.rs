//! The same load, the same cuts and the same checker on a bare ext4: what the checker allows must be what a local file system
//! does, and what it demands must be what one keeps.

use super::check;
use super::disk::PowerDisk;
use super::load::{self, Work, follow};
use super::model::Model;
use super::rig::{Plan, QUIET_MS, Report, THREADS};
use super::write_out::{WriteOut, write_out};
use crate::tools;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;

const DISK_MIB: u64 = 1024;
const LIMIT: Duration = Duration::from_secs(60);

/// Cuts the power `plan.cuts` times under a load that works on ext4 itself.
///
/// # Errors
/// What was wrong first, with the seed.
pub fn run_bare(plan: &Plan) -> Result<Report, String> {
    let dir = tools::scratch("powercut-");
    let mut disk = PowerDisk::new(&plan.disk, dir.path(), DISK_MIB);
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut models = vec![Model::default(); THREADS];
    models.iter_mut().for_each(|model| model.keeps_ghosts = true);
    let mut report = Report::default();
    for thread in 0..THREADS {
        let folder = disk.path().join(load::folder(thread));
        std::fs::create_dir(&folder).map_err(|error| format!("make {}: {error}", folder.display()))?;
    }
    let root = std::fs::File::open(disk.path()).and_then(|root| root.sync_all());
    root.map_err(|error| format!("sync the root: {error}"))?;
    for cut in 0..plan.cuts {
        let failed = |why: String| format!("seed {}: cut {cut}: {why}", plan.seed);
        let writing = random
            .random_bool(0.5)
            .then(|| WriteOut::start(disk.path(), random.random()));
        let work = Work {
            program: &plan.load,
            seed: plan.seed.wrapping_mul(1000) + cut,
            work: dir.path(),
            syncs: true,
        };
        let mut process = work.start(disk.path(), &models, &mut random).map_err(failed)?;
        if random.random_bool(0.5) {
            work.quieten().map_err(failed)?;
            std::thread::sleep(Duration::from_millis(random.random_range(QUIET_MS)));
        }
        if random.random_bool(0.7) {
            write_out(disk.path(), &mut random);
            // What the disk has by then is drawn for; the rest is lost with the page cache.
            std::thread::sleep(Duration::from_millis(random.random_range(0..25)));
        }
        disk.freeze();
        process.signal(nix::sys::signal::Signal::SIGKILL);
        disk.off();
        process.wait(LIMIT);
        drop(writing);
        report.add(disk.cut(random.random()).map_err(failed)?);
        report.steps += follow(dir.path(), &mut models).map_err(failed)?;
        for (thread, model) in models.iter_mut().enumerate() {
            let wrong = check::check(&disk.path().join(load::folder(thread)), model);
            if !wrong.is_empty() {
                return Err(failed(format!("{}: {}", load::folder(thread), wrong.join("\n"))));
            }
        }
    }
    disk.fsck()?;
    Ok(report)
}
