//! The command `run`: prepare, list, publish, then serve until told to stop.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use doorbell_common::host::Host;
use doorbell_common::kernel::netlink::Heard;
use doorbell_common::kernel::uevent;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

#[cfg(feature = "kube")]
use crate::cluster::{self, Cluster};
use crate::config::Config;
use crate::heard::{self, Uevents};
use crate::inventory::news;
use crate::links::Links;
use crate::listening::Listening;
use crate::live::Live;
use crate::logs::Logs;
use crate::look::Seen;
use crate::metrics::Counts;
use crate::publish::{self, renew};
use crate::strangers::{self, Strangers};
use crate::tasks::together;
use crate::{http, kubelet, logs, reload};

/// What the plugin runs with.
#[derive(Debug)]
pub struct Settings {
    /// The host.
    pub host: Host,
    /// The config file.
    pub file: PathBuf,
    /// What it said at the start.
    pub config: Config,
    /// The page size, in bytes.
    pub page: u64,
    /// What is asked for beside devices.
    pub beside: Beside,
}

/// What is asked for beside devices: nothing, unless it is said.
#[derive(Debug, Default)]
pub struct Beside {
    /// Where HTTP is answered.
    pub http: Option<TcpListener>,
    /// The log whose level follows the config.
    pub logs: Option<Logs>,
    /// What the API server is told.
    #[cfg(feature = "kube")]
    pub cluster: Option<Cluster>,
}

/// Runs the plugin until SIGTERM or SIGINT.
pub async fn run(settings: Settings) -> Result<()> {
    // Installed first, so that a signal during a slow prepare is not lost.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let closing = CancellationToken::new();
    // Uevents are listened to before the first look: what happens after that is heard.
    let running = serve(settings, listen(), closing.clone());
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => return ended,
        _ = terminate.recv() => info!("SIGTERM: closing"),
        _ = interrupt.recv() => info!("SIGINT: closing"),
    }
    closing.cancel();
    running.await
}

/// Prepares, lists, publishes and serves, until `closing`. `uevents` are the kernel's.
///
/// Registration comes last: the kubelet fails re-admitted pods whose device is missing from the first list.
pub async fn serve(
    settings: Settings,
    uevents: BoxStream<'static, Result<Heard>>,
    closing: CancellationToken,
) -> Result<()> {
    let Settings { host, file, config, page, beside } = settings;
    let config = Arc::new(config);
    let first = Seen::first(&host, Arc::clone(&config), page).await;
    let (seen, is_specified) = first.context("take the inventory")?;
    let mut links = Links::default();
    links.follow(seen.config());
    let uevents = Uevents::of(uevents);
    let (config, configs) = watch::channel(config);
    let (strangers, seen_strangers) = watch::channel(Strangers::new());
    let (counts, listening) = (Counts::default(), Listening::default());
    let mut live = Live {
        host: host.clone(),
        page,
        seen,
        uevents,
        configs,
        strangers: seen_strangers,
        links,
        counts: counts.clone(),
    };
    let inventory = live.inventory();
    news::tell(None, &inventory);
    publish::first(&host, &inventory, is_specified).context("publish what others read of the devices")?;

    let (sender, inventory) = watch::channel(Arc::new(inventory));
    let mut tasks = JoinSet::new();
    // First who is waited for.
    tasks.spawn(kubelet::serve(
        host.clone(),
        inventory.clone(),
        listening.clone(),
        counts.clone(),
        closing.clone(),
    ));
    if let Some(logs) = beside.logs {
        tasks.spawn(logs::keep(logs, live.configs.clone(), closing.clone()));
    }
    tasks.spawn(renew::keep(host.clone(), inventory.clone(), closing.clone()));
    tasks.spawn(strangers::keep(host.clone(), inventory.clone(), strangers, closing.clone()));
    #[cfg(feature = "kube")]
    if let Some(cluster) = beside.cluster {
        tasks.spawn(cluster::keep(host.clone(), cluster, inventory.clone(), closing.clone()));
    }
    if let Some(listener) = beside.http {
        tasks.spawn(http::serve(listener, host, counts.clone(), inventory, listening, closing.clone()));
    }
    tasks.spawn(reload::keep(file, config, counts, closing.clone()));
    tasks.spawn(live.keep(sender, closing.clone()));
    together(tasks, &closing).await
}

/// Where uevents can't be heard, what changes shows at the next look at everything.
fn listen() -> BoxStream<'static, Result<Heard>> {
    let listener = uevent::listen().map_err(anyhow::Error::from);
    listener.and_then(heard::stream).map_or_else(
        |error| {
            warn!(error = format!("{error:#}"), "uevents are not heard, looking at everything now and then");
            stream::pending().boxed()
        },
        StreamExt::boxed,
    )
}
