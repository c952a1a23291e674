//! Devices that were advertised and may not be handed out any more: they stay listed, as unhealthy, so that whoever has
//! one is told why. Only what is gone leaves the list, and what the config wants no more.

use doorbell_common::subdevice::{Eligible, Kind};

use super::{Inventory, Pool};
use crate::config::PoolName;

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
            for (id, device) in &was.devices {
                let elsewhere = |(other, pool): (&PoolName, &Pool)| {
                    pool.devices.contains_key(id) || other != name && pool.refused.contains_key(id)
                };
                if self.pools.iter().any(elsewhere) || !there(device) {
                    continue;
                }
                let Some(pool) = self.pools.get_mut(name) else { continue };
                let reason = pool.refused.remove(id);
                let reason = reason.unwrap_or_else(|| {
                    Kind::Unselected.because("it is not what its pool selects any more").into()
                });
                pool.devices.insert(id.clone(), device.clone());
                pool.unhealthy.insert(id.clone(), reason);
            }
        }
    }
}
