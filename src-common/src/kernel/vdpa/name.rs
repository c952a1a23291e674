//! The name of a vDPA device, as its maker gives it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::kernel::name::is_name;
use crate::kernel::pci::PciAddress;

/// Bytes: the kubelet's limit for a device id, which a name can be.
const LENGTH: usize = 63;

/// Name of a vDPA device: `vdpa0`, or for one that is ours `0000:01:00.1`.
///
/// The kernel takes any string. This one names files in sysfs and devices to the kubelet and to CDI, so it is what all
/// of them take: letters, digits and `_.:-`, alphanumeric at both ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VdpaName(String);

/// Why a string is no name for a vDPA device.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` can't name a vDPA device: up to {LENGTH} letters, digits and `_.:-` are taken, alphanumeric at both ends"
)]
pub struct BadName(String);

impl VdpaName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VdpaName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if is_name(text, LENGTH) { Ok(Self(text.to_owned())) } else { Err(BadName(text.to_owned())) }
    }
}

impl TryFrom<String> for VdpaName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<PciAddress> for VdpaName {
    fn from(address: PciAddress) -> Self {
        Self(address.to_string())
    }
}

impl From<VdpaName> for String {
    fn from(name: VdpaName) -> Self {
        name.0
    }
}

impl fmt::Display for VdpaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subdevice::DeviceId;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_no_path_and_no_wild_text() {
        for bad in ["", ".", "..", "a/b", "../a", "a\0", "a b", "a\n", "-a", "a.", "ä", &"a".repeat(64)] {
            assert_eq!(bad.parse::<VdpaName>(), Err(BadName(bad.to_owned())), "{bad:?}");
        }
    }

    #[test]
    fn our_names_and_the_kernels_are_taken() {
        for good in ["0000:01:00.1", "vdpa0", "vdpasim_net-0", "vdpa-sf89", "a", &"a".repeat(63)] {
            assert_eq!(good.parse::<VdpaName>().unwrap().as_str(), good);
        }
        let address: PciAddress = "10000:e1:00.3".parse().unwrap();
        assert_eq!(VdpaName::from(address), "10000:e1:00.3".parse().unwrap());
    }

    proptest! {
        #[test]
        fn a_name_is_a_device_id(text in "[a-z0-9_.:/ -]{0,70}") {
            prop_assert_eq!(text.parse::<VdpaName>().is_ok(), text.parse::<DeviceId>().is_ok());
        }
    }
}
