//! Why a VF is not read, or not what it should be.

use nix::errno::Errno;

use crate::kernel::netlink::NetlinkError;

use super::Attribute;

/// Why a VF is not read, or not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum VfError {
    /// The PF's driver says no: EOPNOTSUPP where it has no such thing to set at all.
    #[error("PF {pf} refuses to set {attribute} of VF {vf}{}", because(message.as_deref()))]
    Refused {
        /// The PF's link.
        pf: String,
        /// The VF's number.
        vf: u32,
        /// What was to be set; what comes before it has been.
        attribute: Attribute,
        /// The kernel's words, where it has some.
        message: Option<String>,
        /// The driver's error number.
        source: Errno,
    },
    /// Whether it is set is not known.
    #[error("set {attribute} of VF {vf} by PF {pf}")]
    Unset {
        /// The PF's link.
        pf: String,
        /// The VF's number.
        vf: u32,
        /// What was to be set; what comes before it has been.
        attribute: Attribute,
        /// Why.
        source: NetlinkError,
    },
    /// The kernel does not list the PF's VFs.
    #[error("ask PF {pf} for its VFs")]
    Unlisted {
        /// The PF's link.
        pf: String,
        /// Why.
        source: NetlinkError,
    },
    /// Too many VFs: the list does not fit into one answer, so that the kernel gives none.
    #[error("PF {pf} has so many VFs that the kernel can't list them: VF {vf} can be set, not read")]
    TooMany {
        /// The PF's link.
        pf: String,
        /// The VF's number.
        vf: u32,
    },
    /// Too many VFs: the list ends before this one.
    #[error(
        "PF {pf} lists {listed} of its {total} VFs, and VF {vf} is not among them: it can be set, not read"
    )]
    NotListed {
        /// The PF's link.
        pf: String,
        /// The VF's number.
        vf: u32,
        /// VFs in the list.
        listed: u32,
        /// VFs of the PF.
        total: u32,
    },
    /// The PF has no VF of that number.
    #[error("PF {pf} has {total} VFs, and no VF {vf}")]
    NoVf {
        /// The PF's link.
        pf: String,
        /// The VF's number.
        vf: u32,
        /// VFs of the PF.
        total: u32,
    },
    /// The link is no PF, or its driver holds nothing of its VFs, as virtio's.
    #[error("the driver of PF {pf} says nothing of VFs")]
    NoList {
        /// The PF's link.
        pf: String,
    },
}

impl VfError {
    /// What could not be set; what comes before it in the order of [`Attribute`] has been.
    #[must_use]
    pub fn attribute(&self) -> Option<Attribute> {
        match self {
            Self::Refused { attribute, .. } | Self::Unset { attribute, .. } => Some(*attribute),
            _ => None,
        }
    }
}

fn because(message: Option<&str>) -> String {
    message.map(|message| format!(" (`{message}`)")).unwrap_or_default()
}
