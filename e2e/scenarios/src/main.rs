//! `doorbell-scenario <name>`: runs one scenario, in the guest.

use anyhow::{Context, Result};
use e2e_scenarios::{SCENARIOS, Story, find};

fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_ansi(false)
        .with_target(false)
        .init();
    let name = std::env::args().nth(1).unwrap_or_default();
    let scenario = find(&name).with_context(|| {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        format!("`{name}` is no scenario; there are {}", names.join(", "))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on((scenario.run)(Story::begin()))
}
