//! The command `run`: prepare, list, publish, then serve until told to stop.

use std::sync::Arc;

use anyhow::{Context, Result};
use doorbell_common::host::Host;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::Config;
use crate::publish::{self, renew};
use crate::tasks::together;
use crate::{allocated, health, inventory, kubelet};

/// Runs the plugin until SIGTERM or SIGINT. `page` is the page size.
///
/// Registration comes last: the kubelet fails re-admitted pods whose device is missing from the first list.
pub async fn run(host: Host, config: &Config, page: u64) -> Result<()> {
    // Installed first, so that a signal during a slow prepare is not lost.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);

    let allocated = allocated::ask(&host).await;
    let inventory = inventory::take(&host, config, &allocated, page).context("take the inventory")?;
    publish::all(&host, &inventory).context("publish what others read of the devices")?;

    let (inventory, receiver) = watch::channel(Arc::new(inventory));
    let closing = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(renew::keep(host.clone(), receiver.clone(), closing.clone()));
    tasks.spawn(kubelet::serve(host.clone(), receiver, closing.clone()));
    tasks.spawn(health::keep(host, inventory, closing.clone()));
    let running = together(tasks, &closing);
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => return ended,
        _ = terminate.recv() => info!("SIGTERM: closing"),
        _ = interrupt.recv() => info!("SIGINT: closing"),
    }
    closing.cancel();
    running.await
}
