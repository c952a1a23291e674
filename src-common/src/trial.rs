//! The proofs that only an open device gives: the attach, the trial mapping of the doorbell, what a vDPA device says.
//!
//! A VFIO device is opened by its IOMMU group with the legacy container, or by its own node with iommufd; a vDPA device
//! by its one node. None of it needs a DMA mapping, locked memory or a capability beyond uid 0. A device has one user at
//! a time, by whichever node, so nobody's is disturbed: who holds it makes us fail with `Busy`.

mod error;
mod ioctl;
mod network;
mod seen;
mod vfio;
mod vhost;

use std::fs::File;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::host::Host;
use crate::kernel::process;
use crate::kernel::vfio::Way;
use crate::subdevice::{Access, Effective, Eligible, Nodes};

pub use error::TrialError;
pub use network::Network;
pub use vfio::{Mapped, attach};
pub use vhost::Opened;

/// After a holder was killed its device takes some 80 ms to be free again; beyond this the holder lives.
const BUSY_FOR: Duration = Duration::from_secs(2);
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What a device showed while it was open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Its doorbell's pages map.
    Mapped(Mapped),
    /// A vDPA device's doorbells map, or do not, as they were judged.
    Opened(Opened),
    /// An mdev attaches.
    Attached,
    /// A VF opens, whose doorbell a VMM traps.
    Trapped(Result<Network, String>),
    /// It has no node to open.
    Nothing,
}

impl Proof {
    /// What a network VF said of itself, or why it did not; nothing, of all others.
    pub fn network(&self) -> Result<Network, &str> {
        match self {
            Self::Mapped(Mapped { network, .. }) | Self::Trapped(network) => match network {
                Ok(network) => Ok(*network),
                Err(why) => Err(why),
            },
            Self::Opened(_) | Self::Attached | Self::Nothing => Ok(Network::default()),
        }
    }
}

/// Opens the device as its consumer will, looks at what was judged of it, and closes it again. `page` is the host's page
/// size.
///
/// Opening and closing each reset the function, so the next consumer finds it fresh. A busy one is tried again for up
/// to two seconds: a killed holder's descriptors take a moment to go.
pub fn prove(host: &Host, device: &Eligible, page: u64) -> Result<Proof, TrialError> {
    if device.access.is_netdev() {
        return Ok(Proof::Nothing);
    }
    if !host.is_real() {
        return Err(TrialError::NotReal);
    }
    let deadline = Instant::now() + BUSY_FOR;
    loop {
        let tried = match (&device.nodes, device.access) {
            (Nodes::Vfio(nodes), Access::Mdev) => {
                vfio::attach_to(host, device, nodes).map(|()| Proof::Attached)
            }
            // Its VMM is not let map the page.
            (Nodes::Vfio(nodes), _) if device.effective == Effective::Trapped => {
                vfio::open_and_ask(host, device, nodes).map(Proof::Trapped)
            }
            (Nodes::Vfio(nodes), _) => vfio::map_doorbell(host, device, nodes).map(Proof::Mapped),
            (Nodes::VhostVdpa { vhost_vdpa }, _) => {
                vhost::open_and_ask(host, vhost_vdpa, device.effective, page).map(Proof::Opened)
            }
            (Nodes::None {}, _) => return Ok(Proof::Nothing),
        };
        match tried {
            Err(error) if error.is_busy() && Instant::now() < deadline => std::thread::sleep(BUSY_PAUSE),
            Err(error) if error.is_busy() => return Err(held(host, device, error)),
            other => return other,
        }
    }
}

/// Who has the device, by whichever of its nodes. EINVAL stays what it is where nobody is seen: it may mean more.
fn held(host: &Host, device: &Eligible, error: TrialError) -> TrialError {
    let node = device.nodes.own().unwrap_or_default().to_owned();
    let by_vfio = [Way::Group, Way::Cdev].into_iter().filter_map(|way| {
        let (address, group) = (device.function?, device.isolation.group?);
        let nodes = crate::kernel::vfio::nodes(host, address, group, way).ok()?;
        Some(nodes.own().to_owned())
    });
    let seen = [node.clone()].into_iter().chain(by_vfio).find_map(|node| process::holding(host, &node));
    match (seen, error) {
        (Some(holder), _) => TrialError::Busy { node, holder: holder.to_string() },
        (None, error @ TrialError::Refused { source: Errno::EINVAL, .. }) => error,
        (None, _) => TrialError::Busy { node, holder: "a process that is not seen from here".to_owned() },
    }
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
    use crate::doorbell::{Doorbell, Granularity, Hull};
    use crate::isolation::{Class, Isolation};
    use crate::kernel::iommu::GroupId;
    use crate::kernel::pci::PciAddress;
    use crate::kernel::vfio;
    use crate::subdevice::{Child, Effective, Parent};

    const PAGE: u64 = 0x1000;

    /// A VF that is driven by its own node.
    fn by_own_node() -> Eligible {
        let address: PciAddress = "0000:01:00.1".parse().unwrap();
        Eligible {
            id: address.into(),
            parent: Parent::Vf(address),
            child: Child::None,
            access: Access::Vfio,
            function: Some(address),
            ids: None,
            pf: Some("0000:01:00.0".parse().unwrap()),
            driver: Some("vfio-pci".into()),
            nodes: Nodes::Vfio(vfio::Nodes::Cdev {
                device: "/dev/vfio/devices/vfio3".to_owned(),
                iommu: vfio::IOMMUFD.into(),
            }),
            numa_node: None,
            virtio_type: Some(1),
            isolation: Isolation { class: Class::IommuRid, group: Some(GroupId(7)) },
            doorbell: Ok(Doorbell {
                bar: 4,
                bar_length: 0x4000,
                offset: 0x3000,
                length: 0x1000,
                stride: 4,
                granularity: Granularity::Device,
                hull: Hull { start: 0x3000, length: 0x1000 },
            }),
            effective: Effective::Direct,
        }
    }

    /// A vDPA device on the same VF.
    fn vdpa() -> Eligible {
        let nodes = Nodes::VhostVdpa { vhost_vdpa: "/dev/vhost-vdpa-0".to_owned() };
        Eligible { access: Access::VhostVdpa, nodes, ..by_own_node() }
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
    fn a_captured_tree_is_opened_by_no_proof() {
        let tree = tempfile::tempdir().unwrap();
        let host = Host::at(tree.path());
        let address = "0000:01:00.1".parse().unwrap();
        assert!(matches!(attach(&host, address, GroupId(7)), Err(TrialError::NotReal)));
        for device in [by_own_node(), vdpa()] {
            assert!(matches!(prove(&host, &device, PAGE), Err(TrialError::NotReal)));
        }
    }

    #[test]
    fn what_has_no_node_has_nothing_to_prove() {
        let tree = tempfile::tempdir().unwrap();
        let device = Eligible { access: Access::Netdev, nodes: Nodes::None {}, ..by_own_node() };
        assert_eq!(prove(&Host::at(tree.path()), &device, PAGE).unwrap(), Proof::Nothing);
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
    fn the_holder_of_a_vdpa_device_is_named() {
        let root = tempfile::tempdir().unwrap();
        let host = host_with_holder(root.path(), "/dev/vhost-vdpa-0");
        let error = TrialError::Open { node: "/dev/vhost-vdpa-0".to_owned(), source: Errno::EBUSY.into() };
        assert_eq!(
            held(&host, &vdpa(), error).to_string(),
            "/dev/vhost-vdpa-0 is in use by process 42 (qemu)"
        );
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
