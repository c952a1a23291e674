//! Names that become part of a resource name, a CDI kind, a file name and a socket name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, de};

/// The socket is `<kubelet's folder>/doorbell-<pool>.sock`, and the kernel takes 107 bytes of path.
const POOL_LENGTH: usize = 50;
/// Length of a DNS subdomain (RFC 1123), which is what Kubernetes takes before the slash.
const PREFIX_LENGTH: usize = 253;
/// Length of one label in it.
const LABEL_LENGTH: usize = 63;

/// Name of a pool: `[a-z][-a-z0-9]*[a-z0-9]`. It is a CDI class too, hence the letter in front.
///
/// One letter is not enough: containerd 2.1 panics on a CDI specification with a class or vendor of one letter, at
/// each of its starts (container-device-interface 1.0, `parser.validateVendorOrClassName`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PoolName(String);

/// First part of a resource name: a DNS subdomain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourcePrefix(String);

/// Full name of an extended resource: a prefix, and what Kubernetes takes behind the slash but for dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceName(String);

/// Name of a driver, as its folder in sysfs is called: `vfio-pci`, `mlx5_core.sf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverName(String);

/// Why a string is no name of that kind.
#[derive(Debug, thiserror::Error)]
pub enum BadName {
    /// Not a pool's.
    #[error(
        "`{0}` is no pool name: expected a lower-case letter, then letters, digits and inner dashes, 2 to {POOL_LENGTH} in all"
    )]
    Pool(String),
    /// Not a driver's.
    #[error("`{0}` is no driver name: expected letters, digits, `_`, `-` and inner dots, such as vfio-pci")]
    Driver(String),
    /// Not a resource prefix.
    #[error(
        "`{0}` is no resource prefix: expected a DNS name in lower case outside of kubernetes.io, such as doorbell.dev"
    )]
    Prefix(String),
    /// Not a resource's.
    #[error(
        "`{0}` is no resource: expected <prefix>/<name>, the name of letters, digits and inner `_` and `-`, at most {LABEL_LENGTH}, such as intel.com/sriov_net_A"
    )]
    Resource(String),
}

impl PoolName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ResourceName {
    /// Whether CDI takes it as a kind, and containerd as well (see [`PoolName`]).
    #[must_use]
    pub fn is_cdi_kind(&self) -> bool {
        let name = self.0.split_once('/').map_or(self.0.as_str(), |(_, name)| name);
        name.len() > 1 && name.starts_with(|first: char| first.is_ascii_alphabetic())
    }
}

impl FromStr for PoolName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let good = (2..=POOL_LENGTH).contains(&text.len())
            && is_label(text)
            && text.as_bytes()[0].is_ascii_lowercase();
        if good { Ok(Self(text.to_owned())) } else { Err(BadName::Pool(text.to_owned())) }
    }
}

impl FromStr for ResourcePrefix {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        // The kubelet takes no extended resource of Kubernetes' own domain, or with a quota's prefix.
        let reserved = text.ends_with("kubernetes.io") || text.starts_with("requests.");
        let is_label = |label: &str| is_label(label) && label.len() <= LABEL_LENGTH;
        let good =
            text.len() <= PREFIX_LENGTH && text.contains('.') && text.split('.').all(is_label) && !reserved;
        if good { Ok(Self(text.to_owned())) } else { Err(BadName::Prefix(text.to_owned())) }
    }
}

impl FromStr for ResourceName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let good = text.split_once('/').is_some_and(|(prefix, name)| {
            let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            prefix.parse::<ResourcePrefix>().is_ok()
                && (1..=LABEL_LENGTH).contains(&name.len())
                && name.bytes().all(inner)
                && !name.starts_with(['_', '-'])
                && !name.ends_with(['_', '-'])
        });
        if good { Ok(Self(text.to_owned())) } else { Err(BadName::Resource(text.to_owned())) }
    }
}

impl FromStr for DriverName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let good = !text.is_empty() && text.bytes().all(inner) && !text.starts_with('.');
        if good { Ok(Self(text.to_owned())) } else { Err(BadName::Driver(text.to_owned())) }
    }
}

impl Default for DriverName {
    fn default() -> Self {
        Self("vfio-pci".to_owned())
    }
}

impl PartialEq<str> for DriverName {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl<'de> Deserialize<'de> for DriverName {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for DriverName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for ResourcePrefix {
    fn default() -> Self {
        Self("doorbell.dev".to_owned())
    }
}

/// Lower-case letters, digits and inner dashes.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

impl<'de> Deserialize<'de> for PoolName {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ResourcePrefix {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ResourceName {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ResourcePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
