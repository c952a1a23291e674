//! Disks, by the device that they belong to.

use crate::host::{self, Host};

/// Names of the disks below a device's folder: `vda`. A virtio driver's hang one level deeper than a PCI driver's.
pub fn disks(host: &Host, device: &str) -> host::Result<Vec<String>> {
    let mut disks = host.list(format!("{device}/block"))?;
    for child in host.list(device)?.iter().filter(|name| name.starts_with("virtio")) {
        disks.extend(host.list(format!("{device}/{child}/block"))?);
    }
    Ok(disks)
}

/// The node of a disk.
#[must_use]
pub fn node(disk: &str) -> String {
    format!("/dev/{disk}")
}
