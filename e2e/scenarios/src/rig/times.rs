//! Times that are measured and told: no test fails by them.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e_probe::spread::Spread;
use tokio::time::Instant;

use crate::Story;

/// How long something took, each time.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn since(&mut self, start: Instant) {
        self.0.push(start.elapsed());
    }

    /// All of them, in milliseconds.
    pub(crate) fn spread(self) -> Result<Spread> {
        let millis = self.0.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        Spread::of(millis).context("nothing was measured")
    }

    pub(crate) fn tell(self, story: &Story, what: &str) -> Result<()> {
        let Spread { count, p50, max, .. } = self.spread()?;
        story.tell(format!("{what}: p50 {p50:.0} ms, max {max:.0} ms of {count}"));
        Ok(())
    }
}
