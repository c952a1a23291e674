//! What others read of the advertised devices, written before they are advertised: descriptors for containers, CDI
//! specifications for the runtime, device-info for meta-plugins.
//!
//! A file that is right already is not written. What belongs to no advertised device is taken away, but for the
//! descriptors of devices that are claimed: their pods are still there.

mod cdi;
mod descriptor;
mod devinfo;
pub mod renew;

use doorbell_common::formats;
use doorbell_common::formats::devinfo::DeviceInfo;
use doorbell_common::host::{self, Host};
use doorbell_common::subdevice::{DeviceId, Eligible};

use crate::config::PoolName;
use crate::inventory::{Inventory, Pool};

/// Brings all files in line with the inventory.
pub fn all(host: &Host, inventory: &Inventory) -> host::Result<()> {
    descriptor::publish(host, inventory)?;
    cdi::publish(host, inventory)?;
    devinfo::publish(host, inventory)
}

/// The first published file that is gone.
fn lost(host: &Host, inventory: &Inventory) -> Option<String> {
    files(inventory).find(|file| !host.exists(file))
}

/// Every file that is published of an inventory.
fn files(inventory: &Inventory) -> impl Iterator<Item = String> {
    let pools = inventory.pools.iter().filter(|(_, pool)| !pool.devices.is_empty());
    let of_pool = |(name, pool): (&PoolName, &Pool)| {
        let specification = inventory.is_specified(pool).then(|| formats::cdi::file(name.as_str()));
        let of_device = |device: &Eligible| {
            let described = formats::descriptor::device_file(&device.id);
            let info = DeviceInfo::of(device);
            let info = info.map(|_| formats::devinfo::of_device(&pool.resource, &device.id));
            [Some(described), info].into_iter().flatten()
        };
        specification.into_iter().chain(pool.devices.values().flat_map(of_device)).collect::<Vec<_>>()
    };
    pools.flat_map(of_pool)
}

/// The first file that is gone of those that a container with these devices rests on.
pub fn missing<'a>(
    host: &Host,
    inventory: &Inventory,
    name: &PoolName,
    ids: impl Iterator<Item = &'a DeviceId>,
) -> Option<String> {
    let specified = inventory.pools.get(name).is_some_and(|pool| inventory.is_specified(pool));
    let specification = specified.then(|| formats::cdi::file(name.as_str()));
    let mut files = specification.into_iter().chain(ids.map(formats::descriptor::device_file));
    files.find(|file| !host.exists(file))
}
