//! GetPreferredAllocation: which of the free devices a container is best given.
//!
//! Advice only: the kubelet may take others, and Allocate verifies what it took. One NUMA node is kept to where one
//! suffices; then the pool's policy says whether devices share PFs or are spread over them. The same question always
//! has the same answer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::kubelet::deviceplugin::{
    ContainerPreferredAllocationRequest, ContainerPreferredAllocationResponse,
};
use doorbell_common::subdevice::{DeviceId, Eligible, Parent};

use crate::config::AllocationPolicy;
use crate::inventory::Pool;

/// What the choice depends on, of one device. Ordered as the bus is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    parent: Parent,
    id: DeviceId,
    /// Devices of software have none, and share the machine.
    pf: Option<PciAddress>,
    numa_node: Option<u32>,
}

/// Why nothing is preferred.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A device that must be included is none of the pool's.
    #[error("the pool has no device `{0}`, which must be included")]
    Unknown(String),
    /// A device that must be included can't be.
    #[error("{0} must be included and is not available")]
    NotAvailable(DeviceId),
    /// More must be included than are asked for.
    #[error("{} must be included, and {size} are asked for", ids.join(", "))]
    TooManyRequired {
        /// What must be included.
        ids: Vec<String>,
        /// How many are asked for.
        size: usize,
    },
    /// Fewer devices than asked for.
    #[error("{size} are asked for, and of those available the pool has {known}{}", unknown_ids(unknown))]
    TooFew {
        /// How many are asked for.
        size: usize,
        /// How many are available and in the pool.
        known: usize,
        /// Ids that are said to be available and are none of the pool's.
        unknown: Vec<String>,
    },
    /// A number of devices below 0.
    #[error("{0} is no number of devices")]
    Size(i32),
}

/// The answer for one container.
pub fn answer(
    pool: &Pool,
    request: &ContainerPreferredAllocationRequest,
) -> Result<ContainerPreferredAllocationResponse, Refusal> {
    let devices: Vec<Candidate> = pool.devices.values().map(|device| Candidate::from(&**device)).collect();
    let chosen = choose(&devices, request, pool.allocation)?;
    Ok(ContainerPreferredAllocationResponse { device_i_ds: chosen.iter().map(ToString::to_string).collect() })
}

/// As many devices as are asked for, in bus order.
fn choose(
    devices: &[Candidate],
    request: &ContainerPreferredAllocationRequest,
    policy: AllocationPolicy,
) -> Result<Vec<DeviceId>, Refusal> {
    let by_id: BTreeMap<&str, &Candidate> =
        devices.iter().map(|device| (device.id.as_str(), device)).collect();
    let size =
        usize::try_from(request.allocation_size).map_err(|_| Refusal::Size(request.allocation_size))?;
    let (available, unknown): (Vec<&String>, Vec<&String>) =
        request.available_device_i_ds.iter().partition(|id| by_id.contains_key(id.as_str()));
    let mut free: BTreeSet<&Candidate> =
        available.iter().filter_map(|id| by_id.get(id.as_str()).copied()).collect();
    let known = free.len();

    let mut chosen: BTreeSet<&Candidate> = BTreeSet::new();
    for id in &request.must_include_device_i_ds {
        let device = by_id.get(id.as_str()).copied().ok_or_else(|| Refusal::Unknown(id.clone()))?;
        if !free.remove(device) && !chosen.contains(device) {
            return Err(Refusal::NotAvailable(device.id.clone()));
        }
        chosen.insert(device);
    }
    if chosen.len() > size {
        return Err(Refusal::TooManyRequired { ids: request.must_include_device_i_ds.clone(), size });
    }
    if known < size {
        // The kubelet may be a list behind: what has left the pool since is only then missed.
        return Err(Refusal::TooFew { size, known, unknown: unknown.into_iter().cloned().collect() });
    }

    let nodes: BTreeSet<Option<u32>> = chosen.iter().map(|device| device.numa_node).collect();
    let (near, far): (Vec<&Candidate>, Vec<&Candidate>) =
        free.into_iter().partition(|device| nodes.contains(&device.numa_node));
    if near.len() >= size - chosen.len() {
        chosen.extend(on_one_node(&near, &chosen, size - chosen.len(), policy));
    } else {
        chosen.extend(near);
        chosen.extend(on_one_node(&far, &chosen, size - chosen.len(), policy));
    }
    Ok(chosen.into_iter().map(|device| device.id.clone()).collect())
}

