//! How a consumer gets a sub-device, and what that leaves within its reach.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Parent;

/// How the consumer drives the sub-device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// The consumer owns the whole VF through VFIO.
    Vfio,
    /// The consumer owns the rings of a vDPA device; the kernel keeps its registers.
    VhostVdpa,
    /// The kernel drives a vDPA device, and the consumer has its network interface.
    VirtioVdpa,
    /// The kernel drives the parent itself, and the consumer has its network interface.
    Netdev,
    /// The consumer drives an mdev through VFIO.
    Mdev,
}

/// Whether registers beyond the doorbell are within the consumer's reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Registers {
    /// The consumer reads and writes every register of the function.
    Exposed,
    /// What the consumer asks of registers, the kernel does or refuses.
    Mediated,
    /// The consumer has no device at all, only its network interface.
    None,
}

/// Who stands between the consumer and the device's control path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mediation {
    /// Nobody: the function is the consumer's.
    None,
    /// The driver of its parent.
    ParentDriver,
    /// The driver of the physical function that the parent is a part of.
    PfDriver,
}

impl Access {
    /// All modes.
    pub const ALL: [Self; 5] = [Self::Vfio, Self::VhostVdpa, Self::VirtioVdpa, Self::Netdev, Self::Mdev];

    /// Whether the consumer gets a network interface, and no device node.
    #[must_use]
    pub fn is_netdev(self) -> bool {
        matches!(self, Self::VirtioVdpa | Self::Netdev)
    }

    /// Whether a vDPA device stands between parent and consumer.
    #[must_use]
    pub fn is_vdpa(self) -> bool {
        matches!(self, Self::VhostVdpa | Self::VirtioVdpa)
    }

    /// What it leaves within the consumer's reach.
    #[must_use]
    pub fn registers(self) -> Registers {
        match self {
            Self::Vfio => Registers::Exposed,
            Self::VhostVdpa | Self::Mdev => Registers::Mediated,
            Self::VirtioVdpa | Self::Netdev => Registers::None,
        }
    }

    /// Who mediates on such a parent.
    #[must_use]
    pub fn mediation(self, parent: &Parent) -> Mediation {
        match (self, parent) {
            (Self::Vfio, _) => Mediation::None,
            (_, Parent::Sf(_)) => Mediation::PfDriver,
            _ => Mediation::ParentDriver,
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vfio => "vfio",
            Self::VhostVdpa => "vhost-vdpa",
            Self::VirtioVdpa => "virtio-vdpa",
            Self::Netdev => "netdev",
            Self::Mdev => "mdev",
        })
    }
}

impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Exposed => "exposed",
            Self::Mediated => "mediated",
            Self::None => "none",
        })
    }
}

impl fmt::Display for Mediation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::ParentDriver => "parent-driver",
            Self::PfDriver => "pf-driver",
        })
    }
}
