//! Labels of the node: of each pool that has a device, what scheduling may ask for. Applied on the server's side, so those
//! of pools that are gone go with them, and what others have put on the node stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde::de::IgnoredAny;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connection::Question;
use super::objects::{NodeLabels, Partial, Status};
use super::server::Server;
use super::{NAME, NodeName};
use crate::inventory::{Inventory, Pool};

/// A node that is being prepared changes device by device.
const QUIET: Duration = Duration::from_secs(2);
/// After which they are applied again: somebody may have taken them away, or the node's object was made anew.
const AGAIN: Duration = Duration::from_secs(15 * 60);
/// After an answer that they can't be.
const RETRY: Duration = Duration::from_secs(60);

/// Keeps them as the inventory is, until `closing`.
pub(super) async fn keep(
    node: NodeName,
    server: Server,
    inventory: watch::Receiver<Arc<Inventory>>,
    closing: CancellationToken,
) -> Result<()> {
    closing.run_until_cancelled_owned(rounds(node, server, inventory)).await.unwrap_or(Ok(()))
}

async fn rounds(
    node: NodeName,
    mut server: Server,
    mut inventory: watch::Receiver<Arc<Inventory>>,
) -> Result<()> {
    // What was said of it last: once is enough.
    let (mut applied, mut refused) = (None, false);
    loop {
        let labels = of(&inventory.borrow_and_update());
        let again = match apply(&mut server, &node, &labels).await {
            Ok(()) => {
                if applied.as_ref() != Some(&labels) {
                    info!(node = %node, labels = labels.len(), "the node is labelled");
                }
                applied = Some(labels.clone());
                refused = false;
                AGAIN
            }
            Err(status) => {
                if !refused {
                    let Status { code, message, .. } = *status;
                    warn!(node = %node, code, message, "the node is not labelled, trying on");
                }
                refused = true;
                RETRY
            }
        };
        let until = Instant::now() + again;
        while let Ok(changed) = timeout_at(until, inventory.changed()).await {
            if changed.is_err() {
                // No sender, no change: the plugin is about to close.
                return Ok(());
            }
            sleep(QUIET).await;
            if of(&inventory.borrow_and_update()) != labels {
                break;
            }
        }
    }
}

/// What is said of all pools.
fn of(inventory: &Inventory) -> BTreeMap<String, String> {
    let of_pool = |(name, pool)| of_pool(&format!("{}/{name}", inventory.prefix), pool);
    inventory.pools.iter().flat_map(of_pool).collect()
}

/// A pool's. Of a name in a label's key 63 characters are taken: a pool's has 50 of them at most.
///
/// Devices are counted whether healthy or not: how many can be had now is the node's allocatable.
fn of_pool(called: &str, pool: &Pool) -> Vec<(String, String)> {
    let Some(one) = pool.devices.values().next() else { return Vec::new() };
    let key = |what| format!("{called}.{what}");
    let mut doorbells = pool.devices.values().map(|device| device.effective);
    let doorbell = match doorbells.next() {
        Some(first) if doorbells.all(|other| other == first) => first.to_string(),
        _ => "mixed".to_owned(),
    };
    vec![
        (key("access"), one.access.to_string()),
        (key("devices"), pool.devices.len().to_string()),
        (key("doorbell"), doorbell),
    ]
}

/// Ours are these, and no others.
async fn apply(
    server: &mut Server,
    node: &NodeName,
    labels: &BTreeMap<String, String>,
) -> Result<(), Box<Status>> {
    let path = format!("/api/v1/nodes/{node}");
    // To apply is to make what is not there: with its uid, a node that is not stays so (Conflict).
    let found: Partial = server.ask(&Question::metadata(path.clone())).await?;
    let labels = NodeLabels::of(node, found.metadata.uid.as_deref(), labels);
    server.ask::<IgnoredAny>(&Question::apply(&path, NAME, &labels)).await.map(drop)
}
