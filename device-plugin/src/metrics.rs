//! What the plugin counts, for Prometheus: `/metrics` in the OpenMetrics text format.
//!
//! Labels are bounded: pools and outcomes, never a device. How many devices there are is read off the inventory when
//! somebody asks, so that it is never behind.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::inventory::Inventory;

/// Its media type.
pub const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
#[must_use]
pub fn registry(counts: &Counts, inventory: watch::Receiver<Arc<Inventory>>) -> Registry {
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

/// The page.
pub fn page(registry: &Registry) -> Result<String, fmt::Error> {
    let mut page = String::new();
    text::encode(&mut page, registry)?;
    Ok(page)
}
