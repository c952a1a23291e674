//! `doorbell-figures <path>`: boots the machine, has it measure what things cost there by the programs as they are
//! released, writes that to the path as one JSON document, and prints it as a table.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e_scenarios::figures::{Counts, Document, FILE};
use e2e_scenarios::{find, host};
use e2e_testbed::Testbed;

/// Enough for medians.
const COUNTS: Counts = Counts { adds: 31, pods: 20, rings: 20_000, round_trips: 1000 };
/// The machine's. Most of it are the pods, each of which takes some seconds on a busy host.
const TIME_LIMIT: Duration = Duration::from_secs(1200);

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).map(PathBuf::from);
    let path = path.context("the path is missing that the figures go to")?;
    let figures = find("figures").context("there are no figures")?;
    let testbed = Testbed::open(&|step| println!("testbed: {step}"))?;
    let programs = host::released()?;
    let counts = COUNTS.words();
    let outcome =
        host::run_with(&testbed, figures, &programs, TIME_LIMIT, &counts, &mut |line| println!("{line}"))?;
    let mut document = Document::parse(&fs::read(outcome.out().join(FILE))?)?;
    document.binaries = Some("release".to_owned());
    document.check()?;
    fs::write(&path, serde_json::to_vec_pretty(&document)?)
        .with_context(|| format!("write {}", path.display()))?;
    print!("{document}");
    Ok(())
}
