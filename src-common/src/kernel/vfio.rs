//! VFIO as sysfs and /dev show it: which functions are on it, and where their nodes are. Nothing is opened here.

use crate::host::{self, Host};

use super::iommu::GroupId;
use super::pci::{PciAddress, folder};

/// The legacy container node, one for the whole host.
pub const CONTAINER: &str = "/dev/vfio/vfio";
/// Modules whose parameter `allow_unsafe_interrupts` lets a function be attached without isolated MSI.
const UNSAFE_INTERRUPTS: [&str; 2] = ["vfio_iommu_type1", "iommufd"];

/// Node of an IOMMU group.
#[must_use]
pub fn group_node(group: GroupId) -> String {
    format!("/dev/vfio/{group}")
}

/// Node that stands instead of the group's where VFIO runs without an IOMMU.
#[must_use]
pub fn noiommu_node(group: GroupId) -> String {
    format!("/dev/vfio/noiommu-{group}")
}

/// Whether a VFIO driver holds the function: any driver that made a `vfio-dev` child, because variant drivers
/// (virtio_vfio_pci, mlx5_vfio_pci, …) serve the same nodes under other names.
pub fn is_bound(host: &Host, address: PciAddress) -> host::Result<bool> {
    Ok(!host.list(format!("{}/vfio-dev", folder(address)))?.is_empty())
}

/// A module that has been told to take interrupts that are not isolated, if there is one.
pub fn unsafe_interrupts(host: &Host) -> host::Result<Option<&'static str>> {
    for module in UNSAFE_INTERRUPTS {
        let parameter = format!("/sys/module/{module}/parameters/allow_unsafe_interrupts");
        if host.read_text_if_any(parameter)?.as_deref() == Some("Y") {
            return Ok(Some(module));
        }
    }
    Ok(None)
}
