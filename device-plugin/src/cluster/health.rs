//! Which devices went unhealthy from one inventory to the next, and which came back: the transitions, not the reasons
//! that change in between.

use std::collections::BTreeMap;

use doorbell_common::subdevice::DeviceId;

use crate::config::PoolName;
use crate::inventory::{Inventory, Pool};

/// A device that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// The pool that has it, or had.
    pub(super) pool: PoolName,
    /// It.
    pub(super) device: DeviceId,
    /// Why it is unhealthy; nothing where it is healthy.
    pub(super) reason: Option<String>,
}

/// What changed, by device. One that is not listed any more is unhealthy; one that is new is healthy again only to who
/// was told that it was not.
pub(super) fn changes(before: &Inventory, now: &Inventory) -> Vec<Change> {
    let (was, is) = (listed(before), listed(now));
    let mut changes = Vec::new();
    for (device, (pool, reason)) in &is {
        let before = was.get(device).map(|(_, reason)| reason.is_some());
        if before != Some(reason.is_some()) && (before.is_some() || reason.is_none()) {
            changes.push(Change { pool: (*pool).clone(), device: (*device).clone(), reason: reason.clone() });
        }
    }
    for (device, (pool, reason)) in was {
        if reason.is_none() && !is.contains_key(device) {
            let reason = Some("it is not listed any more: it is gone, or no pool wants it".to_owned());
            changes.push(Change { pool: pool.clone(), device: device.clone(), reason });
        }
    }
    changes
}

/// Every device of every pool, with the reason if it is unhealthy.
fn listed<'a>(inventory: &'a Inventory) -> BTreeMap<&'a DeviceId, (&'a PoolName, Option<String>)> {
    let of_pool = |(name, pool): (_, &'a Pool)| {
        let reason = |id| pool.unhealthy.get(id).map(ToString::to_string);
        pool.devices.keys().map(move |id| (id, (name, reason(id))))
    };
    inventory.pools.iter().flat_map(of_pool).collect()
}
