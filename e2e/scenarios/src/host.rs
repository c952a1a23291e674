//! The host's side: builds the binaries, boots the machine, runs a scenario in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use e2e_testbed::{Job, Line, Outcome, Testbed};
use serde_json::Value;

use crate::Scenario;
use crate::installation::{self, Installation};

/// What goes into the guest, the scenarios' own program first.
const PROGRAMS: [&str; 5] =
    ["doorbell-scenario", "doorbell", "doorbell-device-plugin", "doorbell-probe", "doorbell-floor"];
/// Of these what figures are told of, and the packages that they are in.
const MEASURED: [&str; 3] = ["doorbell", "doorbell-probe", "doorbell-floor"];
const MEASURED_PACKAGES: [&str; 2] = ["doorbell-cni", "e2e-probe"];
/// The machine's, from its start.
const TIME_LIMIT: Duration = Duration::from_secs(480);

/// Builds the workspace and gives the guest's programs.
///
/// Everything, tests included, as `make test` builds it: cargo then has nothing to compile twice with other features.
pub fn programs() -> Result<&'static [PathBuf]> {
    // Once a process: tests in it run side by side.
    static BUILT: OnceLock<Result<Vec<PathBuf>, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow!("{error}"))
}

fn build() -> Result<Vec<PathBuf>> {
    cargo(&["--workspace", "--all-targets", "--profile", "testbed"], &PROGRAMS)
}

/// Builds as it is released what figures are told of, and gives the guest's programs with these in the place of theirs.
pub fn released() -> Result<Vec<PathBuf>> {
    let packages = MEASURED_PACKAGES.iter().flat_map(|package| ["--package", package]);
    let released = cargo(&packages.chain(["--release"]).collect::<Vec<_>>(), &MEASURED)?;
    let instead = |theirs: &PathBuf| {
        let same = released.iter().find(|ours| ours.file_name() == theirs.file_name());
        same.unwrap_or(theirs).clone()
    };
    Ok(programs()?.iter().map(instead).collect())
}

/// Has cargo build what the arguments say, and gives these of its programs.
fn cargo(arguments: &[&str], programs: &[&str]) -> Result<Vec<PathBuf>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo tells a test of its package would be another environment for build scripts, and all behind them anew.
    for (name, _) in std::env::vars_os() {
        let of_package = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_"];
        if of_package.iter().any(|start| name.to_string_lossy().starts_with(start)) {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        .current_dir(workspace)
        .arg("build")
        .args(arguments)
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo")?;
    ensure!(output.status.success(), "cargo build {}: {}", arguments.join(" "), output.status);
    let messages = String::from_utf8(output.stdout)?;
    let built: Vec<Value> = messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    programs.iter().map(|name| program(&built, name)).collect()
}

fn program(built: &[Value], name: &str) -> Result<PathBuf> {
    // A test binary has the same target name, and a hash in its file's.
    let is_it = |path: &&str| Path::new(path).file_name().is_some_and(|file| file == name);
    let path = built.iter().filter_map(|message| message["executable"].as_str()).find(is_it);
    Ok(PathBuf::from(path.with_context(|| format!("cargo built no {name}"))?))
}

/// Runs a scenario in a fresh machine with more arguments, its lines given to `line` as they come.
pub fn run(
    testbed: &Testbed,
    scenario: &Scenario,
    arguments: &[String],
    line: &mut dyn FnMut(Line<'_>),
) -> Result<Outcome> {
    run_with(testbed, scenario, programs()?, TIME_LIMIT, arguments, line)
}

/// Likewise, with these programs, and so long at most.
pub fn run_with(
    testbed: &Testbed,
    scenario: &Scenario,
    programs: &[PathBuf],
    limit: Duration,
    arguments: &[String],
    line: &mut dyn FnMut(Line<'_>),
) -> Result<Outcome> {
    let [program, others @ ..] = programs else { bail!("there is nothing to run") };
    let job =
        Job::program(program, std::iter::once(scenario.name).chain(arguments.iter().map(String::as_str)))
            .time_limit(limit);
    let job = others.iter().fold(job, Job::file);
    let installation = scenario.installs.then(Installation::make).transpose()?;
    let job = installation.iter().flat_map(|made| &made.files).fold(job, Job::file);
    let outcome = testbed.run(&(scenario.machine)()?, &job, line)?;
    if outcome.exit_code != 0 {
        bail!("scenario {} failed with exit code {}", scenario.name, outcome.exit_code);
    }
    if scenario.installs {
        installation::judge(&outcome.out()).context("what the metrics say")?;
    }
    Ok(outcome)
}
