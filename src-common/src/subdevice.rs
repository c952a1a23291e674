//! The sub-device: the model that everything downstream reads.
//!
//! A sub-device stands on a [`Parent`]: it is the parent itself (a VF by VFIO, a netdev), or a [`Child`] of it (a vDPA
//! device, an mdev). [`Subject`] names one, [`Eligible`] is one that passed every check of its access mode, and the
//! only thing that can be advertised. What each mode asks for is a file beside this one.

mod access;
mod effective;
mod id;
mod mdev;
mod netdev;
mod nodes;
mod parent;
mod reason;
mod vdpa;
mod vf;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::doorbell::{self, Doorbell};
use crate::error::chain;
use crate::host::Host;
use crate::isolation::Isolation;
use crate::kernel::mdev::Uuid;
use crate::kernel::pci::{Ids, PciAddress};
use crate::kernel::vdpa::VdpaName;
use crate::kernel::vfio::Way;

pub use access::{Access, Mediation, Registers};
pub use effective::Effective;
pub use id::{BadId, DeviceId};
pub use netdev::interface_home;
pub use nodes::Nodes;
pub use parent::{BadName, Parent, ParentName};
pub use reason::{Kind, Reason, Reasons};
pub use vdpa::at_most_one;
pub use vf::VirtualFunction;

/// What names a sub-device on its host: enough to find it and to examine it afresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// What it stands on.
    pub parent: Parent,
    /// What stands there.
    pub child: Child,
    /// How its consumer drives it.
    pub access: Access,
    /// Which way its consumer goes, where that is through VFIO.
    pub way: Way,
}

/// What a sub-device is on its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Child {
    /// The parent itself.
    None,
    /// A vDPA device.
    Vdpa {
        /// Its name on the vdpa bus.
        name: VdpaName,
        /// Virtio device type, where netlink said it: sysfs does not.
        virtio_type: Option<u16>,
    },
    /// An mdev.
    Mdev(Uuid),
}

/// A sub-device that passed every check, with what its consumer and its guards need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eligible {
    /// Its id.
    pub id: DeviceId,
    /// What it stands on.
    pub parent: Parent,
    /// What it is there.
    pub child: Child,
    /// How its consumer drives it.
    pub access: Access,
    /// The PCI function that does its DMA; `None` for a device of software.
    pub function: Option<PciAddress>,
    /// What that function says it is, where the consumer has the function itself.
    pub ids: Option<Ids>,
    /// The PF that made that function.
    pub pf: Option<PciAddress>,
    /// The driver that its parent was on when it was examined; `None` for a device of software.
    pub driver: Option<Arc<str>>,
    /// The nodes by which its consumer drives it.
    pub nodes: Nodes,
    /// NUMA node, where the platform says one.
    pub numa_node: Option<u32>,
    /// Virtio device type, where it is a virtio device and says so.
    pub virtio_type: Option<u16>,
    /// What confines it.
    pub isolation: Isolation,
    /// Where the hardware's doorbell is, or why it has none to give.
    pub doorbell: Result<Doorbell, doorbell::Refusal>,
    /// How a ring of its consumer reaches the device.
    pub effective: Effective,
}

impl Subject {
    /// The device as it may be handed out now, or everything that keeps it from that. `page` is the host's page size.
    pub fn examine(&self, host: &Host, page: u64) -> Result<Eligible, Reasons> {
        let unreadable = |error| Kind::Unreadable.because(chain(&error));
        match (&self.parent, &self.child) {
            (Parent::Vf(address), child) => {
                let vf = VirtualFunction::examine(host, *address, page).map_err(unreadable)?;
                vf.eligible(host, child, self.access, self.way, page)
            }
            (parent, Child::Vdpa { .. }) => vdpa::on_named(host, parent, &self.child, self.access),
            (parent, Child::Mdev(uuid)) => mdev::eligible(host, parent, uuid, self.access, self.way),
            (parent, Child::None) => netdev::on_named(host, parent, self.access),
        }
    }
}

impl Eligible {
    /// Whether its id is the address of the PCI function that does its DMA.
    #[must_use]
    pub fn is_its_function(&self) -> bool {
        self.function.is_some_and(|address| self.id == address.into())
    }

    /// What names it.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let (parent, child) = (self.parent.clone(), self.child.clone());
        Subject { parent, child, access: self.access, way: self.nodes.way() }
    }
}
