//! The command `doctor`: what of a node would fail pods whose devices go into VMs, and how to mend it.
//!
//! It reads the configuration of the container runtime, that of the pools, and the host. What it can't see is no failure:
//! it says so.

mod configuration;
mod kata;

use std::fmt::Write;

use doorbell_common::check::Outcome;
use doorbell_common::host::Host;
use serde::Serialize;

use crate::config::Config;

/// Value of `apiVersion`.
const API_VERSION: &str = "doorbell.dev/v1";

/// What was looked at, and whether pods would start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    api_version: &'static str,
    runtime: &'static str,
    /// Whether nothing was found that would fail a pod.
    pub ok: bool,
    /// Every step, in the order in which it was made.
    pub findings: Vec<Finding>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stable name: lower case, words joined by dashes.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What is so, and what of it fails a pod.
    pub found: String,
    /// The file and key, or the node, that shows it.
    pub rests_on: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// Looks at a node of Kata Containers. `file` is Kata's configuration, where it is elsewhere than usual, and `devices` the
/// most that a pod asks for.
#[must_use]
pub fn kata(host: &Host, config: Option<&Config>, file: Option<&str>, devices: u32) -> Report {
    let findings = kata::examine(host, config, file, devices);
    let ok = findings.iter().all(|finding| finding.outcome != Outcome::Failed);
    Report { api_version: API_VERSION, runtime: "kata", ok, findings }
}

/// For people: a line a step, and below it what it rests on and what to do.
#[must_use]
pub fn text(report: &Report) -> String {
    let verdict = if report.ok { "nothing is seen that fails a pod" } else { "pods would fail" };
    let mut text = format!("{}: {verdict}\n", report.runtime);
    let width = report.findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    for Finding { name, outcome, found, rests_on, mend } in &report.findings {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{outcome:6}  {name:width$}  {found}");
        let _ = writeln!(text, "{:6}  {:width$}    by {rests_on}", "", "");
        if let Some(mend) = mend {
            let _ = writeln!(text, "{:6}  {:width$}    to mend it: {mend}", "", "");
        }
    }
    text
}

impl Finding {
    fn passed(name: &'static str, rests_on: impl Into<String>, found: impl Into<String>) -> Self {
        let (found, rests_on) = (found.into(), rests_on.into());
        Self { name, outcome: Outcome::Passed, found, rests_on, mend: None }
    }

    fn noted(name: &'static str, rests_on: impl Into<String>, found: impl Into<String>) -> Self {
        Self { outcome: Outcome::Noted, ..Self::passed(name, rests_on, found) }
    }

    fn failed(
        name: &'static str,
        rests_on: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let mend = Some(mend.into());
        Self { outcome: Outcome::Failed, mend, ..Self::passed(name, rests_on, found) }
    }
}
