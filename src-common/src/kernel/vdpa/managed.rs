//! Devices as their family has them: who made them, of which kind they are, what they are made with.
//!
//! Devices that their driver made by itself (eni, snet) are on the bus, and not in the family.

use netlink_packet_core::DecodeError;

use crate::error::chain;
use crate::kernel::mac::MacAddress;

use super::message::{
    DEV_FEATURES, DEV_ID, DEV_MAX_VQ_SIZE, DEV_MAX_VQS, DEV_NAME, DEV_NET_CFG_MACADDR, DEV_NET_CFG_MAX_VQP,
    DEV_NET_CFG_MTU, DEV_NEW, DEV_VENDOR_ID, Message,
};
use super::{ManagementHandle, VdpaError, VdpaName};

/// How the kernel names the attributes of a new device that its driver does not take, a bit each by their numbers
/// (`vdpa_nl_cmd_dev_add_set_doit`).
const UNSUPPORTED: &str = "Some provided attributes are not supported: 0x";

/// A device that was made of a management device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VdpaDevice {
    /// Its name on the bus. Others give names too, so it need not be a [`VdpaName`].
    pub name: String,
    /// What it is made of.
    pub management: ManagementHandle,
    /// Virtio device type: 1 network, 2 block.
    pub virtio_id: u32,
    /// Vendor, as virtio has it: for a PCI device that of its subsystem.
    pub vendor_id: u32,
    /// Virtqueues.
    pub max_vqs: u32,
    /// Descriptors of a virtqueue, at most.
    pub max_vq_size: u16,
}

/// A device to be made. What is `None` is left to the kernel's driver.
///
/// vp_vdpa, ifcvf and octep take features only: the rest is set through the PF there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDevice {
    /// Its name on the bus.
    pub name: VdpaName,
    /// What it is to be made of.
    pub management: ManagementHandle,
    /// Pairs of virtqueues of a network device; 0 is refused.
    pub max_vq_pairs: Option<u16>,
    /// MAC address of a network device.
    pub mac: Option<MacAddress>,
    /// MTU of a network device, in bytes: 68 or more (virtio 1.1, 5.1.4.1).
    pub mtu: Option<u16>,
    /// Virtio features that it is to offer, a bit each: all that it is not to offer are left out. MAC and MTU need
    /// theirs (bits 5 and 3), more than one pair needs MQ (bit 22).
    pub features: Option<u64>,
}

impl VdpaDevice {
    pub(super) fn decode(message: &Message) -> Result<Self, DecodeError> {
        Ok(Self {
            name: message.required(DEV_NAME, Message::text)?,
            management: ManagementHandle::decode(message)?,
            virtio_id: message.required(DEV_ID, Message::u32)?,
            vendor_id: message.required(DEV_VENDOR_ID, Message::u32)?,
            max_vqs: message.required(DEV_MAX_VQS, Message::u32)?,
            max_vq_size: message.required(DEV_MAX_VQ_SIZE, Message::u16)?,
        })
    }
}

impl NewDevice {
    /// Leaves out the attributes that the kernel named when it refused the device, or all where it named none; gives
    /// their names.
    pub fn leave_out_unsupported(&mut self, refusal: &VdpaError) -> Vec<&'static str> {
        let text = chain(refusal);
        let mask = text.split_once(UNSUPPORTED).map(|(_, rest)| {
            let digits = rest.split(|digit: char| !digit.is_ascii_hexdigit()).next().unwrap_or_default();
            u64::from_str_radix(digits, 16).unwrap_or(u64::MAX)
        });
        let unsupported = |attribute: u16| mask.is_none_or(|mask| mask & (1 << attribute) != 0);
        let mut left_out = Vec::new();
        if unsupported(DEV_NET_CFG_MACADDR) && self.mac.take().is_some() {
            left_out.push("mac");
        }
        if unsupported(DEV_NET_CFG_MAX_VQP) && self.max_vq_pairs.take().is_some() {
            left_out.push("maxVqPairs");
        }
        if unsupported(DEV_NET_CFG_MTU) && self.mtu.take().is_some() {
            left_out.push("mtu");
        }
        if unsupported(DEV_FEATURES) && self.features.take().is_some() {
            left_out.push("features");
        }
        left_out
    }

    pub(super) fn encode(&self) -> Message {
        let message = Message::new(DEV_NEW)
            .with_text(DEV_NAME, self.name.as_str())
            .with_u16(DEV_NET_CFG_MAX_VQP, self.max_vq_pairs)
            .with_u16(DEV_NET_CFG_MTU, self.mtu)
            .with_u64(DEV_FEATURES, self.features);
        let message = self.management.encode(message);
        match self.mac {
            Some(mac) => message.with(DEV_NET_CFG_MACADDR, &mac.octets()),
            None => message,
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::kernel::netlink::NetlinkError;

    fn refused(message: Option<&str>) -> VdpaError {
        let source = NetlinkError::Refused { source: Errno::EOPNOTSUPP, message: message.map(str::to_owned) };
        VdpaError::Netlink { doing: "make".to_owned(), source }
    }

    fn device() -> NewDevice {
        NewDevice {
            name: "a".parse().unwrap(),
            management: "vdpasim_net".parse().unwrap(),
            max_vq_pairs: Some(2),
            mac: Some([2, 0, 0, 0, 0, 1].into()),
            mtu: Some(1500),
            features: None,
        }
    }

    #[test]
    fn what_the_kernel_names_is_left_out() {
        let mut device = device();
        let error = refused(Some("vdpa: Some provided attributes are not supported: 0x2400"));
        assert_eq!(device.leave_out_unsupported(&error), ["mac", "mtu"]);
        assert_eq!((device.mac, device.mtu, device.max_vq_pairs), (None, None, Some(2)));
    }

    #[test]
    fn a_kernel_that_names_nothing_gets_none_of_it() {
        assert_eq!(device().leave_out_unsupported(&refused(None)), ["mac", "maxVqPairs", "mtu"]);
    }
}
