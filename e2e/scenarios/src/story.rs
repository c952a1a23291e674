//! The telling: one line a step, with the time since the start.

use std::fmt::Display;
use std::time::Instant;

/// Tells what happens, on stdout.
#[derive(Debug, Clone, Copy)]
pub struct Story {
    began: Instant,
}

impl Story {
    /// Starts the clock.
    #[must_use]
    pub fn begin() -> Self {
        Self { began: Instant::now() }
    }

    /// A step that has come true.
    pub fn tell(&self, step: impl Display) {
        println!("[{:6.2} s] {step}", self.began.elapsed().as_secs_f64());
    }

    /// What a program printed, set off from the story.
    pub fn quote(&self, text: impl Display) {
        for line in text.to_string().lines() {
            println!("           | {line}");
        }
    }
}
