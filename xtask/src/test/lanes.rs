//! Test programs side by side: each lane runs its programs one after another.

use super::program::Program;
use std::fmt::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// One run of one program.
pub struct Job {
    program: Program,
    /// Only tests whose name contains this.
    filter: Option<String>,
    variables: Vec<(&'static str, &'static str)>,
}

impl Job {
    /// All of its tests, or those whose name contains `filter`.
    pub fn new(program: Program, filter: Option<&str>) -> Job {
        Job {
            program,
            filter: filter.map(str::to_owned),
            variables: Vec::new(),
        }
    }

    /// With a variable in its environment.
    pub fn with(mut self, name: &'static str, value: &'static str) -> Job {
        self.variables.push((name, value));
        self
    }

    fn label(&self) -> String {
        let mut label = format!("{} {}", self.program.package, self.program.name);
        for (_, value) in &self.variables {
            let _ = write!(label, " [{value}]");
        }
        label
    }
}

/// One line of the table.
struct Row {
    lane: usize,
    label: String,
    took: Duration,
    passed: u64,
    failed: usize,
}

/// How all ended.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    took: Duration,
    /// Tests that failed, by program and name.
    pub failed: Vec<String>,
}

/// Runs the lanes to their ends. What a program printed is shown whole when it has ended.
pub fn run<const LANES: usize>(lanes: [Vec<Job>; LANES]) -> Report {
    let begun = Instant::now();
    let report = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for (lane, jobs) in lanes.into_iter().enumerate() {
            let report = &report;
            scope.spawn(move || {
                for job in jobs {
                    run_job(lane, &job, report);
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    report.took = begun.elapsed();
    report
}

fn run_job(lane: usize, job: &Job, report: &Mutex<Report>) {
    let ended = job.program.run(job.filter.as_deref(), &job.variables);
    // A filter leaves most programs without a test.
    if job.filter.is_some() && ended.passed == 0 && ended.failed.is_empty() {
        return;
    }
    let mut report = report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!(
        "\n== {} ({:.0} s)\n{}",
        job.label(),
        ended.took.as_secs_f64(),
        ended.printed.trim_end()
    );
    report.rows.push(Row {
        lane,
        label: job.label(),
        took: ended.took,
        passed: ended.passed,
        failed: ended.failed.len(),
    });
    report.failed.extend(ended.failed);
}

impl Report {
    /// How long each program took, by lane, the longest first.
    pub fn table(&self) -> String {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| (row.lane, std::cmp::Reverse(row.took)));
        let width = rows.iter().map(|row| row.label.len()).max().unwrap_or(0);
        let mut text = format!("\nlane  {:<width$}  minutes  passed  failed\n", "tests");
        for row in rows {
            let minutes = row.took.as_secs_f64() / 60.0;
            let _ = writeln!(
                text,
                "{:>4}  {:<width$}  {minutes:>7.1}  {:>6}  {:>6}",
                row.lane, row.label, row.passed, row.failed
            );
        }
        let _ = writeln!(text, "all of it took {:.1} minutes", self.took.as_secs_f64() / 60.0);
        text
    }

    /// Whether there was a test at all.
    pub fn ran_any(&self) -> bool {
        !self.rows.is_empty()
    }

    /// The line that counts: `N passed, N failed`.
    pub fn closing_line(&self) -> String {
        let passed: u64 = self.rows.iter().map(|row| row.passed).sum();
        format!("{passed} passed, {} failed", self.failed.len())
    }
}
