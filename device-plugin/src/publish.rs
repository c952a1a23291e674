//! What others read of the advertised devices, written before they are advertised: descriptors for containers, CDI
//! specifications for the runtime, device-info for meta-plugins.
//!
//! A file that is right already is not written. What belongs to no advertised device is taken away, but for the
//! descriptors of devices that are claimed: their pods are still there.

mod cdi;
mod descriptor;
mod devinfo;

use doorbell_common::formats;
use doorbell_common::host::{self, Host};
use doorbell_common::subdevice::DeviceId;

use crate::config::PoolName;
use crate::inventory::Inventory;

/// Brings all files in line with the inventory.
pub fn all(host: &Host, inventory: &Inventory) -> host::Result<()> {
    descriptor::publish(host, inventory)?;
    cdi::publish(host, inventory)?;
    devinfo::publish(host, inventory)
}

/// The first file that is gone of those that a container with these devices rests on.
pub fn missing<'a>(
    host: &Host,
    inventory: &Inventory,
    pool: &PoolName,
    ids: impl Iterator<Item = &'a DeviceId>,
) -> Option<String> {
    let specification = inventory.cdi.then(|| formats::cdi::file(pool.as_str()));
    let mut files = specification.into_iter().chain(ids.map(formats::descriptor::device_file));
    files.find(|file| !host.exists(file))
}