/// `count` of the free devices, on one NUMA node where one has so many; of several such nodes on the one that serves
/// the policy best.
fn on_one_node<'a>(
    free: &[&'a Candidate],
    chosen: &BTreeSet<&'a Candidate>,
    count: usize,
    policy: AllocationPolicy,
) -> Vec<&'a Candidate> {
    let mut nodes: BTreeMap<Option<u32>, Vec<&'a Candidate>> = BTreeMap::new();
    for device in free {
        nodes.entry(device.numa_node).or_default().push(*device);
    }
    let by_policy = |free: &[&'a Candidate]| match policy {
        AllocationPolicy::Pack => packed(free, chosen, count),
        AllocationPolicy::Spread => spread(free, chosen, count),
    };
    // PFs that it takes from, then free devices there: packing wants few, spreading many.
    let width = |picked: &Vec<&Candidate>| {
        let pfs: BTreeSet<Option<PciAddress>> = picked.iter().map(|device| device.pf).collect();
        (pfs.len(), free.iter().filter(|device| pfs.contains(&device.pf)).count())
    };
    let options = nodes.values().filter(|free| free.len() >= count).map(|free| by_policy(free));
    let best = options.min_by(|a, b| match policy {
        AllocationPolicy::Pack => width(a).cmp(&width(b)),
        AllocationPolicy::Spread => width(b).cmp(&width(a)),
    });
    best.unwrap_or_else(|| by_policy(free))
}

/// From the fewest PFs: those in use already first, then the one with the fewest free devices that suffices, or while
/// none does, the one with the most.
fn packed<'a>(free: &[&'a Candidate], chosen: &BTreeSet<&'a Candidate>, count: usize) -> Vec<&'a Candidate> {
    let used: BTreeSet<Option<PciAddress>> = chosen.iter().map(|device| device.pf).collect();
    let mut pfs = by_pf(free);
    let mut picked = Vec::new();
    while picked.len() < count {
        let left = count - picked.len();
        let fit = |free: usize| if free < left { (true, usize::MAX - free) } else { (false, free) };
        let best = pfs.iter().min_by_key(|(pf, free)| (!used.contains(pf), fit(free.len())));
        let Some(free) = best.map(|(pf, _)| *pf).and_then(|pf| pfs.remove(&pf)) else { break };
        picked.extend(free.into_iter().take(left));
    }
    picked
}

/// One from each PF in turn, the one with the most free devices first. What the container has already counts as a turn.
fn spread<'a>(free: &[&'a Candidate], chosen: &BTreeSet<&'a Candidate>, count: usize) -> Vec<&'a Candidate> {
    let had = |pf: Option<PciAddress>| chosen.iter().filter(|device| device.pf == pf).count();
    let mut turns: Vec<(usize, Reverse<usize>, &Candidate)> = Vec::new();
    for (pf, free) in by_pf(free) {
        let (had, most) = (had(pf), Reverse(free.len()));
        turns.extend(free.into_iter().enumerate().map(|(nth, device)| (had + nth, most, device)));
    }
    turns.sort_unstable();
    turns.into_iter().take(count).map(|(_, _, device)| device).collect()
}

fn by_pf<'a>(devices: &[&'a Candidate]) -> BTreeMap<Option<PciAddress>, Vec<&'a Candidate>> {
    let mut pfs: BTreeMap<Option<PciAddress>, Vec<&'a Candidate>> = BTreeMap::new();
    for device in devices {
        pfs.entry(device.pf).or_default().push(*device);
    }
    pfs
}

fn unknown_ids(ids: &[String]) -> String {
    if ids.is_empty() { String::new() } else { format!("; not its own: {}", ids.join(", ")) }
}

impl From<&Eligible> for Candidate {
    fn from(device: &Eligible) -> Self {
        let (parent, id) = (device.parent.clone(), device.id.clone());
        Self { parent, id, pf: device.pf, numa_node: device.numa_node }
    }
}

#[cfg(test)]
mod tests;
