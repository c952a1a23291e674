//! The two proofs that only an open device gives: the attach, and the trial mapping of the doorbell.
//!
//! Either is given by the IOMMU group with the legacy container, or by the device's own node with iommufd. Neither
//! needs a DMA mapping, locked memory or a capability beyond uid 0. A device has one user at a time, by whichever node,
//! so nobody's is disturbed: who holds it makes us fail with `Busy`.

mod error;
mod ioctl;
mod seen;

use std::fs::File;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use vfio_bindings::bindings::vfio::vfio_region_info;

use crate::doorbell::{Doorbell, Hull};
use crate::host::Host;
use crate::kernel::iommu::GroupId;
use crate::kernel::pci::PciAddress;
use crate::kernel::process;
use crate::kernel::vfio::{self, Nodes, Way};
use crate::subdevice::Eligible;

pub use error::TrialError;

use seen::Seen;

/// After a holder was killed its device takes some 80 ms to be free again; beyond this the holder lives.
const BUSY_FOR: Duration = Duration::from_secs(2);
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What a trial mapping showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// BAR, which is also the VFIO region index.
    pub region: u8,
    /// The pages that were mapped.
    pub hull: Hull,
    /// From opening the first node to the mapping in place.
    pub took: Duration,
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
    let by = |way| vfio::nodes(host, address, group, way);
    match by(Way::Group).or_else(|absent| by(Way::Cdev).map_err(|_| absent))? {
        Nodes::Group { group: node, container } => attach_group(host, &node, &container, group).map(drop),
        Nodes::Cdev { device, iommu } => open_by_node(host, &device, &iommu).map(drop),
    }
}

/// Opens the function as its consumer will, maps the doorbell's pages and closes again.
///
/// Opening and closing each reset the function, so the next consumer finds it fresh. A busy one is tried again for up
/// to two seconds: a killed holder's descriptors take a moment to go.
pub fn map_doorbell(host: &Host, device: &Eligible) -> Result<Mapped, TrialError> {
    if !host.is_real() {
        return Err(TrialError::NotReal);
    }
    let doorbell = &device.doorbell;
    let deadline = Instant::now() + BUSY_FOR;
    loop {
        let started = Instant::now();
        match open_and_map(host, device) {
            Err(error) if error.is_busy() && Instant::now() < deadline => std::thread::sleep(BUSY_PAUSE),
            Err(error) if error.is_busy() => return Err(held(host, device, error)),
            Err(error) => return Err(error),
            Ok(mapped_at) => {
                return Ok(Mapped { region: doorbell.bar, hull: doorbell.hull, took: mapped_at - started });
            }
        }
    }
}

/// Who has the device, by whichever of its nodes. EINVAL stays what it is where nobody is seen: it may mean more.
fn held(host: &Host, device: &Eligible, error: TrialError) -> TrialError {
    let node = device.nodes.own().to_owned();
    let seen = [Way::Group, Way::Cdev].into_iter().find_map(|way| {
        let nodes = vfio::nodes(host, device.address, device.isolation.group, way).ok()?;
        process::holding(host, nodes.own())
    });
    match (seen, error) {
        (Some(holder), _) => TrialError::Busy { node, holder: holder.to_string() },
        (None, error @ TrialError::Refused { source: Errno::EINVAL, .. }) => error,
        (None, _) => TrialError::Busy { node, holder: "a process that is not seen from here".to_owned() },
    }
}

