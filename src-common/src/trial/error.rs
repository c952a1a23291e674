//! Why a proof failed.

use std::io;

use nix::errno::Errno;

use crate::doorbell::Hull;
use crate::kernel::iommu::GroupId;
use crate::kernel::pci::PciAddress;
use crate::kernel::vfio::NodesError;
use crate::subdevice::DeviceId;

/// The step by which a device's own node becomes one process's: the open itself never fails for a second one.
pub(super) const BIND: &str = "VFIO_DEVICE_BIND_IOMMUFD";

/// Why a proof failed.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// Somebody has the device open, by the node that was asked for or by its other one.
    #[error("{node} is in use by {holder}")]
    Busy {
        /// The node that was asked for.
        node: String,
        /// Process that has it open, as far as this process may see.
        holder: String,
    },
    /// There is no node to open.
    #[error(transparent)]
    Nodes(#[from] NodesError),
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
    #[error("{doing} on {on}{}", hint(doing, *source))]
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
    /// A queue's doorbell can't be mapped by its vDPA device, and should.
    #[error("map the doorbell of queue {queue} of {node}")]
    Doorbell {
        /// The node.
        node: String,
        /// Number of the queue.
        queue: u32,
        /// Why.
        source: Errno,
    },
    /// A page can be mapped of which nothing shows what it holds.
    #[error("{0} maps a page as a doorbell that was not found to be one")]
    Mappable(String),
    /// The device was not judged to have what is to be proven.
    #[error("{0} has no doorbell or no IOMMU group to prove")]
    NotJudged(DeviceId),
    /// A captured tree has no devices to open.
    #[error("a captured tree has no device nodes to open")]
    NotReal,
}

impl TrialError {
    /// Whether somebody else has the device open.
    ///
    /// A group and a device's own node keep each other out with EBUSY. A second bind of the own node is EINVAL instead
    /// (`vfio_df_open` in `drivers/vfio/vfio_main.c`), which our fixed arguments leave little other cause for.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Busy { .. } => true,
            Self::Open { source, .. } => source.raw_os_error() == Some(Errno::EBUSY as i32),
            Self::Refused { source: Errno::EBUSY, .. } => true,
            Self::Refused { source: Errno::EINVAL, doing, .. } => *doing == BIND,
            _ => false,
        }
    }
}

fn hint(doing: &str, errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => " (is interrupt remapping on?)",
        Errno::EINVAL if doing == BIND => " (does another process have it open?)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(doing: &'static str, source: Errno) -> TrialError {
        TrialError::Refused { doing, on: "/dev/vfio/devices/vfio3".to_owned(), source }
    }

    #[test]
    fn whatever_a_held_device_answers_is_busy() {
        let open = |errno: Errno| TrialError::Open { node: "/dev/vfio/7".to_owned(), source: errno.into() };
        assert!(open(Errno::EBUSY).is_busy());
        assert!(refused(BIND, Errno::EBUSY).is_busy());
        assert!(refused(BIND, Errno::EINVAL).is_busy());
        for other in
            [open(Errno::EACCES), refused(BIND, Errno::EPERM), refused("VFIO_SET_IOMMU", Errno::EINVAL)]
        {
            assert!(!other.is_busy(), "{other}");
        }
    }

    #[test]
    fn an_errno_with_a_usual_cause_names_it() {
        assert_eq!(
            refused(BIND, Errno::EINVAL).to_string(),
            "VFIO_DEVICE_BIND_IOMMUFD on /dev/vfio/devices/vfio3 (does another process have it open?)"
        );
        assert_eq!(
            refused("VFIO_SET_IOMMU", Errno::EPERM).to_string(),
            "VFIO_SET_IOMMU on /dev/vfio/devices/vfio3 (is interrupt remapping on?)"
        );
    }
}
