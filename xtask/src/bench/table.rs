//! Results: what was measured, against what, and what was promised.

use serde::Serialize;
use std::fmt::Write;

/// One line of a result.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Ours, in `unit`.
    pub ours: f64,
    /// The baseline's, in `unit`; 0 where there is none.
    pub baseline: f64,
    /// MiB/s, op/s, MiB, ...
    pub unit: &'static str,
    /// `ours / baseline`, or `ours` itself where there is no baseline.
    pub figure: f64,
    /// What was promised of `figure`: at least, or at most.
    pub target: Option<Target>,
}

/// A promise.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Target {
    /// The figure must not be smaller.
    AtLeast(f64),
    /// The figure must not be larger.
    AtMost(f64),
}

impl Row {
    /// A ratio of two rates.
    pub fn ratio(name: &str, unit: &'static str, ours: f64, baseline: f64, target: Option<Target>) -> Row {
        Row {
            name: name.to_owned(),
            ours,
            baseline,
            unit,
            figure: ours / baseline,
            target,
        }
    }
    /// A figure by itself.
    pub fn figure(name: &str, unit: &'static str, value: f64, target: Option<Target>) -> Row {
        Row {
            name: name.to_owned(),
            ours: value,
            baseline: 0.0,
            unit,
            figure: value,
            target,
        }
    }
    /// Whether the promise is kept; `None` if there is none.
    pub fn kept(&self) -> Option<bool> {
        self.target.map(|target| match target {
            Target::AtLeast(bound) => self.figure >= bound,
            Target::AtMost(bound) => self.figure <= bound,
        })
    }
}

/// A benchmark's result.
#[derive(Debug, Default, Serialize)]
pub struct Table {
    /// In the order measured.
    pub rows: Vec<Row>,
}

impl Table {
    /// As text with aligned columns.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{:<44} {:>12} {:>12} {:<8} {:>8}  {:<9}",
            "what", "ours", "baseline", "unit", "figure", "target"
        );
        for row in &self.rows {
            let baseline = if row.baseline == 0.0 {
                "-".to_owned()
            } else {
                format!("{:.1}", row.baseline)
            };
            let target = match row.target {
                Some(Target::AtLeast(bound)) => format!(">= {bound}"),
                Some(Target::AtMost(bound)) => format!("<= {bound}"),
                None => String::new(),
            };
            let verdict = match row.kept() {
                Some(true) => "ok",
                Some(false) => "MISSED",
                None => "",
            };
            let _ = writeln!(
                out,
                "{:<44} {:>12.1} {:>12} {:<8} {:>8.2}  {:<9} {}",
                row.name, row.ours, baseline, row.unit, row.figure, target, verdict
            );
        }
        out
    }

    /// Rows whose promise is not kept.
    pub fn missed(&self) -> impl Iterator<Item = String> + '_ {
        self.rows
            .iter()
            .filter(|row| row.kept() == Some(false))
            .map(|row| format!("{} is {:.2}", row.name, row.figure))
    }
}

/// The middle value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
