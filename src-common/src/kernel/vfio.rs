//! VFIO as sysfs and /dev show it: which functions are on it, and where their nodes are. Nothing is opened here.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::host::{self, Host, HostError};

use super::iommu::GroupId;
use super::pci::{PciAddress, folder};

/// Folder of the groups' nodes.
const NODES: &str = "/dev/vfio";
/// The legacy container node, one for the whole host.
pub const CONTAINER: &str = "/dev/vfio/vfio";
/// The node of iommufd, one for the whole host.
pub const IOMMUFD: &str = "/dev/iommu";
/// Folder of the devices' own nodes, there where the kernel has CONFIG_VFIO_DEVICE_CDEV. Without it the `vfio-dev`
/// child still stands in sysfs, so the node itself is what counts.
const CDEVS: &str = "/dev/vfio/devices";
/// Modules whose parameter `allow_unsafe_interrupts` lets a function be attached without isolated MSI.
const UNSAFE_INTERRUPTS: [&str; 2] = ["vfio_iommu_type1", "iommufd"];
/// Their files, for people.
pub const UNSAFE_INTERRUPTS_FILES: &str =
    "/sys/module/{vfio_iommu_type1,iommufd}/parameters/allow_unsafe_interrupts";

/// The two nodes that a consumer opens to drive a function through VFIO, at the same path in host and container.
///
/// Exactly one pair: a group that is open keeps its device's own node closed, and the other way round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Nodes {
    /// By the IOMMU group, with the legacy container.
    Group {
        /// `/dev/vfio/<group>`; the number shifts between boots.
        group: String,
        /// `/dev/vfio/vfio`.
        container: Cow<'static, str>,
    },
    /// By the device itself, with iommufd.
    Cdev {
        /// `/dev/vfio/devices/vfio<N>`; the number shifts when devices are bound in another order.
        device: String,
        /// `/dev/iommu`.
        iommu: Cow<'static, str>,
    },
}

/// Which of the two ways a consumer is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// By the group, which every kernel and every consumer has.
    #[default]
    Group,
    /// By the device's own node.
    Cdev,
    /// By the device's own node where the kernel has it, else by the group.
    CdevIfAny,
}

/// Why a function has no nodes to hand out.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    /// It is on VFIO, and yet its node is not there.
    #[error("{0} is not there")]
    Absent(String),
    /// Its own node is asked for and the kernel makes none.
    #[error("no node of its own below {CDEVS} (does the kernel have CONFIG_VFIO_DEVICE_CDEV?)")]
    NoCdev,
    /// sysfs could not be read.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Nodes {
    /// Both paths, the function's own first.
    #[must_use]
    pub fn paths(&self) -> [&str; 2] {
        match self {
            Self::Group { group, container } => [group, container],
            Self::Cdev { device, iommu } => [device, iommu],
        }
    }

    /// The node that is this function's alone.
    #[must_use]
    pub fn own(&self) -> &str {
        self.paths()[0]
    }

    /// The way that these nodes go.
    #[must_use]
    pub fn way(&self) -> Way {
        match self {
            Self::Group { .. } => Way::Group,
            Self::Cdev { .. } => Way::Cdev,
        }
    }
}

/// The nodes by which a function on a VFIO driver is driven now.
pub fn nodes(host: &Host, address: PciAddress, group: GroupId, way: Way) -> Result<Nodes, NodesError> {
    nodes_of(host, &folder(address), group, way)
}

/// Likewise, of any device on a VFIO driver, by its folder in sysfs.
pub fn nodes_of(host: &Host, folder: &str, group: GroupId, way: Way) -> Result<Nodes, NodesError> {
    let there = |node: Cow<'static, str>| {
        let (folder, name) = node.rsplit_once('/').unwrap_or(("/", &node));
        if host.alike().has(folder, name) { Ok(node) } else { Err(NodesError::Absent(node.into_owned())) }
    };
    let by_group = || {
        let group = there(group_node(group).into())?.into_owned();
        Ok(Nodes::Group { group, container: there(CONTAINER.into())? })
    };
    let by_cdev = || {
        let device = cdev(host, folder)?.ok_or(NodesError::NoCdev)?;
        let device = there(device.into())?.into_owned();
        Ok(Nodes::Cdev { device, iommu: there(IOMMUFD.into())? })
    };
    match way {
        Way::Group => by_group(),
        Way::Cdev => by_cdev(),
        Way::CdevIfAny => by_cdev().or_else(|refusal| match refusal {
            NodesError::Host(_) => Err(refusal),
            _ => by_group(),
        }),
    }
}

/// Every node that is there by which a device on a VFIO driver can be opened, whether or not what a consumer needs
/// beside it is there too.
pub fn own_nodes(host: &Host, folder: &str, group: Option<GroupId>) -> host::Result<Vec<String>> {
    let mut nodes: Vec<String> =
        group.into_iter().flat_map(|group| [group_node(group), noiommu_node(group)]).collect();
    let names = host.list(format!("{folder}/vfio-dev"))?;
    nodes.extend(names.into_iter().map(|name| format!("{CDEVS}/{name}")));
    nodes.retain(|node| host.exists(node));
    Ok(nodes)
}

