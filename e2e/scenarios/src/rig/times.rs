//! Times that are measured and told: no test fails by them.

use std::time::Duration;

use anyhow::{Context, Result};
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

    pub(crate) fn tell(mut self, story: &Story, what: &str) -> Result<()> {
        self.0.sort();
        let (middle, most) = (self.0.get(self.0.len() / 2), self.0.last());
        let (middle, most) = middle.zip(most).context("nothing was measured")?;
        let millis = |time: &Duration| time.as_secs_f64() * 1000.0;
        story.tell(format!(
            "{what}: p50 {:.0} ms, max {:.0} ms of {}",
            millis(middle),
            millis(most),
            self.0.len()
        ));
        Ok(())
    }
}
