//! What an inventory has of the one before it. Devices on which nothing is otherwise are taken over as they are. Those that
//! were advertised and may not be handed out any more stay listed, as unhealthy, so that whoever has one is told why. Only
//! what is gone leaves the list, and what the config wants no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::subdevice::{Access, DeviceId, Eligible, Kind};

use super::{Inventory, Pool};
use crate::config::{Config, PoolName};
use crate::discovery::Survey;
use crate::side_by_side::side_by_side;

/// What the look before found, of which a device that nothing happened to is still true.
#[derive(Debug)]
pub struct Before {
    /// What it was looked at with.
    pub config: Arc<Config>,
    /// What was on the host.
    pub survey: Arc<Survey>,
    /// What was advertised.
    pub inventory: Arc<Inventory>,
}

/// What is taken over.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// VFs whose devices are as they were. Sorted, each once.
    pub(super) vfs: Vec<PciAddress>,
    /// Devices that are to be found again, by pool.
    pub(super) doubtful: Doubtful,
}

type Doubtful = BTreeMap<PoolName, BTreeSet<DeviceId>>;

impl Before {
    /// Lists all that was. Nothing is otherwise with those on whose VF the survey found nothing otherwise: of a VF on VFIO
    /// the kernel tells all that can happen to it.
    pub(super) fn keep(&self, survey: &Survey, confirmed: &Survey, inventory: &mut Inventory) -> Kept {
        let standing = side_by_side(&survey.vfs, &self.survey.vfs).zip(confirmed.vfs.values());
        let standing = standing.filter(|((_, is, was), confirmed)| {
            confirmed.device.isolation.is_ok() && was.is_some_and(|was| Arc::ptr_eq(&was.device, &is.device))
        });
        let standing: Vec<PciAddress> = standing.map(|((address, ..), _)| *address).collect();
        let stands = |device: &Eligible| {
            let address = device.parent.vf().filter(|_| device.access == Access::Vfio)?;
            standing.binary_search(&address).is_ok().then_some(address)
        };
        let mut kept = Kept::default();
        for (name, pool) in &mut inventory.pools {
            let Some(was) = self.inventory.pools.get(name) else { continue };
            pool.devices = Arc::clone(&was.devices);
            let mut doubtful = BTreeSet::new();
            for (id, device, reasons) in side_by_side(&was.devices, &was.unhealthy) {
                match stands(device).filter(|_| reasons.is_none()) {
                    Some(address) => kept.vfs.push(address),
                    None => drop(doubtful.insert(id.clone())),
                }
            }
            kept.doubtful.insert(name.clone(), doubtful);
        }
        kept.vfs.sort_unstable();
        kept.vfs.dedup();
        for (of, remark) in &self.inventory.remarks {
            if of.parse().is_ok_and(|address| kept.vfs.binary_search(&address).is_ok()) {
                inventory.remarks.insert(of.clone(), remark.clone());
            }
        }
        kept
    }

    /// What becomes of the doubtful that were not found again: what is there and its pool's still, stays listed as unhealthy.
    pub(super) fn decide(&self, config: &Config, survey: &Survey, lost: Doubtful, inventory: &mut Inventory) {
        for (name, ids) in lost {
            let same = self.config.pool(&name) == config.pool(&name);
            for id in ids {
                let elsewhere = |(other, pool): (&PoolName, &Pool)| {
                    *other != name && (pool.devices.contains_key(&id) || pool.refused.contains_key(&id))
                };
                let elsewhere = inventory.pools.iter().any(elsewhere);
                let Some(pool) = inventory.pools.get_mut(&name) else { continue };
                let there = pool.devices.get(&id).is_some_and(|device| survey.has(&device.parent));
                if !same || !there || elsewhere {
                    Arc::make_mut(&mut pool.devices).remove(&id);
                    continue;
                }
                let reason = pool.refused.remove(&id);
                let reason = reason.unwrap_or_else(|| {
                    Kind::Unselected.because("it is not what its pool selects any more").into()
                });
                pool.unhealthy.insert(id, reason);
            }
        }
    }
}

impl Inventory {
    /// Leaves as it was what a glance does not decide: a device that is gone leaves the list when it is quiet, and what is
    /// refused now may be bound in a moment.
    pub fn leave_undecided(&mut self, before: &Self, there: impl Fn(&Eligible) -> bool) {
        for (name, pool) in &mut self.pools {
            let Some(was) = before.pools.get(name) else { continue };
            for (id, device) in missing(was, pool).into_iter().filter(|(_, device)| !there(device)) {
                pool.list(id.clone(), Arc::clone(device));
                if let Some(reasons) = was.unhealthy.get(id) {
                    pool.unhealthy.insert(id.clone(), reasons.clone());
                }
            }
            pool.refused.clone_from(&was.refused);
            pool.refused.retain(|id, _| !pool.devices.contains_key(id));
        }
    }
}

/// Devices that a pool had and has not.
fn missing<'a>(was: &'a Pool, is: &Pool) -> Vec<(&'a DeviceId, &'a Arc<Eligible>)> {
    if is.has_same_devices(was) {
        return Vec::new();
    }
    let missing = side_by_side(&was.devices, &is.devices);
    missing.filter(|(.., now)| now.is_none()).map(|(id, device, _)| (id, device)).collect()
}
