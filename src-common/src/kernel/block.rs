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

/// Whether the kernel has a disk of that name.
#[must_use]
pub fn is_disk(host: &Host, name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && !name.contains('/')
        && host.exists(format!("/sys/class/block/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_one_that_the_kernel_has_by_that_very_name() {
        let tree = tempfile::tempdir().unwrap();
        let host = Host::at(tree.path());
        host.make_folder("/sys/class/block/vda").unwrap();
        assert!(is_disk(&host, "vda"));
        for name in ["", ".", "..", "vdb", "vda/", "../block/vda"] {
            assert!(!is_disk(&host, name), "{name:?}");
        }
    }
}
