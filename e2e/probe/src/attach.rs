//! From the descriptor's nodes to an open device, and to the address space that its DMA goes through: by group and
//! container (type 1), by VFIO's own node of the device and iommufd, or by a vhost node, which is both.
//!
//! Opens what the descriptor names and looks nowhere else: no sysfs. Follows the kernel's
//! `Documentation/driver-api/vfio.rst`; the ioctls themselves are in [`crate::memory`].

use std::fs::{File, OpenOptions};
use std::io;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use vfio_bindings::bindings::vfio::{VFIO_API_VERSION, VFIO_GROUP_FLAGS_VIABLE, VFIO_TYPE1v2_IOMMU};

use crate::descriptor::{Device, Nodes};
use crate::dma::Space;
use crate::memory;
use crate::report::By;
use crate::vfio::Function;
use crate::vhost::Node;
use crate::virtio::Virtio;
use crate::virtio::pci::Pci;
use crate::virtio::vdpa::Vdpa;

/// Between two tries of a device that is still closing, which takes a holder's last reset: some 100 ms.
const BUSY_STEP: Duration = Duration::from_millis(20);

/// An open device.
#[derive(Debug)]
pub(crate) enum Open {
    /// A function, or an mdev, which VFIO shows as one.
    Function(Function),
    /// A vDPA device.
    Vhost(Rc<Node>),
}

impl Open {
    /// Its virtio device type, which a function does not tell: a VF's config space has no ids.
    pub(crate) fn virtio_type(&self, device: &Device) -> Result<u32> {
        match self {
            Self::Function(_) => {
                device.virtio_type.with_context(|| format!("{} is no virtio device", device.id))
            }
            Self::Vhost(node) => node.virtio_type(),
        }
    }

    /// The virtio device that it is, rung by `by`.
    pub(crate) fn virtio(&self, device: &Device, by: By) -> Result<Virtio> {
        match self {
            Self::Function(function) => Ok(Virtio::new(Pci::open(function, &device.doorbell.place()?, by)?)),
            Self::Vhost(node) => Ok(Virtio::new(Vdpa::new(node, by))),
        }
    }
}

/// Opens the device, which resets it, and attaches it to an address space of its own. What another holder has, or is
/// still closing, is waited for up to `patience`.
pub(crate) fn attach(device: &Device, patience: Duration) -> Result<(Rc<Space>, Open)> {
    let name = device.vfio_name();
    let (space, open) = match device.nodes()? {
        Nodes::Group { group, container } => {
            let (container, group) = join(group, container, patience)?;
            let file = memory::device(&group, name)
                .with_context(|| format!("get the device {name} from its group"))?;
            // The device's file keeps the group open from here on.
            (Space::Container(container), Open::Function(Function::new(file, name)?))
        }
        Nodes::Cdev { device: node, iommu: iommu_node } => {
            let (file, iommu) = bind(node, iommu_node, patience)?;
            let id = memory::alloc_ioas(&iommu)
                .with_context(|| format!("make an address space in {iommu_node}"))?;
            memory::attach_ioas(&file, id)
                .with_context(|| format!("attach {node} to an address space of {iommu_node}"))?;
            (Space::Ioas { iommu, id }, Open::Function(Function::new(file, name)?))
        }
        Nodes::VhostVdpa { vhost_vdpa: path } => {
            let node = Rc::new(Node::new(open_alone(path, patience)?, path)?);
            (Space::Vhost(Rc::clone(&node)), Open::Vhost(node))
        }
    };
    Ok((Rc::new(space), open))
}

/// Keeps the device from everybody else for as long as the files are open: the group, which is not reset by that, or
/// the device's own node, which is.
pub(crate) fn hold(nodes: &Nodes, patience: Duration) -> Result<Vec<File>> {
    match nodes {
        Nodes::Group { group: node, .. } | Nodes::VhostVdpa { vhost_vdpa: node } => {
            Ok(vec![open_alone(node, patience)?])
        }
        Nodes::Cdev { device, iommu } => {
            bind(device, iommu, patience).map(|(device, iommu)| vec![device, iommu])
        }
    }
}

