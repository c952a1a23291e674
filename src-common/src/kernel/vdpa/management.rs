//! Management devices: what vDPA devices can be made of.

use std::fmt;
use std::str::FromStr;

use netlink_packet_core::DecodeError;

use crate::kernel::pci::PciAddress;

use super::message::{
    DEV_MGMTDEV_MAX_VQS, DEV_SUPPORTED_FEATURES, MGMTDEV_BUS_NAME, MGMTDEV_DEV_NAME,
    MGMTDEV_SUPPORTED_CLASSES, Message,
};

/// Bytes of the longest file name, which bounds what sysfs has a folder for.
const LENGTH: usize = 255;

/// Names a management device: by its bus, where it has one, and its name there.
///
/// As the tool `vdpa` writes it: `pci/0000:01:00.1`, `auxiliary/mlx5_core.sf.4`, or for a simulator `vdpasim_net`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManagementHandle {
    bus: Option<String>,
    name: String,
}

/// Why a string names no management device.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no management device: expected <bus>/<name> or <name>, such as pci/0000:01:00.1")]
pub struct BadHandle(String);

/// What vDPA devices can be made of, and what they can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagementDevice {
    /// Its name.
    pub handle: ManagementHandle,
    /// Virtio device types that it can be made into, a bit each.
    pub supported_classes: u64,
    /// Virtio features that a device can be given, a bit each; `None` before Linux 5.17.
    pub supported_features: Option<u64>,
    /// Virtqueues that a device can have; `None` before Linux 5.17.
    pub max_vqs: Option<u32>,
}

impl ManagementHandle {
    /// Of a PCI function.
    #[must_use]
    pub fn pci(address: PciAddress) -> Self {
        Self { bus: Some("pci".to_owned()), name: address.to_string() }
    }

    /// The bus; `None` for a simulator.
    #[must_use]
    pub fn bus(&self) -> Option<&str> {
        self.bus.as_deref()
    }

    /// The device's name on its bus.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn decode(message: &Message) -> Result<Self, DecodeError> {
        let bus = message.text(MGMTDEV_BUS_NAME)?;
        let name = message.required(MGMTDEV_DEV_NAME, Message::text)?;
        Ok(Self { bus, name })
    }

    pub(super) fn encode(&self, message: Message) -> Message {
        let message = message.with_text(MGMTDEV_DEV_NAME, &self.name);
        match &self.bus {
            Some(bus) => message.with_text(MGMTDEV_BUS_NAME, bus),
            None => message,
        }
    }
}

impl FromStr for ManagementHandle {
    type Err = BadHandle;

    fn from_str(text: &str) -> Result<Self, BadHandle> {
        let (bus, name) = text.split_once('/').map_or((None, text), |(bus, name)| (Some(bus), name));
        let is_name = |part: &str| !part.is_empty() && part.len() <= LENGTH && !part.contains(['/', '\0']);
        if bus.is_none_or(is_name) && is_name(name) {
            Ok(Self { bus: bus.map(str::to_owned), name: name.to_owned() })
        } else {
            Err(BadHandle(text.to_owned()))
        }
    }
}

impl fmt::Display for ManagementHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bus {
            Some(bus) => write!(f, "{bus}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl ManagementDevice {
    /// Whether it can be made into a device of this virtio type (1 network, 2 block).
    #[must_use]
    pub fn serves(&self, virtio_id: u32) -> bool {
        1u64.checked_shl(virtio_id).is_some_and(|class| self.supported_classes & class != 0)
    }

    pub(super) fn decode(message: &Message) -> Result<Self, DecodeError> {
        Ok(Self {
            handle: ManagementHandle::decode(message)?,
            supported_classes: message.required(MGMTDEV_SUPPORTED_CLASSES, Message::u64)?,
            supported_features: message.u64(DEV_SUPPORTED_FEATURES)?,
            max_vqs: message.u32(DEV_MGMTDEV_MAX_VQS)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_written_as_it_is_read() {
        for text in ["pci/0000:01:00.1", "auxiliary/mlx5_core.sf.4", "vdpasim_net"] {
            assert_eq!(text.parse::<ManagementHandle>().unwrap().to_string(), text);
        }
        let vf = ManagementHandle::pci("0000:01:00.1".parse().unwrap());
        assert_eq!((vf.bus(), vf.name()), (Some("pci"), "0000:01:00.1"));
        for bad in ["", "/", "pci/", "/a", "a/b/c", "a\0", &"a".repeat(256)] {
            assert_eq!(bad.parse::<ManagementHandle>(), Err(BadHandle(bad.to_owned())), "{bad:?}");
        }
    }

    #[test]
    fn a_class_is_a_bit_and_no_type_is_beyond_the_last() {
        let device = ManagementDevice {
            handle: "vdpasim_blk".parse().unwrap(),
            supported_classes: 1 << 2,
            supported_features: None,
            max_vqs: None,
        };
        assert!(device.serves(2));
        assert!(!device.serves(1) && !device.serves(64) && !device.serves(u32::MAX));
    }
}
