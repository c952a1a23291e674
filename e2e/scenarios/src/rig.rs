//! What scenarios are told with: a node, the plugin on it, pods with a probe, the far end, a CNI call by hand.

pub(crate) mod cni;
pub(crate) mod node;
pub(crate) mod outside;
pub(crate) mod plugin;
pub(crate) mod pods;

use std::time::Duration;

/// The bound on what takes a moment: emulated machines on busy hosts take their time.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);