/// Opens a node that has one holder (EBUSY): a group's, or a vDPA device's.
fn open_alone(node: &str, patience: Duration) -> Result<File> {
    patiently(patience, &[Errno::EBUSY], || open(node)).with_context(|| format!("open {node}"))
}

/// A container with the group in it, and the group.
fn join(group_node: &str, node: &str, patience: Duration) -> Result<(File, File)> {
    let container = open(node).with_context(|| format!("open the container {node}"))?;
    let version =
        memory::api_version(&container).with_context(|| format!("ask {node} for its API version"))?;
    ensure!(
        u32::try_from(version).is_ok_and(|version| version == VFIO_API_VERSION),
        "{node} speaks version {version} of the VFIO API, not {VFIO_API_VERSION}"
    );
    let group = open_alone(group_node, patience)?;
    let flags = memory::group_flags(&group).with_context(|| format!("ask for the status of {group_node}"))?;
    ensure!(
        flags & VFIO_GROUP_FLAGS_VIABLE != 0,
        "{group_node} is not viable (flags {flags:#x}): a member is on a driver other than VFIO's"
    );
    memory::set_container(&group, &container).with_context(|| format!("put {group_node} into {node}"))?;
    // The header's constant is a small positive number.
    memory::set_iommu(&container, VFIO_TYPE1v2_IOMMU as i32)
        .with_context(|| format!("set the type1v2 IOMMU on {node} with {group_node}"))?;
    Ok((container, group))
}

/// The device behind its own node, bound to an iommufd, and the iommufd. Anybody may open the node, only one may bind
/// it: the kernel says EINVAL while another one has it by its node, and EBUSY while its group is open.
fn bind(node: &str, iommu_node: &str, patience: Duration) -> Result<(File, File)> {
    let device = open(node).with_context(|| format!("open the device {node}"))?;
    let iommu = open(iommu_node).with_context(|| format!("open the iommufd {iommu_node}"))?;
    let bind = || memory::bind_iommufd(&device, &iommu).map_err(io::Error::from);
    patiently(patience, &[Errno::EINVAL, Errno::EBUSY], bind)
        .with_context(|| format!("bind {node} to {iommu_node}"))?;
    Ok((device, iommu))
}

/// Tries again while it fails as it does when somebody else has the device.
fn patiently<T>(
    patience: Duration,
    taken: &[Errno],
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt() {
            Err(error)
                if taken.iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
                    && Instant::now() < deadline =>
            {
                sleep(BUSY_STEP);
            }
            result => return result,
        }
    }
}

fn open(node: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_node_is_named() {
        let nodes = [
            (
                Nodes::Group { group: "/nonexistent/7".into(), container: "/nonexistent/vfio".into() },
                "open /nonexistent/7",
            ),
            (
                Nodes::Cdev { device: "/nonexistent/vfio3".into(), iommu: "/nonexistent/iommu".into() },
                "open the device /nonexistent/vfio3",
            ),
            (
                Nodes::VhostVdpa { vhost_vdpa: "/nonexistent/vhost-vdpa-0".into() },
                "open /nonexistent/vhost-vdpa-0",
            ),
        ];
        for (nodes, tried) in nodes {
            let error = hold(&nodes, Duration::ZERO).unwrap_err();
            assert_eq!(format!("{error:#}"), format!("{tried}: No such file or directory (os error 2)"));
        }
    }

    #[test]
    fn what_another_one_has_is_tried_until_it_is_free() {
        let mut busy = 2;
        let free = patiently(Duration::from_secs(60), &[Errno::EBUSY], || {
            if busy == 0 {
                return Ok(());
            }
            busy -= 1;
            Err(Errno::EBUSY.into())
        });
        assert!(free.is_ok());
        let refused =
            patiently(Duration::from_secs(60), &[Errno::EBUSY], || Err::<(), _>(Errno::EPERM.into()));
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(Errno::EPERM as i32));
    }
}
