//! Why a proof failed.

use std::io;

use nix::errno::Errno;

use crate::doorbell::Hull;
use crate::kernel::iommu::GroupId;
use crate::kernel::pci::PciAddress;

/// Why a proof failed.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// Somebody has the group open.
    #[error("{node} is in use by {holder}")]
    Busy {
        /// The group's node.
        node: String,
        /// Process that has it open, as far as this process may see.
        holder: String,
    },
    /// A node can't be opened.
    #[error("open {node}")]
    Open {
        /// The node.
        node: String,
        /// Why.
        source: io::Error,
    },
    /// A member of the group is on a driver that does not share with VFIO.
    #[error("IOMMU group {0} is not viable: a member is bound to a host driver")]
    NotViable(GroupId),
    /// The kernel refused a step.
    #[error("{doing} on {on}{}", hint(*source))]
    Refused {
        /// The step.
        doing: &'static str,
        /// A node or a function.
        on: String,
        /// Why.
        source: Errno,
    },
    /// What one consumer did would stay for the next.
    #[error("{0} can't be reset (VFIO_DEVICE_FLAGS_RESET is not set)")]
    NoReset(PciAddress),
    /// The driver's idea of the BAR differs from what the verdict rests on.
    #[error("{address}: {what}")]
    Region {
        /// The function.
        address: PciAddress,
        /// What differs.
        what: String,
    },
    /// The mapping itself failed.
    #[error("map {:#x} bytes at {:#x} of region {region} of {address}", hull.length, hull.start)]
    Map {
        /// The function.
        address: PciAddress,
        /// VFIO region index.
        region: u8,
        /// The pages.
        hull: Hull,
        /// Why.
        source: Errno,
    },
    /// A captured tree has no devices to open.
    #[error("a captured tree has no device nodes to open")]
    NotReal,
}

impl TrialError {
    /// Whether somebody else has the group open.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Busy { .. } => true,
            Self::Open { source, .. } => source.raw_os_error() == Some(Errno::EBUSY as i32),
            _ => false,
        }
    }
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => " (is interrupt remapping on?)",
        _ => "",
    }
}
