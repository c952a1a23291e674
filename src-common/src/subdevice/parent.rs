//! What a sub-device stands on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::kernel::auxiliary::SfAddress;
use crate::kernel::name::is_name;
use crate::kernel::pci::PciAddress;

/// Room for a suffix in a device id, which has 63 characters: a dash and an mdev's UUID.
const NAME_LENGTH: usize = 26;

/// A device of the host that sub-devices stand on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "kebab-case")]
pub enum Parent {
    /// A virtual function.
    Vf(PciAddress),
    /// A sub-function: an auxiliary device with a number of its own, on a PCI function whose requester id it shares.
    Sf(SfAddress),
    /// Anything else: a vDPA device simulator, an mdev parent.
    Device(ParentName),
}

/// Name of a device in sysfs that can be part of a device id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ParentName(String);

/// Why a string is no such name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is no name of a parent device: expected at most {NAME_LENGTH} of letters, digits and inner `_.:-`, such as vdpasim_net"
)]
pub struct BadName(String);

impl Parent {
    /// Whether more than one sub-device can stand on it. A function has one set of rings: a second vDPA device on it
    /// would be the first one's, which vp_vdpa does not notice.
    #[must_use]
    pub fn takes_several(&self) -> bool {
        matches!(self, Self::Device(_))
    }

    /// Its kind in a word: `vf`, `sf` or `device`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Vf(_) => "vf",
            Self::Sf(_) => "sf",
            Self::Device(_) => "device",
        }
    }

    /// Its address, if it is a VF.
    #[must_use]
    pub fn vf(&self) -> Option<PciAddress> {
        match self {
            Self::Vf(address) => Some(*address),
            Self::Sf(_) | Self::Device(_) => None,
        }
    }
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vf(address) => address.fmt(f),
            Self::Sf(address) => address.fmt(f),
            Self::Device(name) => f.write_str(name.as_str()),
        }
    }
}

impl ParentName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ParentName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if is_name(text, NAME_LENGTH) { Ok(Self(text.to_owned())) } else { Err(BadName(text.to_owned())) }
    }
}

impl TryFrom<String> for ParentName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<ParentName> for String {
    fn from(name: ParentName) -> Self {
        name.0
    }
}

impl fmt::Display for ParentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path_and_leaves_room_for_a_suffix() {
        for bad in ["", "..", "a/b", ".a", "a.", "a b", &"a".repeat(27)] {
            assert_eq!(bad.parse::<ParentName>(), Err(BadName(bad.to_owned())));
        }
        for good in ["vdpasim_net", "mtty", "mlx5_core.sf.4", "0000:00:02.0"] {
            assert!(good.parse::<ParentName>().is_ok(), "{good}");
        }
    }
}
