//! Ids of sub-devices, as the kubelet, CDI and our files know them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Child, Parent};
use crate::kernel::name::is_name;
use crate::kernel::pci::PciAddress;

/// The kubelet's limit for a device id.
const ID_LENGTH: usize = 63;

/// Id of a sub-device: the name of its parent (for a VF its PCI address), and a suffix where a parent takes several.
///
/// A copy shares its text: an id is a key in many places. It names files, so only what CDI takes as a device name is an id: no slash, alphanumeric at both ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(Arc<str>);

/// Why a string is no device id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no device id")]
pub struct BadId(String);

impl DeviceId {
    /// The id of what stands on a parent: stable over reboots and rebinding, because the names of parents and of what
    /// we make on them are.
    pub fn of(parent: &Parent, child: &Child) -> Result<Self, BadId> {
        let parent_name = parent.to_string();
        let suffix = match child {
            Child::Vdpa { name, .. } if parent.takes_several() => name.as_str(),
            Child::Mdev(uuid) => uuid.as_str(),
            Child::None | Child::Vdpa { .. } => return parent_name.parse(),
        };
        // What we make is called after its parent already.
        match suffix.strip_prefix(&parent_name) {
            Some(rest) if rest.starts_with('-') => suffix.parse(),
            _ => format!("{parent_name}-{suffix}").parse(),
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        if is_name(text, ID_LENGTH) { Ok(Self(text.into())) } else { Err(BadId(text.to_owned())) }
    }
}

impl TryFrom<String> for DeviceId {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<PciAddress> for DeviceId {
    fn from(address: PciAddress) -> Self {
        Self(address.to_string().into())
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_no_path() {
        for bad in ["", "..", "../etc", "a/b", ".a", "a.", "a b", "a\n", &"a".repeat(64)] {
            assert_eq!(bad.parse::<DeviceId>(), Err(BadId(bad.to_owned())), "{bad:?}");
        }
        assert!("0000:01:00.1".parse::<DeviceId>().is_ok());
    }

    #[test]
    fn an_id_is_the_parents_and_of_several_each_has_its_own() {
        let vdpa = |name: &str| Child::Vdpa { name: name.parse().unwrap(), virtio_type: None };
        let uuid = "5f1c6a52-6f0a-4b3c-9d8f-0d6c7c6f2b11";
        let vf = Parent::Vf("0000:01:00.1".parse().unwrap());
        let sf = Parent::Sf("0000:08:00.0-sf88".parse().unwrap());
        let simulator = Parent::Device("vdpasim_net".parse().unwrap());
        let mtty = Parent::Device("mtty".parse().unwrap());
        for (parent, child, id) in [
            (&vf, Child::None, "0000:01:00.1".to_owned()),
            (&vf, vdpa("vdpa0"), "0000:01:00.1".to_owned()),
            (&sf, vdpa("vdpa1"), "0000:08:00.0-sf88".to_owned()),
            (&simulator, vdpa("vdpasim_net-1"), "vdpasim_net-1".to_owned()),
            (&simulator, vdpa("sim0"), "vdpasim_net-sim0".to_owned()),
            (&mtty, Child::Mdev(uuid.parse().unwrap()), format!("mtty-{uuid}")),
        ] {
            assert_eq!(DeviceId::of(parent, &child).unwrap().as_str(), id);
        }
    }
}
