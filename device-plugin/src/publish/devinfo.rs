//! Each device's device-info file, for meta-plugins.

use std::collections::BTreeSet;

use doorbell_common::formats::devinfo::{self, DeviceInfo};
use doorbell_common::host::{self, Host};

use crate::inventory::Inventory;

/// Writes the files of all devices, and removes those of our resources that are no longer advertised.
pub(super) fn publish(host: &Host, inventory: &Inventory) -> host::Result<()> {
    let mut ours = BTreeSet::new();
    for pool in inventory.pools.values() {
        for device in pool.devices.values() {
            let Some(info) = DeviceInfo::of(device) else { continue };
            let file = devinfo::of_device(&pool.resource, &device.id);
            host.keep_as(&file, &info.document())?;
            ours.insert(file);
        }
    }
    // Below a prefix that is not the config's own others may have theirs: of such a resource only its own.
    let mut written = BTreeSet::from_iter(devinfo::of_prefix(host, &inventory.prefix.to_string())?);
    for pool in inventory.pools.values() {
        written.extend(devinfo::of_resource(host, &pool.resource)?);
    }
    for file in written {
        if !ours.contains(&file) {
            host.remove(file)?;
        }
    }
    Ok(())
}
