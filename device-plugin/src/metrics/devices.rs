//! How many devices there are, and how many of them pods hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use doorbell_common::claim;
use doorbell_common::host::Host;
use doorbell_common::subdevice::{DeviceId, Kind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use crate::inventory::{Inventory, Pool};

#[derive(Debug)]
pub(super) struct Devices {
    pub(super) host: Host,
    pub(super) inventory: watch::Receiver<Arc<Inventory>>,
}

impl Collector for Devices {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let inventory = Arc::clone(&self.inventory.borrow());
        let help = "Sub-devices that a pool selects, by the kind of the first reason that is against them: \
                    healthy and unhealthy ones are advertised, refused ones are not";
        let mut family = encoder.encode_descriptor("devices", help, None, MetricType::Gauge)?;
        for (name, pool) in &inventory.pools {
            for ((state, reason), count) in states(pool) {
                let labels = [("pool", name.as_str()), ("state", state), ("reason", reason)];
                ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
            }
        }

        // Where claims can't be listed there is nothing to tell.
        let Ok(ids) = claim::ids(&self.host) else { return Ok(()) };
        // A claim of an earlier boot is of a pod that is gone.
        let is_held = |id: &DeviceId| matches!(claim::of_this_boot(&self.host, id), Ok(Some(_)));
        let claimed: BTreeSet<DeviceId> = ids.into_iter().filter(is_held).collect();
        let help = "Sub-devices that the CNI has wired into a pod";
        let mut family = encoder.encode_descriptor("devices_claimed", help, None, MetricType::Gauge)?;
        for (name, pool) in &inventory.pools {
            let count = pool.devices.keys().filter(|id| claimed.contains(*id)).count();
            ConstGauge::new(number(count)).encode(family.encode_family(&[("pool", name.as_str())])?)?;
        }
        Ok(())
    }
}

/// How many are in which state, for which kind of reason; the healthy ones always, as 0 too.
fn states(pool: &Pool) -> BTreeMap<(&'static str, &'static str), i64> {
    let unhealthy = pool.unhealthy.iter().filter(|(id, _)| pool.devices.contains_key(*id));
    let unhealthy: Vec<Kind> = unhealthy.map(|(_, reasons)| reasons.kind()).collect();
    let healthy = number(pool.devices.len() - unhealthy.len());
    let mut states = BTreeMap::from([(("healthy", ""), healthy)]);
    for kind in unhealthy {
        *states.entry(("unhealthy", kind.name())).or_default() += 1;
    }
    for reasons in pool.refused.values() {
        *states.entry(("refused", reasons.kind().name())).or_default() += 1;
    }
    states
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
