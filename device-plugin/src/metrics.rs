//! What the plugin counts, for Prometheus: `/metrics` in the OpenMetrics text format.
//!
//! Labels are bounded: pools and outcomes, never a device. How many devices there are is read off the inventory when
//! somebody asks, so that it is never behind.

use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::inventory::Inventory;

const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is counted as it happens. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    reloads: Family<Reload, Counter>,
    config_refused: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    outcome: &'static str,
}

const APPLIED: Reload = Reload { outcome: "applied" };
const REFUSED: Reload = Reload { outcome: "refused" };

impl Counts {
    /// Another config is in force.
    pub fn applied(&self) {
        self.count(&APPLIED);
    }

    /// The file is not usable.
    pub fn refused(&self) {
        self.count(&REFUSED);
        self.config_refused.set(1);
    }

    /// The file says what is in force.
    pub fn usable(&self) {
        self.config_refused.set(0);
    }

    fn count(&self, reload: &Reload) {
        self.reloads.get_or_create(reload).inc();
    }
}

/// All that is told.
fn registry(counts: &Counts, inventory: watch::Receiver<Arc<Inventory>>) -> Registry {
    let mut registry = Registry::with_prefix("doorbell");
    // Both are there before the first reload.
    for reload in [APPLIED, REFUSED] {
        counts.reloads.get_or_create(&reload).inc_by(0);
    }
    registry.register(
        "config_reloads",
        "Changes of the config file, by what became of them",
        counts.reloads.clone(),
    );
    registry.register(
        "config_refused",
        "1 while the config file is not usable, and the config before it stays in force",
        counts.config_refused.clone(),
    );
    registry.register_collector(Box::new(Devices(inventory)));
    registry
}

#[derive(Debug)]
struct Devices(watch::Receiver<Arc<Inventory>>);

impl Collector for Devices {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let inventory = Arc::clone(&self.0.borrow());
        let kind = prometheus_client::metrics::MetricType::Gauge;
        let help = "Sub-devices that a pool selects: healthy and unhealthy ones are advertised, refused ones are not.";
        let mut family = encoder.encode_descriptor("devices", help, None, kind)?;
        for (name, pool) in &inventory.pools {
            let unhealthy = pool.devices.keys().filter(|id| pool.unhealthy.contains_key(*id)).count();
            let healthy = pool.devices.len() - unhealthy;
            for (state, count) in
                [("healthy", healthy), ("unhealthy", unhealthy), ("refused", pool.refused.len())]
            {
                let labels = [("pool", name.to_string()), ("state", state.to_owned())];
                let count = i64::try_from(count).map_err(|_| fmt::Error)?;
                ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Answers who asks, until `closing`.
pub async fn serve(
    listener: TcpListener,
    counts: Counts,
    inventory: watch::Receiver<Arc<Inventory>>,
    closing: CancellationToken,
) -> Result<()> {
    listener.set_nonblocking(true).context("listen for who reads the metrics")?;
    let listener = tokio::net::TcpListener::from_std(listener).context("listen for who reads the metrics")?;
    let registry = Arc::new(registry(&counts, inventory));
    let app = Router::new().route("/metrics", get(page)).with_state(registry);
    // Nobody who is answered just then is waited for.
    let serving = closing.run_until_cancelled(axum::serve(listener, app).into_future());
    serving.await.unwrap_or(Ok(())).context("answer who reads the metrics")
}

async fn page(State(registry): State<Arc<Registry>>) -> Response {
    let mut page = String::new();
    match text::encode(&mut page, &registry) {
        Ok(()) => ([(CONTENT_TYPE, FORMAT)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
