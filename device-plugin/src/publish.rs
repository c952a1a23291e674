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

use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use doorbell_common::formats;
use doorbell_common::formats::cdi::Spec;
use doorbell_common::formats::devinfo::DeviceInfo;
use doorbell_common::host::{self, Host};
use doorbell_common::subdevice::{DeviceId, Eligible};

use crate::config::PoolName;
use crate::inventory::{Inventory, Pool};
use crate::parallel;
use crate::side_by_side::side_by_side;

/// Brings all files in line with the inventory.
pub fn all(host: &Host, inventory: &Inventory) -> host::Result<()> {
    first(host, inventory, false)
}

/// [`all`], where the specifications may have been seen to stand just now.
pub fn first(host: &Host, inventory: &Inventory, is_specified: bool) -> host::Result<()> {
    describe(host, None, inventory)?;
    if !is_specified {
        cdi::publish(host, inventory)?;
    }
    descriptor::withdraw(host, inventory)?;
    cdi::withdraw(host, inventory)?;
    devinfo::withdraw(host, inventory)
}

/// Writes the files of what another inventory, whose files stand, does not have or has otherwise; takes none away.
pub fn news(host: &Host, before: &Inventory, inventory: &Inventory) -> host::Result<()> {
    describe(host, Some(before), inventory)?;
    if has_same_files(before, inventory) { Ok(()) } else { cdi::publish(host, inventory) }
}

/// Descriptors and device-info, of what the inventory before does not have just so.
fn describe(host: &Host, before: Option<&Inventory>, inventory: &Inventory) -> host::Result<()> {
    let has_all = |name: &PoolName, pool: &Pool| {
        before.and_then(|before| before.pools.get(name)).filter(|was| was.is_handed_out_as(pool))
    };
    for (name, pool) in &inventory.pools {
        let was = has_all(name, pool);
        if was.is_some_and(|was| was.has_same_devices(pool)) {
            continue;
        }
        let none = BTreeMap::new();
        let devices = was.map_or(&none, |was| &was.devices);
        let written = |was: Option<&Arc<Eligible>>, is| was.is_some_and(|was| Arc::ptr_eq(was, is));
        let unwritten = side_by_side(&pool.devices, devices).filter(|(_, is, was)| !written(*was, is));
        let unwritten: Vec<_> = unwritten.map(|(_, device, _)| device).collect();
        let done = parallel::map(&unwritten, unwritten.len(), |device| {
            descriptor::publish(host, inventory, name, pool, device)?;
            devinfo::publish(host, pool, device)
        });
        done.into_iter().collect::<host::Result<()>>()?;
    }
    Ok(())
}

/// Whether the files of one inventory are those of the other, with the same in them.
pub fn has_same_files(one: &Inventory, other: &Inventory) -> bool {
    let same =
        |(name, pool): (&PoolName, &Pool)| one.pools.get(name).is_some_and(|was| was.is_handed_out_as(pool));
    one.cdi == other.cdi
        && one.prefix == other.prefix
        && one.left == other.left
        && one.has_same_devices(other)
        && other.pools.iter().all(same)
}

/// Whether the specifications that stand are those of an inventory.
pub fn is_specified(host: &Host, inventory: &Inventory) -> host::Result<bool> {
    cdi::is_published(host, inventory)
}

/// The CDI specifications of an inventory.
pub fn specifications(inventory: &Inventory) -> Vec<Spec> {
    cdi::specifications(inventory)
}

/// The first published file that is gone.
fn lost(host: &Host, inventory: &Inventory) -> Option<String> {
    files(inventory).find(|file| !host.exists(file))
}

/// Every file that is published of an inventory.
fn files(inventory: &Inventory) -> impl Iterator<Item = String> {
    let described = inventory.pools.values().flat_map(|pool| {
        pool.devices.values().flat_map(move |device| {
            let info = DeviceInfo::of(device);
            let info = info.map(|_| formats::devinfo::of_device(&pool.resource, &device.id));
            described(pool, &device.id).chain(info)
        })
    });
    cdi::files(inventory).chain(described)
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
