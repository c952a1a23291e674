//! How much the plugin logs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is logged: lines of this level, and of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What ends the plugin.
    Error,
    /// What an operator has to see to.
    Warn,
    /// What changes.
    #[default]
    Info,
    /// What is done about it.
    Debug,
    /// Everything.
    Trace,
}
