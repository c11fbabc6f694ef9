//! `cargo xtask test`: everything that must pass, on real parts.
//!
//! One build, in the profile `proof`, makes the tests and the binary that they test. Then two lanes run side by side: the
//! tests of the whole system in one, and in the other what spends processor time but mounts little. The two hardly disturb
//! each other, and what disturbs itself is never run twice at once. Each test program has a time limit, so that one that
//! hangs does not hang the run; at the end a table says how long each took.

mod build;
mod lanes;
mod program;

use crate::posix;
use crate::setup;
use anyhow::ensure;
use lanes::{Job, Report};
use program::Program;

/// The filter that stands for all proofs of POSIX behaviour.
const POSIX: &str = "posix";
/// The filter that stands for everything, however long it takes.
const ALL: &str = "all";
/// The package with the tests of the whole system.
const WHOLE: &str = "alluxio-tests";
/// Test programs that prove POSIX behaviour, beside the public suite.
const POSIX_TESTS: [&str; 7] = [
    "reference",
    "mount_options",
    "bad_posix",
    "posix_calls",
    "posix_ranges",
    "posix_between",
    "programs",
];
/// What the second transport has to show each time. Its requests go through the same operations as the first's, so this
/// is about the transport alone: calls, ranges of files, and two mounts.
const SHORT_SUITE: [&str; 3] = ["posix_calls", "posix_ranges", "posix_between"];
/// Tests of the whole that mostly wait, and hold nothing to a time: they run in the other lane.
const PATIENT: [&str; 4] = ["programs", "mount_options", "faults", "metadata_disk"];
/// The transport that is not the default.
const SECOND_TRANSPORT: &str = "fuser";
const TRANSPORT_VARIABLE: &str = "ALLUXIO_TEST_TRANSPORT";
/// How many power cuts one run makes, as `tests/power_cut.rs` reads it; otherwise it chooses a number for a minute or two.
const CUTS_VARIABLE: &str = "ALLUXIO_TEST_POWER_CUTS";
const CUTS_OF_ALL: &str = "200";
/// The same of kills while trees are moved and removed (`tests/crash_trees.rs`), and of seconds of a load over a bucket that others change
/// (`tests/changed_outside_soak.rs`).
const KILLS_VARIABLE: &str = "ALLUXIO_TEST_KILLS";
const KILLS_OF_ALL: &str = "200";
const SOAK_VARIABLE: &str = "ALLUXIO_TEST_SOAK_S";
const SOAK_OF_ALL: &str = "120";
/// Where random operations begin, as `proptest` reads it. A change is judged by the same ones each time; `test all` looks for others.
const SEED_VARIABLE: &str = "PROPTEST_RNG_SEED";
const SEED: &str = "20261130";

/// Installs, builds, and runs the tests.
///
/// # Errors
/// If something cannot be installed or built, or a test failed; all are run whatever the first one says.
pub fn run(filter: Option<&str>, transport: Option<&str>) -> anyhow::Result<()> {
    let tools = setup::tools()?;
    setup::posix_programs()?;
    let suite = match filter {
        None | Some(POSIX | ALL) => Some(setup::pjdfstest()?),
        Some(_) => None,
    };
    println!("building the tests and the binary under test");
    let built = build::build()?;
    // SAFETY: this process has one thread until the lanes start.
    unsafe {
        std::env::set_var("ALLUXIO_TEST_BIN", &built.binary);
        std::env::set_var("ALLUXIO_TEST_VERSITYGW", &tools.versitygw);
        std::env::set_var("ALLUXIO_TEST_MOTO_SERVER", &tools.moto_server);
        if let Some(transport) = transport {
            std::env::set_var(TRANSPORT_VARIABLE, transport);
        }
        if filter == Some(ALL) {
            std::env::set_var(CUTS_VARIABLE, CUTS_OF_ALL);
            std::env::set_var(KILLS_VARIABLE, KILLS_OF_ALL);
            std::env::set_var(SOAK_VARIABLE, SOAK_OF_ALL);
        } else if std::env::var_os(SEED_VARIABLE).is_none() {
            std::env::set_var(SEED_VARIABLE, SEED);
        }
    }
    let (whole, parts): (Vec<Program>, Vec<Program>) =
        built.programs.into_iter().partition(|program| program.package == WHOLE);
    let is_proof = |program: &Program| POSIX_TESTS.contains(&program.name.as_str());
    let on_second = |wanted: &[&str]| -> Vec<Job> {
        let chosen = whole.iter().filter(|program| wanted.contains(&program.name.as_str()));
        chosen
            .map(|program| Job::new(program.clone(), None).with(TRANSPORT_VARIABLE, SECOND_TRANSPORT))
            .collect()
    };
    let jobs = |programs: Vec<Program>, name: Option<&str>| -> Vec<Job> {
        programs.into_iter().map(|program| Job::new(program, name)).collect()
    };
    let lanes = match filter {
        None | Some(ALL) => {
            let second = match (transport, filter) {
                (Some(_), _) => Vec::new(),
                (None, Some(ALL)) => on_second(&POSIX_TESTS),
                (None, _) => on_second(&SHORT_SUITE),
            };
            let (patient, whole) = whole
                .into_iter()
                .partition(|program: &Program| PATIENT.contains(&program.name.as_str()));
            let mut beside = jobs(parts, None);
            beside.extend(second);
            beside.extend(jobs(patient, None));
            [jobs(whole, None), beside]
        }
        Some(POSIX) => {
            let second = on_second(if transport.is_none() { &POSIX_TESTS } else { &[] });
            let first = whole.iter().filter(|program| is_proof(program)).cloned().collect();
            [jobs(first, None), second]
        }
        Some(name) => [jobs(whole, Some(name)), jobs(parts, Some(name))],
    };
    let report: Report = lanes::run(lanes);
    let suite = suite.map_or(Ok(()), |program| posix::run_suite(&program));
    print!("{}", report.table());
    println!("{}", report.closing_line());
    ensure!(
        report.ran_any(),
        "no test has such a name: {}",
        filter.unwrap_or_default()
    );
    ensure!(report.failed.is_empty(), "failed: {}", report.failed.join(", "));
    suite
}
