//! The one build, and what came out of it.

use super::program::Program;
use crate::setup::{cargo, target};
use anyhow::{Context, ensure};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

/// Cargo's profile of tests and of the binary under test; see Cargo.toml.
pub const PROFILE: &str = "proof";

/// What was built.
pub struct Built {
    /// The binary under test.
    pub binary: PathBuf,
    /// Every test program of the workspace, in cargo's order.
    pub programs: Vec<Program>,
}

/// Builds all test programs of the workspace, and with them the binary.
///
/// # Errors
/// If cargo fails, or says what is not understood.
pub fn build() -> anyhow::Result<Built> {
    let mut child = cargo()
        .args(["test", "--workspace", "--no-run", "--profile", PROFILE])
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo")?;
    let output = child.stdout.take().context("cargo's output")?;
    let mut programs = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("read what cargo says")?;
        let message: serde_json::Value =
            serde_json::from_str(&line).with_context(|| format!("understand cargo: {line}"))?;
        programs.extend(Program::of(&message));
    }
    let status = child.wait().context("wait for cargo")?;
    ensure!(status.success(), "cargo test --no-run failed: {status}");
    let binary = target().join(PROFILE).join("alluxio");
    ensure!(
        binary.is_file(),
        "cargo built the tests but not {}: does the package `alluxio` have an integration test still?",
        binary.display()
    );
    ensure!(!programs.is_empty(), "cargo named no test program");
    Ok(Built { binary, programs })
}
