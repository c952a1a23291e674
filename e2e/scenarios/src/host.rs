//! The host's side: builds the binaries, boots the machine, runs a scenario in it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e_testbed::{Job, Line, Outcome, Testbed};
use serde_json::Value;

use crate::Scenario;

/// What goes into the guest.
const PACKAGES: [&str; 4] = ["doorbell-cni", "doorbell-device-plugin", "e2e-probe", "e2e-scenarios"];
const PROGRAM: &str = "doorbell-scenario";
/// What `make demo` is a telling of.
const TIME_LIMIT: Duration = Duration::from_secs(240);

/// Builds the binaries, quickly to build and statically linked, and gives their paths.
pub fn binaries() -> Result<Vec<PathBuf>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace).args([
        "build",
        "--profile",
        "testbed",
        "--message-format",
        "json-render-diagnostics",
    ]);
    cargo.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    let output = cargo.stderr(std::process::Stdio::inherit()).output().context("run cargo")?;
    ensure!(output.status.success(), "cargo build: {}", output.status);
    let messages = String::from_utf8(output.stdout)?;
    let built = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(built.filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?))).collect())
}

/// Runs a scenario in a fresh machine, its lines given to `line` as they come.
pub fn run(testbed: &Testbed, scenario: &Scenario, line: &mut dyn FnMut(Line<'_>)) -> Result<Outcome> {
    let binaries = binaries()?;
    let is_program = |path: &&PathBuf| path.file_name().is_some_and(|name| name == PROGRAM);
    let program = binaries.iter().find(is_program).with_context(|| format!("cargo built no {PROGRAM}"))?;
    let mut job = Job::program(program, [scenario.name]).time_limit(TIME_LIMIT);
    for binary in binaries.iter().filter(|binary| *binary != program) {
        job = job.file(binary);
    }
    let outcome = testbed.run(&(scenario.machine)()?, &job, line)?;
    if outcome.exit_code != 0 {
        bail!("scenario {} failed with exit code {}", scenario.name, outcome.exit_code);
    }
    Ok(outcome)
}
