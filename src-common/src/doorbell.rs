//! The doorbell verdict.

use serde::{Deserialize, Serialize};

/// How much one page of doorbell rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// One page holds the doorbells of all queues.
    Device,
    /// Each queue has a page of its own.
    Queue,
}