/// One open: attach, the checks, the mapping. Returns when the mapping stood.
fn open_and_map(host: &Host, eligible: &Eligible) -> Result<Instant, TrialError> {
    let Eligible { address, ref doorbell, .. } = *eligible;
    let open = match &eligible.nodes {
        Nodes::Group { group: node, container } => {
            let [group, container] = attach_group(host, node, container, eligible.isolation.group)?;
            let device = ioctl::device(&group, address);
            let device = device.map_err(refused("VFIO_GROUP_GET_DEVICE_FD", address))?;
            Open { device, _attached: vec![group, container] }
        }
        Nodes::Cdev { device, iommu } => open_by_node(host, device, iommu)?,
    };
    check_and_map(&open.device, address, doorbell)?;
    Ok(Instant::now())
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

fn open(host: &Host, node: &str) -> Result<File, TrialError> {
    File::options()
        .read(true)
        .write(true)
        .open(host.path(node))
        .map_err(|source| TrialError::Open { node: node.to_owned(), source })
}

fn refused(doing: &'static str, on: impl ToString) -> impl FnOnce(Errno) -> TrialError {
    move |source| TrialError::Refused { doing, on: on.to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doorbell::Granularity;
    use crate::isolation::{Class, Isolation};

    /// A VF that is driven by its own node.
    fn by_own_node() -> Eligible {
        let address: PciAddress = "0000:01:00.1".parse().unwrap();
        Eligible {
            id: address.into(),
            address,
            pf: "0000:01:00.0".parse().unwrap(),
            driver: "vfio-pci".to_owned(),
            nodes: Nodes::Cdev {
                device: "/dev/vfio/devices/vfio3".to_owned(),
                iommu: vfio::IOMMUFD.to_owned(),
            },
            numa_node: None,
            virtio_type: 1,
            isolation: Isolation { class: Class::IommuRid, group: GroupId(7) },
            doorbell: Doorbell {
                bar: 4,
                bar_length: 0x4000,
                offset: 0x3000,
                length: 0x1000,
                stride: 4,
                granularity: Granularity::Device,
                hull: Hull { start: 0x3000, length: 0x1000 },
            },
        }
    }

    /// A host where process 42 has `held` open.
    fn host_with_holder(root: &std::path::Path, held: &str) -> Host {
        let host = Host::at(root);
        host.make_folder("/sys/bus/pci/devices/0000:01:00.1/vfio-dev/vfio3").unwrap();
        host.make_folder("/dev/vfio/devices").unwrap();
        for node in ["/dev/vfio/7", vfio::CONTAINER, "/dev/vfio/devices/vfio3", vfio::IOMMUFD] {
            host.replace(node, b"").unwrap();
        }
        host.make_folder("/proc/42/fd").unwrap();
        host.replace("/proc/42/comm", b"qemu\n").unwrap();
        std::os::unix::fs::symlink(held, host.path("/proc/42/fd/5")).unwrap();
        host
    }

    fn refused_bind(errno: Errno) -> TrialError {
        refused(error::BIND, "/dev/vfio/devices/vfio3")(errno)
    }

    #[test]
    fn a_captured_tree_is_opened_by_neither_proof() {
        let tree = tempfile::tempdir().unwrap();
        let host = Host::at(tree.path());
        let Eligible { address, isolation, .. } = by_own_node();
        assert!(matches!(attach(&host, address, isolation.group), Err(TrialError::NotReal)));
        assert!(matches!(map_doorbell(&host, &by_own_node()), Err(TrialError::NotReal)));
    }

    #[test]
    fn the_holder_of_either_node_is_named_with_the_node_asked_for() {
        for held_node in ["/dev/vfio/7", "/dev/vfio/devices/vfio3"] {
            for errno in [Errno::EBUSY, Errno::EINVAL] {
                let root = tempfile::tempdir().unwrap();
                let host = host_with_holder(root.path(), held_node);
                assert_eq!(
                    held(&host, &by_own_node(), refused_bind(errno)).to_string(),
                    "/dev/vfio/devices/vfio3 is in use by process 42 (qemu)"
                );
            }
        }
    }

    #[test]
    fn without_a_holder_in_sight_only_ebusy_says_that_there_is_one() {
        let root = tempfile::tempdir().unwrap();
        let host = host_with_holder(root.path(), "/dev/null");
        assert_eq!(
            held(&host, &by_own_node(), refused_bind(Errno::EBUSY)).to_string(),
            "/dev/vfio/devices/vfio3 is in use by a process that is not seen from here"
        );
        let unclear = held(&host, &by_own_node(), refused_bind(Errno::EINVAL));
        assert!(matches!(unclear, TrialError::Refused { source: Errno::EINVAL, .. }), "{unclear}");
        assert!(unclear.is_busy());
    }
}
