//! The sizes of the shipped binaries.

use anyhow::Result;

use crate::programs::Programs;
use crate::report::{Figure, Target};

/// What each is to have at most, in megabytes.
const LIMITS: [(&str, f64); 2] = [("doorbell-device-plugin", 8.0), ("doorbell", 3.0)];

pub(crate) fn sizes(programs: &Programs) -> Result<Vec<Figure>> {
    let figure = |(name, limit)| {
        #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
        let value = programs.size(name)? as f64 / 1e6;
        let (name, target) = (format!("{name}, stripped and static"), Target::Flat(limit));
        Ok(Figure { name, value, floor: None, target, unit: "MB" })
    };
    LIMITS.into_iter().map(figure).collect()
}
