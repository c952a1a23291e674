//! What is new in an inventory, for the log: not a word about what is as it was.

use std::collections::BTreeSet;

use doorbell_common::subdevice::{DeviceId, Reasons};
use tracing::{info, warn};

use super::{Inventory, Pool};
use crate::config::{NodePermissions, PoolName};

/// Logs what an inventory has that the one before had not.
pub fn tell(before: Option<&Inventory>, now: &Inventory) {
    if before.is_none_or(|before| before.cdi != now.cdi) {
        let (on, reason) = (now.cdi.on, now.cdi.reason.as_str());
        info!(cdi = on, reason, "how containers get their devices");
        for (name, _) in now.pools.iter().filter(|(_, pool)| !on && pool.node != NodePermissions::default()) {
            warn!(pool = %name, reason, "nodeMode and nodeOwner have no effect: only CDI carries them");
        }
    }
    for (parent, remark) in &now.remarks {
        if before.and_then(|before| before.remarks.get(parent)) != Some(remark) {
            warn!(of = parent, "{remark}");
        }
    }
    for (name, pool) in &now.pools {
        of_pool(name, before.and_then(|before| before.pools.get(name)), pool);
    }
    for (name, was) in before.iter().flat_map(|before| &before.pools) {
        let is = now.pools.get(name);
        if is.is_some_and(|is| is.has_same_devices(was)) {
            continue;
        }
        for id in was.devices.keys().filter(|id| is.is_none_or(|is| !is.devices.contains_key(*id))) {
            info!(pool = %name, device = %id, "device no longer advertised");
        }
    }
}

fn of_pool(name: &PoolName, was: Option<&Pool>, is: &Pool) {
    let same = was.filter(|was| was.has_same_devices(is));
    if let Some(was) = same {
        let ids: BTreeSet<&DeviceId> = was.unhealthy.keys().chain(is.unhealthy.keys()).collect();
        ids.into_iter().for_each(|id| health(name, id, was.unhealthy.get(id), is.unhealthy.get(id)));
    }
    for (id, device) in is.devices.iter().filter(|_| same.is_none()) {
        let reason = is.unhealthy.get(id);
        let before = was.and_then(|was| Some((was.devices.get(id)?, was.unhealthy.get(id))));
        match before {
            Some((same, _)) if same == device => {}
            Some((other, _)) if other.nodes != device.nodes => {
                info!(pool = %name, device = %id, was = %other.nodes, is = %device.nodes, "device advertised by other nodes");
            }
            Some(_) => info!(pool = %name, device = %id, "device advertised with other properties"),
            None => {
                let isolation = device.isolation.class;
                info!(pool = %name, device = %id, %isolation, "device advertised");
            }
        }
        health(name, id, before.and_then(|(_, reason)| reason), reason);
    }
    for (id, reasons) in &is.refused {
        if was.and_then(|was| was.refused.get(id)) != Some(reasons) {
            warn!(device = %id, pool = %name, %reasons, "device not advertised");
        }
    }
}

fn health(name: &PoolName, id: &DeviceId, was: Option<&Reasons>, is: Option<&Reasons>) {
    match (was, is) {
        (was, Some(reason)) if was != Some(reason) => {
            warn!(pool = %name, device = %id, %reason, "device unhealthy");
        }
        (Some(_), None) => info!(pool = %name, device = %id, "device healthy again"),
        _ => {}
    }
}
