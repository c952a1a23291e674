//! What is made and bound for a pool before its sub-devices are advertised.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;

use doorbell_common::subdevice::Access;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::DriverName;

/// What is done before sub-devices are advertised; what is not given is left as it is found, or to the driver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Prepare {
    /// Makes this many VFs on each PF in `select.pfNames` and `select.rootDevices` that has none; more are left as
    /// they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_vfs: Option<u32>,
    /// Binds each selected VF to this driver; by default the one that the pool's access mode needs. A VF on another
    /// that serves the mode as well stays there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<DriverName>,
    /// Queue pairs of a vDPA network device, at most.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "at_least_one::<_, u16, _>")]
    pub max_vq_pairs: Option<NonZeroU16>,
    /// MTU of a vDPA network device, in bytes.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "at_least_one::<_, u16, _>")]
    pub mtu: Option<NonZeroU16>,
    /// Where a vDPA network device's MAC address comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacPolicy>,
    /// Virtio feature bits that a vDPA device is held to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// What becomes of a device whose driver takes one of these not.
    pub if_unsupported: IfUnsupported,
    /// How many sub-devices are made on a parent that takes several; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "at_least_one::<_, u32, _>")]
    pub per_parent: Option<NonZeroU32>,
    /// The type of which mdevs are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mdev_type: Option<MdevType>,
}

/// A number from 1 on. The standard library's own error of 0 has no place in the document.
fn at_least_one<'de, D: Deserializer<'de>, N: Deserialize<'de>, T: TryFrom<N>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let number = Option::<N>::deserialize(deserializer)?.map(T::try_from).transpose();
    number.map_err(|_| de::Error::custom("invalid value: 0, expected 1 or more"))
}

/// Where a MAC address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MacPolicy {
    /// From the machine's id and the parent's name: locally administered, and the same at each start.
    Derived,
}

/// What becomes of a vDPA device that can't be made with all that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IfUnsupported {
    /// It is made without, and that is reported.
    #[default]
    Ignore,
    /// It is not made.
    Refuse,
}

/// Virtio feature bits, written in hexadecimal: `0x300000000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features(pub u64);

/// Name of an mdev type, as sysfs has it below `mdev_supported_types`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MdevType(String);

/// Why a string is no type of mdev.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no mdev type: expected its name below mdev_supported_types, such as mtty-1")]
pub struct BadMdevType(String);

impl Prepare {
    /// The driver that VFs of a pool are to be on; `None` for the one that the kernel chooses by itself.
    #[must_use]
    pub fn driver_for(&self, access: Access) -> Option<String> {
        let default = match access {
            Access::Vfio => Some("vfio-pci"),
            Access::VhostVdpa | Access::VirtioVdpa => Some("vp-vdpa"),
            Access::Netdev | Access::Mdev => None,
        };
        self.driver.as_ref().map(ToString::to_string).or_else(|| default.map(str::to_owned))
    }
}

impl FromStr for MdevType {
    type Err = BadMdevType;

    fn from_str(text: &str) -> Result<Self, BadMdevType> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let good = !text.is_empty() && text.bytes().all(inner) && !text.starts_with('.');
        if good { Ok(Self(text.to_owned())) } else { Err(BadMdevType(text.to_owned())) }
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for MdevType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MdevType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits =
            text.strip_prefix("0x").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let bits = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        bits.map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` are no feature bits: expected hexadecimal, such as '0x300000000'"
            ))
        })
    }
}