/// Where the device's own node is, whether or not the kernel made it; `None` where the device is not on VFIO, or the
/// kernel has no such nodes at all.
fn cdev(host: &Host, folder: &str) -> host::Result<Option<String>> {
    if !host.alike().exists(CDEVS) {
        return Ok(None);
    }
    let name = host.list(format!("{folder}/vfio-dev"))?.into_iter().next();
    Ok(name.map(|name| format!("{CDEVS}/{name}")))
}

/// Node of an IOMMU group.
#[must_use]
pub fn group_node(group: GroupId) -> String {
    format!("{NODES}/{group}")
}

/// Node that stands instead of the group's where VFIO runs without an IOMMU.
#[must_use]
pub fn noiommu_node(group: GroupId) -> String {
    format!("{NODES}/noiommu-{group}")
}

/// Whether VFIO runs without an IOMMU for a group.
#[must_use]
pub fn is_noiommu(host: &Host, group: GroupId) -> bool {
    host.alike().has(NODES, &format!("noiommu-{group}"))
}

/// Whether a path is a device's own node: `/dev/vfio/7`, `/dev/vfio/noiommu-7` or `/dev/vfio/devices/vfio3`.
#[must_use]
pub fn is_node(path: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let rest = path.strip_prefix("/dev/vfio/");
    rest.is_some_and(|rest| {
        number(rest)
            || rest.strip_prefix("noiommu-").is_some_and(number)
            || rest.strip_prefix("devices/vfio").is_some_and(number)
    })
}

/// Whether a VFIO driver holds the function: any driver that made a `vfio-dev` child, because variant drivers
/// (virtio_vfio_pci, mlx5_vfio_pci, …) serve the same nodes under other names.
pub fn is_bound(host: &Host, address: PciAddress) -> host::Result<bool> {
    Ok(!host.list(format!("{}/vfio-dev", folder(address)))?.is_empty())
}

/// [`is_bound`], of a PF: of all its VFs it is asked.
pub fn is_pf_bound(host: &Host, pf: PciAddress) -> host::Result<bool> {
    Ok(!host.alike().is_empty(&format!("{}/vfio-dev", folder(pf)))?)
}

/// A module that has been told to take interrupts that are not isolated, if there is one.
pub fn unsafe_interrupts(host: &Host) -> host::Result<Option<&'static str>> {
    for module in UNSAFE_INTERRUPTS {
        let parameter = format!("/sys/module/{module}/parameters/allow_unsafe_interrupts");
        if host.alike().attribute_if_any(parameter)?.as_deref() == Some("Y") {
            return Ok(Some(module));
        }
    }
    Ok(None)
}

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [own, shared] = self.paths();
        write!(f, "{own} and {shared}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(7);

    /// A function on vfio-pci, with these nodes there.
    fn found(there: &[&str], way: Way) -> Result<Nodes, String> {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        let address: PciAddress = "0000:01:00.1".parse().unwrap();
        host.make_folder(format!("{}/vfio-dev/vfio3", folder(address))).unwrap();
        for node in there {
            host.make_folder(std::path::Path::new(node).parent().unwrap()).unwrap();
            host.replace(node, b"").unwrap();
        }
        nodes(&host, address, GROUP, way).map_err(|error| error.to_string())
    }

    const BOTH: [&str; 4] = ["/dev/vfio/7", CONTAINER, "/dev/vfio/devices/vfio3", IOMMUFD];

    #[test]
    fn each_way_has_its_own_pair_of_nodes() {
        let (group, cdev) = (found(&BOTH, Way::Group).unwrap(), found(&BOTH, Way::Cdev).unwrap());
        assert_eq!(group.paths(), ["/dev/vfio/7", "/dev/vfio/vfio"]);
        assert_eq!(cdev.paths(), ["/dev/vfio/devices/vfio3", "/dev/iommu"]);
        assert_eq!(found(&BOTH, Way::CdevIfAny), Ok(cdev));
    }

    #[test]
    fn a_kernel_without_cdevs_leaves_the_group() {
        assert_eq!(found(&BOTH[..2], Way::CdevIfAny), found(&BOTH, Way::Group));
        let refusal = found(&BOTH[..2], Way::Cdev).unwrap_err();
        assert!(refusal.starts_with("no node of its own below /dev/vfio/devices"), "{refusal}");
    }

    #[test]
    fn a_missing_node_is_named() {
        assert_eq!(found(&BOTH[1..], Way::Group).unwrap_err(), "/dev/vfio/7 is not there");
        assert_eq!(found(&BOTH[..3], Way::Cdev).unwrap_err(), "/dev/iommu is not there");
    }

    #[test]
    fn nodes_read_back_as_what_they_were() {
        for way in [Way::Group, Way::Cdev] {
            let nodes = found(&BOTH, way).unwrap();
            let json = serde_json::to_string(&nodes).unwrap();
            assert_eq!(serde_json::from_str::<Nodes>(&json).unwrap(), nodes, "{json}");
        }
        assert!(serde_json::from_str::<Nodes>(r#"{"group":"a","device":"b"}"#).is_err());
    }
}
