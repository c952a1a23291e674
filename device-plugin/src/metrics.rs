//! What the plugin tells of itself, for Prometheus: `/metrics` in the OpenMetrics text format.
//!
//! What happens is counted as it happens ([`counts`]); what is, is looked up when somebody asks, so that it is never
//! behind: devices and who holds them ([`devices`]), how the CNI's calls went ([`calls`]), what VFs have carried
//! ([`traffic`]). Labels are bounded: pools, kinds and outcomes. A device is in one only while a pod holds it.

mod calls;
mod counts;
mod devices;
mod traffic;

use std::fmt;
use std::sync::Arc;

use doorbell_common::host::Host;
use prometheus_client::encoding::text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::inventory::Inventory;

pub use counts::Counts;

/// Its media type.
pub const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All that is told.
#[must_use]
pub fn registry(host: &Host, counts: &Counts, inventory: watch::Receiver<Arc<Inventory>>) -> Registry {
    let mut registry = Registry::with_prefix("doorbell");
    registry.register("build", "The plugin", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    counts.register(&mut registry);
    registry
        .register_collector(Box::new(devices::Devices { host: host.clone(), inventory: inventory.clone() }));
    registry.register_collector(Box::new(calls::Calls(host.clone())));
    registry.register_collector(Box::new(traffic::Traffic { host: host.clone(), inventory }));
    registry
}

/// The page.
pub fn page(registry: &Registry) -> Result<String, fmt::Error> {
    let mut page = String::new();
    text::encode(&mut page, registry)?;
    Ok(page)
}
