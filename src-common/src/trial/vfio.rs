//! The two proofs of a VFIO device: that it attaches to a translation, and that its doorbell's pages map.

use std::fs::File;
use std::time::{Duration, Instant};

use vfio_bindings::bindings::vfio::vfio_region_info;

use super::network::{self, Network};
use super::seen::Seen;
use super::{TrialError, error, ioctl, open, refused, seen};
use crate::doorbell::{Doorbell, Hull};
use crate::host::Host;
use crate::kernel::iommu::GroupId;
use crate::kernel::pci::PciAddress;
use crate::kernel::vfio::{Nodes, Way};
use crate::kernel::{self, process};
use crate::subdevice::Eligible;

/// What a trial mapping showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// BAR, which is also the VFIO region index.
    pub region: u8,
    /// The pages that were mapped.
    pub hull: Hull,
    /// From opening the first node to the mapping in place.
    pub took: Duration,
    /// What the function says of itself, or why it did not.
    pub network: Result<Network, String>,
}

/// An open function.
struct Open {
    device: File,
    /// What it is attached by: it stays so as long as these are open, and they close after it.
    _attached: Vec<File>,
}

/// Attaches the function to a translation and lets go of it.
///
/// This is what shows isolated interrupts: without interrupt remapping `SET_IOMMU` and `BIND_IOMMUFD` fail with EPERM,
/// while sysfs shows the same as with it. By the group it takes 4 to 9 ms, and no device is opened, so none is reset;
/// a kernel that has no groups (CONFIG_VFIO_GROUP) leaves the function's own node, and that opens it and resets it.
pub fn attach(host: &Host, address: PciAddress, group: GroupId) -> Result<(), TrialError> {
    if !host.is_real() {
        return Err(TrialError::NotReal);
    }
    let by = |way| kernel::vfio::nodes(host, address, group, way);
    match by(Way::Group).or_else(|absent| by(Way::Cdev).map_err(|_| absent))? {
        Nodes::Group { group: node, container } => attach_group(host, &node, &container, group).map(drop),
        Nodes::Cdev { device, iommu } => open_by_node(host, &device, &iommu).map(drop),
    }
}

/// Attaches a device by the nodes that its consumer will open.
pub(super) fn attach_to(host: &Host, device: &Eligible, nodes: &Nodes) -> Result<(), TrialError> {
    match nodes {
        Nodes::Group { group: node, container } => {
            let group = device.isolation.group.ok_or_else(|| not_judged(device))?;
            attach_group(host, node, container, group).map(drop)
        }
        Nodes::Cdev { device, iommu } => open_by_node(host, device, iommu).map(drop),
    }
}

/// One open: attach, the checks, the mapping.
pub(super) fn map_doorbell(host: &Host, device: &Eligible, nodes: &Nodes) -> Result<Mapped, TrialError> {
    let started = Instant::now();
    let (Some(address), Ok(doorbell)) = (device.function, &device.doorbell) else {
        return Err(not_judged(device));
    };
    let open = open_function(host, device, address, nodes)?;
    check_and_map(&open.device, address, doorbell)?;
    // Before the device is closed, which resets it once more.
    let took = started.elapsed();
    let network = network::ask(host, &open.device, address, device.virtio_type);
    Ok(Mapped { region: doorbell.bar, hull: doorbell.hull, took, network })
}

/// One open without a mapping: a VF whose doorbell its VMM traps. What it says of itself.
pub(super) fn open_and_ask(
    host: &Host,
    device: &Eligible,
    nodes: &Nodes,
) -> Result<Result<Network, String>, TrialError> {
    let address = device.function.ok_or_else(|| not_judged(device))?;
    let open = open_function(host, device, address, nodes)?;
    Ok(network::ask(host, &open.device, address, device.virtio_type))
}

fn open_function(
    host: &Host,
    device: &Eligible,
    address: PciAddress,
    nodes: &Nodes,
) -> Result<Open, TrialError> {
    match nodes {
        Nodes::Group { group: node, container } => {
            let id = device.isolation.group.ok_or_else(|| not_judged(device))?;
            let [group, container] = attach_group(host, node, container, id)?;
            let device = ioctl::device(&group, address);
            let device = device.map_err(refused("VFIO_GROUP_GET_DEVICE_FD", address))?;
            Ok(Open { device, _attached: vec![group, container] })
        }
        Nodes::Cdev { device, iommu } => open_by_node(host, device, iommu),
    }
}

/// What is handed out by VFIO was found to have both.
fn not_judged(device: &Eligible) -> TrialError {
    TrialError::NotJudged(device.id.clone())
}

/// A group in a container of its own, with a translation. None of its functions is open yet.
fn attach_group(host: &Host, node: &str, container: &str, id: GroupId) -> Result<[File; 2], TrialError> {
    let container = open(host, container)?;
    let group = open(host, node)?;
    if !ioctl::is_viable(&group).map_err(refused("VFIO_GROUP_GET_STATUS", node))? {
        return Err(TrialError::NotViable(id));
    }
    ioctl::set_container(&group, &container).map_err(refused("VFIO_GROUP_SET_CONTAINER", node))?;
    ioctl::set_iommu(&container).map_err(refused("VFIO_SET_IOMMU", node))?;
    Ok([group, container])
}

/// A function by its own node, attached to an empty address space.
///
/// The kernel turns away a second user only once the first has bound the device: an earlier consumer's process that
/// merely kept the node open could bind it under the next one's feet. So nobody may have it open.
fn open_by_node(host: &Host, node: &str, iommu: &str) -> Result<Open, TrialError> {
    if let Some(holder) = process::holding(host, node) {
        return Err(TrialError::Busy { node: node.to_owned(), holder: holder.to_string() });
    }
    let iommufd = open(host, iommu)?;
    let device = open(host, node)?;
    ioctl::bind(&device, &iommufd).map_err(refused(error::BIND, node))?;
    let ioas = ioctl::allocate_ioas(&iommufd).map_err(refused("IOMMU_IOAS_ALLOC", iommu))?;
    ioctl::attach(&device, ioas).map_err(refused("VFIO_DEVICE_ATTACH_IOMMUFD_PT", node))?;
    Ok(Open { device, _attached: vec![iommufd] })
}

fn check_and_map(device: &File, address: PciAddress, doorbell: &Doorbell) -> Result<(), TrialError> {
    let Doorbell { bar: region, hull, .. } = *doorbell;
    let flags = ioctl::device_flags(device).map_err(refused("VFIO_DEVICE_GET_INFO", address))?;
    let region_info = ioctl::region_info(device, u32::from(region))
        .map_err(refused("VFIO_DEVICE_GET_REGION_INFO", address))?;
    let mappable = seen::mappable(&region_info.info, &region_info.capabilities);
    let vfio_region_info { size: region_size, flags: region_flags, offset, .. } = region_info.info;
    seen::judge(address, doorbell, &Seen { flags, region_size, region_flags, mappable })?;
    ioctl::map_and_drop(device, offset + hull.start, hull.length).map_err(|source| TrialError::Map {
        address,
        region,
        hull,
        source,
    })
}
