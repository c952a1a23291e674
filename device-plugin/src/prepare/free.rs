//! Whether a parent, and what stands on it, may be taken off its driver.
//!
//! An unbind, a deletion or a write to `sriov_numvfs` blocks for as long as somebody has the device open, and no signal
//! ends it: a bounded wait is no undo. So it is shown first that nobody has.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use doorbell_common::allocation;
use doorbell_common::claim;
use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::kernel::vdpa::{BusDriver, VdpaName};
use doorbell_common::kernel::{auxiliary, block, iommu, mdev, net, pci, process, vdpa, vfio};
use doorbell_common::subdevice::{self, Child, DeviceId, Parent};
use nix::errno::Errno;

use super::made::Made;
use crate::prover::open::open;

/// What the kubelet says of devices that it has given away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allocated {
    /// Pods by the ids of their devices.
    To(BTreeMap<String, String>),
    /// It could not be asked.
    Unknown(String),
    /// It was not asked, because nothing is to be changed: then no node is opened either, as it may be a pod's.
    Unasked,
}

impl Allocated {
    /// The pod that has the device, if one may have.
    pub fn holder(&self, host: &Host, id: &DeviceId) -> Option<String> {
        match self {
            Self::To(pods) => {
                pods.get(id.as_str()).map(|pod| format!("the kubelet has given it to pod {pod}"))
            }
            Self::Unknown(why) => match allocation::read(host, id) {
                // Never given away.
                Ok(None) => None,
                _ => Some(format!("a pod may have it: the kubelet does not say ({why})")),
            },
            Self::Unasked => None,
        }
    }
}

/// Whether a parent may be taken off its driver, with what stands on it, or why not.
pub fn parent(host: &Host, parent: &Parent, allocated: &Allocated) -> Result<(), String> {
    with(host, parent, &children(host, parent)?, allocated)
}

/// Whether a parent may be taken off its driver, which takes what stands on it along: nobody else's.
pub(super) fn to_rebind(
    host: &Host,
    parent: &Parent,
    made: &Made,
    allocated: &Allocated,
) -> Result<(), String> {
    self::parent(host, parent, allocated)?;
    match children(host, parent)?.iter().find(|child| !made.has(child)) {
        Some(Child::Vdpa { name, .. }) => {
            Err(format!("somebody else made vDPA device {name} on it, which would go"))
        }
        Some(Child::Mdev(uuid)) => Err(format!("somebody else made mdev {uuid} on it, which would go")),
        Some(Child::None) | None => Ok(()),
    }
}

/// Whether one of the things that stand on a parent may be removed, or taken off its driver, or why not.
pub fn child(host: &Host, parent: &Parent, child: &Child, allocated: &Allocated) -> Result<(), String> {
    with(host, parent, std::slice::from_ref(child), allocated)
}

fn with(host: &Host, parent: &Parent, children: &[Child], allocated: &Allocated) -> Result<(), String> {
    let ids = children.iter().chain([&Child::None]).filter_map(|child| DeviceId::of(parent, child).ok());
    let ids: BTreeSet<DeviceId> = ids.collect();
    if ids.iter().any(|id| claim::may_be_in_use(host, id)) {
        return Err("a pod has claimed it".to_owned());
    }
    let nodes = nodes(host, parent, children)?;
    // With no node made for it in this boot, no pod of this boot can have it: after a restart of the node the kubelet
    // still counts it as given.
    if !nodes.is_empty()
        && let Some(holder) = ids.iter().find_map(|id| allocated.holder(host, id))
    {
        return Err(holder);
    }
    let may_open = host.is_real() && *allocated != Allocated::Unasked;
    nodes.iter().try_for_each(|node| unheld(host, node, may_open))?;
    children.iter().chain([&Child::None]).try_for_each(|child| unused(host, parent, child, may_open))
}

/// Whether nobody has a node open: nobody who is seen, and nobody who keeps others out.
fn unheld(host: &Host, node: &str, may_open: bool) -> Result<(), String> {
    if let Some(holder) = process::holding(host, node) {
        return Err(format!("{node} is in use by {holder}"));
    }
    if !may_open {
        return Ok(());
    }
    match open(host, node) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
            Err(format!("{node} is in use by a process that is not seen from here"))
        }
        Err(error) => Err(format!("open {node}: {error}")),
    }
}

