//! Devices that were advertised and may not be handed out any more: they stay listed, as unhealthy, so that whoever has
//! one is told why. Only what is gone leaves the list, and what the config wants no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use doorbell_common::subdevice::{DeviceId, Eligible, Kind};

use super::{Inventory, Pool};
use crate::config::PoolName;
use crate::side_by_side::side_by_side;

impl Inventory {
    /// Keeps of the inventory before what stays listed. `same` are the pools whose config is as it was then, `there`
    /// tells of a device whether what it stands on is.
    pub fn keep(
        &mut self,
        before: &Self,
        same: impl Fn(&PoolName) -> bool,
        there: impl Fn(&Eligible) -> bool,
    ) {
        for (name, was) in before.pools.iter().filter(|(name, _)| same(name)) {
            for (id, device) in missing(was, self.pools.get(name)) {
                let elsewhere = |(other, pool): (&PoolName, &Pool)| {
                    other != name && (pool.devices.contains_key(id) || pool.refused.contains_key(id))
                };
                if self.pools.iter().any(elsewhere) || !there(device) {
                    continue;
                }
                let Some(pool) = self.pools.get_mut(name) else { continue };
                let reason = pool.refused.remove(id);
                let reason = reason.unwrap_or_else(|| {
                    Kind::Unselected.because("it is not what its pool selects any more").into()
                });
                pool.list(id.clone(), Arc::clone(device));
                pool.unhealthy.insert(id.clone(), reason);
            }
        }
    }

    /// Leaves as it was what a glance does not decide: a device that is gone leaves the list when it is quiet, and what is
    /// refused now may be bound in a moment.
    pub fn leave_undecided(&mut self, before: &Self, there: impl Fn(&Eligible) -> bool) {
        for (name, pool) in &mut self.pools {
            let Some(was) = before.pools.get(name) else { continue };
            for (id, device) in missing(was, Some(pool)).into_iter().filter(|(_, device)| !there(device)) {
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
fn missing<'a>(was: &'a Pool, is: Option<&Pool>) -> Vec<(&'a DeviceId, &'a Arc<Eligible>)> {
    if is.is_some_and(|is| is.has_same_devices(was)) {
        return Vec::new();
    }
    let none = BTreeMap::new();
    let missing = side_by_side(&was.devices, is.map_or(&none, |is| &is.devices));
    missing.filter(|(.., now)| now.is_none()).map(|(id, device, _)| (id, device)).collect()
}
