//! Keeping every pool served and registered, whatever the kubelet does and the config becomes.
//!
//! A pool is a task ([`pool`]) that lives as long as its resource is in the inventory. By the older way it registers at
//! the kubelet's socket, anew with each kubelet ([`folder`] tells); by the newer one the kubelet finds it ([`watcher`]).
//! Shutdown is one token: streams end, servers drain, sockets go.

mod folder;
mod pool;
mod socket;
mod watcher;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use doorbell_common::host::Host;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{PoolName, Registration};
use crate::inventory::Inventory;
use crate::listening::Listening;
use crate::metrics::Counts;
use crate::tasks::together;

use pool::ServedPool;

/// Serves and registers every pool of the inventory until `closing`.
pub async fn serve(
    host: Host,
    inventory: watch::Receiver<Arc<Inventory>>,
    listening: Listening,
    counts: Counts,
    closing: CancellationToken,
) -> Result<()> {
    let (generation, generations) = watch::channel(0_u64);
    let mut tasks = JoinSet::new();
    let watched = folder::Watched::arm(&host)?;
    tasks.spawn(folder::keep(host.clone(), watched, generation, closing.clone()));
    tasks.spawn(pools(host, inventory, listening, counts, generations, closing.clone()));
    together(tasks, &closing).await
}

/// A pool that is served: as what, how it is registered, and what ends it.
struct Served {
    resource: String,
    way: Registration,
    removed: CancellationToken,
}

async fn pools(
    host: Host,
    mut inventory: watch::Receiver<Arc<Inventory>>,
    listening: Listening,
    counts: Counts,
    generations: watch::Receiver<u64>,
    closing: CancellationToken,
) -> Result<()> {
    let mut served: BTreeMap<PoolName, Served> = BTreeMap::new();
    let mut tasks: JoinSet<Result<PoolName>> = JoinSet::new();
    loop {
        let now = Arc::clone(&inventory.borrow_and_update());
        let way = now.registration;
        for (name, served) in &served {
            if way != served.way || now.pools.get(name).is_none_or(|pool| pool.resource != served.resource) {
                served.removed.cancel();
            }
        }
        for (name, pool) in &now.pools {
            // One that is to be served otherwise has to end first: its socket may be the same.
            if served.contains_key(name) {
                continue;
            }
            let removed = CancellationToken::new();
            let (name, resource) = (name.clone(), pool.resource.clone());
            let one = Served { resource: resource.clone(), way, removed: removed.clone() };
            served.insert(name.clone(), one);
            let (host, inventory) = (host.clone(), inventory.clone());
            let (listening, counts) = (listening.clone(), counts.clone());
            let pool = ServedPool { host, name, resource, way, inventory, listening, counts };
            tasks.spawn(pool.keep(generations.clone(), removed, closing.clone()));
        }
        tokio::select! {
            () = closing.cancelled() => break,
            Ok(()) = inventory.changed() => {}
            Some(ended) = tasks.join_next() => {
                served.remove(&ended.context("a pool's task panicked")??);
            }
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a pool's task panicked")??;
    }
    Ok(())
}
