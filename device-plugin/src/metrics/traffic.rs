//! What the VFs that pods hold have carried, where the driver of their PF counts that, and the plugin sees its interface:
//! on the host's network.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use doorbell_common::claim::{self, Pod};
use doorbell_common::host::Host;
use doorbell_common::kernel::link::vf::{self, Traffic as Carried};
use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::subdevice::{Eligible, Parent};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use tokio::sync::watch;

use crate::inventory::Inventory;

#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) host: Host,
    pub(super) inventory: watch::Receiver<Arc<Inventory>>,
}

type Of = fn(&Carried) -> u64;

/// What is counted of a VF: the metric's name, what it says, and where it stands.
const COUNTED: [(&str, &str, Of); 6] = [
    ("vf_receive_bytes", "Bytes that a pod's VF has received", |vf| vf.received.bytes),
    ("vf_receive_packets", "Packets that a pod's VF has received", |vf| vf.received.packets),
    ("vf_receive_dropped", "Packets for a pod's VF that were dropped", |vf| vf.received.dropped),
    ("vf_transmit_bytes", "Bytes that a pod's VF has sent", |vf| vf.sent.bytes),
    ("vf_transmit_packets", "Packets that a pod's VF has sent", |vf| vf.sent.packets),
    ("vf_transmit_dropped", "Packets of a pod's VF that were dropped", |vf| vf.sent.dropped),
];

/// A VF that a pod holds.
struct Held {
    pool: String,
    device: String,
    pod: Pod,
    carried: Carried,
}

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let held = self.held();
        if held.is_empty() {
            return Ok(());
        }
        for (name, help, of) in COUNTED {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for Held { pool, device, pod, carried } in &held {
                let labels = [
                    ("pool", pool.as_str()),
                    ("device", device),
                    ("namespace", &pod.namespace),
                    ("pod", &pod.name),
                ];
                ConstCounter::new(of(carried)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Traffic {
    /// The VFs that pods hold and whose PF counts what they carry. A PF is asked once.
    fn held(&self) -> Vec<Held> {
        let inventory = Arc::clone(&self.inventory.borrow());
        let mut pfs: BTreeMap<PciAddress, BTreeMap<PciAddress, Carried>> = BTreeMap::new();
        let pools =
            inventory.pools.iter().flat_map(|(name, pool)| pool.devices.values().map(move |one| (name, one)));
        let mut held = Vec::new();
        for (pool, device) in pools {
            let Some((pf, vf)) = vf_of(device) else { continue };
            let Ok(Some(claim)) = claim::of_this_boot(&self.host, &device.id) else { continue };
            // A PF that can't be asked has nothing to tell.
            let counted = pfs.entry(pf).or_insert_with(|| vf::traffic_of(&self.host, pf).unwrap_or_default());
            let Some(carried) = counted.get(&vf).copied() else { continue };
            let (pool, device, pod) = (pool.to_string(), device.id.to_string(), claim.holder.pod);
            held.push(Held { pool, device, pod, carried });
        }
        held
    }
}

fn vf_of(device: &Eligible) -> Option<(PciAddress, PciAddress)> {
    match device.parent {
        Parent::Vf(address) => Some((device.pf?, address)),
        Parent::Sf(_) | Parent::Device(_) => None,
    }
}
