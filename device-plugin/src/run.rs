//! The command `run`: prepare, list, publish, then serve until told to stop.

use std::net::{SocketAddr, TcpListener};
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

use crate::config::Config;
use crate::heard::{self, Uevents};
use crate::inventory::news;
use crate::links::Links;
use crate::listening::Listening;
use crate::live::Live;
use crate::look::Seen;
use crate::metrics::Counts;
use crate::publish::{self, renew};
use crate::strangers::{self, Strangers};
use crate::tasks::together;
use crate::{http, kubelet, reload};

/// Runs the plugin until SIGTERM or SIGINT. `config` is what `file` said at the start; `page` is the page size.
/// Who reads the metrics connects to `metrics`, if that is given.
pub async fn run(
    host: Host,
    file: PathBuf,
    config: Config,
    page: u64,
    metrics: Option<SocketAddr>,
) -> Result<()> {
    let metrics = metrics.map(listen_at).transpose()?;
    // Installed first, so that a signal during a slow prepare is not lost.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let closing = CancellationToken::new();
    // Uevents are listened to before the first look: what happens after that is heard.
    let running = serve(host, file, config, page, metrics, listen(), closing.clone());
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
    host: Host,
    file: PathBuf,
    config: Config,
    page: u64,
    metrics: Option<TcpListener>,
    uevents: BoxStream<'static, Result<Heard>>,
    closing: CancellationToken,
) -> Result<()> {
    let config = Arc::new(config);
    let seen = Seen::first(&host, Arc::clone(&config), page).await.context("take the inventory")?;
    let mut links = Links::default();
    links.follow(seen.config());
    let uevents = Uevents::of(uevents);
    let (config, configs) = watch::channel(config);
    let (strangers, seen_strangers) = watch::channel(Strangers::new());
    let mut live =
        Live { host: host.clone(), page, seen, uevents, configs, strangers: seen_strangers, links };
    let inventory = live.inventory();
    news::tell(None, &inventory);
    publish::all(&host, &inventory).context("publish what others read of the devices")?;

    let (sender, inventory) = watch::channel(Arc::new(inventory));
    let mut tasks = JoinSet::new();
    tasks.spawn(renew::keep(host.clone(), inventory.clone(), closing.clone()));
    tasks.spawn(strangers::keep(host.clone(), inventory.clone(), strangers, closing.clone()));
    let (counts, listening) = (Counts::default(), Listening::default());
    if let Some(listener) = metrics {
        let (counts, inventory) = (counts.clone(), inventory.clone());
        tasks.spawn(http::serve(listener, counts, inventory, listening.clone(), closing.clone()));
    }
    tasks.spawn(kubelet::serve(host, inventory, listening, closing.clone()));
    tasks.spawn(reload::keep(file, config, counts, closing.clone()));
    tasks.spawn(live.keep(sender, closing.clone()));
    together(tasks, &closing).await
}

fn listen_at(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("listen at {address} for who reads the metrics"))
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
