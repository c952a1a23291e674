//! What scenarios are told with: a node, the plugin on it, pods with a probe, the far end, a CNI call by hand.

pub(crate) mod cni;
pub(crate) mod daemonset;
pub(crate) mod http;
pub(crate) mod kata;
pub(crate) mod links;
pub(crate) mod memory_map;
pub(crate) mod node;
pub(crate) mod outside;
pub(crate) mod plugin;
pub(crate) mod pods;
pub(crate) mod stranger;
pub(crate) mod times;
pub(crate) mod vmm;

use std::time::Duration;

use anyhow::{Context, Result};

/// The bound on what takes a moment: emulated machines on busy hosts take their time.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// Waits for what only a look shows.
pub(crate) async fn until(what: &str, is: impl Fn() -> bool) -> Result<()> {
    let waiting = async {
        while !is() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(WITHIN, waiting).await.with_context(|| format!("waited in vain: {what}"))
}