/// What stands on the parent now.
fn children(host: &Host, parent: &Parent) -> Result<Vec<Child>, String> {
    let unreadable = |error| chain(&error);
    let name = match parent {
        Parent::Sf(address) => match auxiliary::find(host, *address).map_err(unreadable)? {
            Some(sub_function) => sub_function.name,
            None => return Ok(Vec::new()),
        },
        _ => parent.to_string(),
    };
    let mut children = Vec::new();
    for device in vdpa::children_of(host, &name).map_err(unreadable)? {
        let name =
            device.name.parse().map_err(|_| format!("vDPA device {} has no name of ours", device.name))?;
        children.push(Child::Vdpa { name, virtio_type: None });
    }
    let mdevs = mdev::list(host).map_err(unreadable)?;
    children.extend(mdevs.into_iter().filter(|mdev| mdev.parent == name).map(|mdev| Child::Mdev(mdev.uuid)));
    Ok(children)
}

/// The nodes by which somebody could have it open.
fn nodes(host: &Host, parent: &Parent, children: &[Child]) -> Result<Vec<String>, String> {
    let unreadable = |error| chain(&error);
    let mut nodes = Vec::new();
    let mut by_vfio = |folder: &str, group: Option<iommu::GroupId>| {
        let found = vfio::own_nodes(host, folder, group).map_err(unreadable)?;
        if found.is_empty() {
            return Err("it is on a VFIO driver, and no node of it is to be seen".to_owned());
        }
        nodes.extend(found);
        Ok(())
    };
    if let Some(address) = parent.vf()
        && vfio::is_bound(host, address).map_err(unreadable)?
    {
        by_vfio(&pci::folder(address), iommu::group_of(host, address).map_err(unreadable)?)?;
    }
    for child in children {
        match child {
            Child::Mdev(uuid) => match mdev::find(host, uuid).map_err(unreadable)? {
                Some(found) if found.vfio.is_some() => by_vfio(&found.folder, found.iommu_group)?,
                _ => {}
            },
            Child::None | Child::Vdpa { .. } => {}
        }
    }
    for child in children {
        if let Child::Vdpa { name, .. } = child
            && on_driver(host, name, BusDriver::VhostVdpa)?
        {
            nodes.push(vdpa::node(host, name).map_err(|error| chain(&error))?);
        }
    }
    Ok(nodes)
}

fn on_driver(host: &Host, name: &VdpaName, driver: BusDriver) -> Result<bool, String> {
    let found = vdpa::find(host, name).map_err(|error| chain(&error))?;
    Ok(found.is_some_and(|found| found.driver.as_deref() == Some(driver.name())))
}

/// Whether the host has no use for what its own driver makes of a device: an interface that is out of sight is in
/// somebody's network namespace, one that has a master carries others' packets, a disk that is held is mounted.
fn unused(host: &Host, parent: &Parent, child: &Child, may_open: bool) -> Result<(), String> {
    let unreadable = |error| chain(&error);
    let home = match child {
        Child::Vdpa { name, .. } if on_driver(host, name, BusDriver::VirtioVdpa)? => {
            subdevice::interface_home(host, parent, child)?
        }
        Child::Vdpa { .. } | Child::Mdev(_) => return Ok(()),
        Child::None => match subdevice::interface_home(host, parent, child) {
            Ok(home) => home,
            Err(_) => return Ok(()),
        },
    };
    let interfaces = net::interfaces(host, &home).map_err(unreadable)?;
    if interfaces.is_empty() && net::has_interface(host, &home).map_err(unreadable)? {
        return Err("its network interface is in another network namespace".to_owned());
    }
    for interface in interfaces {
        if let Some(master) = net::master(host, &interface).map_err(unreadable)? {
            return Err(format!("its network interface {interface} is part of {master}"));
        }
    }
    let disks = block::disks(host, &home).map_err(unreadable)?;
    disks.iter().filter(|_| may_open).try_for_each(|disk| unmounted(host, disk))
}

fn unmounted(host: &Host, disk: &str) -> Result<(), String> {
    let node = block::node(disk);
    match open(host, &node) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
            Err(format!("the host has {node} in use (mounted?)"))
        }
        Err(error) => Err(format!("open {node}: {error}")),
    }
}
