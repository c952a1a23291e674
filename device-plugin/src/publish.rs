//! What others read of the advertised devices, written before they are advertised: descriptors for containers, CDI
//! specifications for the runtime, device-info for meta-plugins.
//!
//! A file that is right already is not written. What belongs to no advertised device is taken away, but for
//! what pods that are still there rest on: the specifications of devices that the kubelet has given away, by which
//! Kata makes a sandbox anew, and the descriptors of these and of devices that are claimed.

mod cdi;
mod descriptor;
mod devinfo;
pub mod renew;

use std::iter;

use doorbell_common::formats;
use doorbell_common::formats::cdi::Spec;
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

/// The CDI specifications of an inventory.
pub fn specifications(inventory: &Inventory) -> Vec<Spec> {
    cdi::specifications(inventory).into_values().collect()
}

/// The first published file that is gone.
fn lost(host: &Host, inventory: &Inventory) -> Option<String> {
    files(inventory).find(|file| !host.exists(file))
}

/// Every file that is published of an inventory.
fn files(inventory: &Inventory) -> impl Iterator<Item = String> {
    let of_pool = |pool: &Pool| {
        let of_device = |device: &Eligible| {
            let info = DeviceInfo::of(device);
            let info = info.map(|_| formats::devinfo::of_device(&pool.resource, &device.id));
            described(pool, &device.id).chain(info)
        };
        pool.devices.values().flat_map(of_device).collect::<Vec<_>>()
    };
    cdi::files(inventory).chain(inventory.pools.values().flat_map(of_pool))
}

/// The first file that is gone of those that a container with these devices rests on.
pub fn missing<'a>(
    host: &Host,
    inventory: &Inventory,
    name: &PoolName,
    ids: impl Iterator<Item = &'a DeviceId>,
) -> Option<String> {
    let pool = inventory.pools.get(name)?;
    let specification = inventory.is_specified(pool).then(|| formats::cdi::file(name.as_str()));
    let mut files = specification.into_iter().chain(ids.flat_map(|id| described(pool, id)));
    files.find(|file| !host.exists(file))
}

/// The files that describe a device.
fn described(pool: &Pool, id: &DeviceId) -> impl Iterator<Item = String> + use<> {
    let in_vm = pool.runtime.is_kata().then(|| formats::descriptor::vm_file(id));
    iter::once(formats::descriptor::device_file(id)).chain(in_vm)
}
