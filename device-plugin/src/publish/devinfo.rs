//! Each device's device-info file, for meta-plugins.

use std::collections::BTreeSet;

use doorbell_common::formats::devinfo::{self, DeviceInfo};
use doorbell_common::host::{self, Host};
use doorbell_common::subdevice::Eligible;

use crate::inventory::{Inventory, Pool};

/// Writes the file of a device, where the specification knows its kind.
pub(super) fn publish(host: &Host, pool: &Pool, device: &Eligible) -> host::Result<()> {
    let Some(info) = DeviceInfo::of(device) else { return Ok(()) };
    host.keep_as(devinfo::of_device(&pool.resource, &device.id), &info.document())
}

/// Removes those of our resources that are no longer advertised.
pub(super) fn withdraw(host: &Host, inventory: &Inventory) -> host::Result<()> {
    let mut ours = BTreeSet::new();
    for pool in inventory.pools.values() {
        let published = pool.devices.values().filter(|device| DeviceInfo::of(device).is_some());
        ours.extend(published.map(|device| devinfo::of_device(&pool.resource, &device.id)));
    }
    // Below a prefix that is not the config's own others may have theirs: of such a resource only its own.
    let mut written = BTreeSet::from_iter(devinfo::of_prefix(host, &inventory.prefix.to_string())?);
    for pool in inventory.pools.values() {
        written.extend(devinfo::of_resource(host, &pool.resource)?);
    }
    written.iter().filter(|file| !ours.contains(*file)).try_for_each(|file| host.remove(file))
}
