//! A device's configuration space, as the kernel reads it out: a field shows where the device offers its feature.

use netlink_packet_core::DecodeError;

use crate::kernel::mac::MacAddress;

use super::message::{
    DEV_BLK_CFG_BLK_SIZE, DEV_BLK_CFG_CAPACITY, DEV_BLK_CFG_NUM_QUEUES, DEV_BLK_CFG_SEG_MAX, DEV_BLK_FLUSH,
    DEV_BLK_READ_ONLY, DEV_FEATURES, DEV_ID, DEV_NEGOTIATED_FEATURES, DEV_NET_CFG_MACADDR,
    DEV_NET_CFG_MAX_VQP, DEV_NET_CFG_MTU, DEV_NET_STATUS, Message,
};

/// Virtio device types (virtio 1.3, 5) whose configuration the kernel reads out.
const NETWORK: u32 = 1;
const BLOCK: u32 = 2;

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Features that it offers, a bit each.
    pub features: Option<u64>,
    /// Features that its driver took; `None` while nobody drives it.
    pub negotiated_features: Option<u64>,
    /// The part that its type has.
    pub class: ClassConfig,
}

/// Configuration by virtio device type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassConfig {
    /// A network device.
    Network(NetworkConfig),
    /// A block device.
    Block(BlockConfig),
    /// Another type, by its number.
    Other(u32),
}

/// Configuration of a network device (virtio 1.3, 5.1.4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkConfig {
    /// Its MAC address.
    pub mac: Option<MacAddress>,
    /// Status, a bit each: 1 the link is up, 2 it wants to be announced.
    pub status: Option<u16>,
    /// Pairs of virtqueues.
    pub max_vq_pairs: Option<u16>,
    /// Bytes.
    pub mtu: Option<u16>,
}

/// Configuration of a block device (virtio 1.3, 5.2.4), since Linux 6.9.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockConfig {
    /// Sectors of 512 bytes.
    pub capacity: Option<u64>,
    /// Bytes of a block.
    pub block_size: Option<u32>,
    /// Segments of a request, at most.
    pub max_segments: Option<u32>,
    /// Virtqueues.
    pub queues: Option<u16>,
    /// Whether it can't be written.
    pub read_only: Option<bool>,
    /// Whether it takes a flush.
    pub flush: Option<bool>,
}

impl Config {
    pub(super) fn decode(message: &Message) -> Result<Self, DecodeError> {
        let class = match message.required(DEV_ID, Message::u32)? {
            NETWORK => ClassConfig::Network(NetworkConfig::decode(message)?),
            BLOCK => ClassConfig::Block(BlockConfig::decode(message)?),
            other => ClassConfig::Other(other),
        };
        let negotiated_features = message.u64(DEV_NEGOTIATED_FEATURES)?;
        Ok(Self { features: message.u64(DEV_FEATURES)?, negotiated_features, class })
    }

    /// The network device's part.
    #[must_use]
    pub fn network(&self) -> Option<&NetworkConfig> {
        match &self.class {
            ClassConfig::Network(network) => Some(network),
            _ => None,
        }
    }
}

impl NetworkConfig {
    fn decode(message: &Message) -> Result<Self, DecodeError> {
        Ok(Self {
            mac: message.mac(DEV_NET_CFG_MACADDR)?,
            // The header's remark says u8; the kernel has always written two bytes.
            status: message.u16(DEV_NET_STATUS)?,
            max_vq_pairs: message.u16(DEV_NET_CFG_MAX_VQP)?,
            mtu: message.u16(DEV_NET_CFG_MTU)?,
        })
    }
}

impl BlockConfig {
    fn decode(message: &Message) -> Result<Self, DecodeError> {
        let flag = |kind: u16| Ok::<_, DecodeError>(message.u8(kind)?.map(|flag| flag != 0));
        Ok(Self {
            capacity: message.u64(DEV_BLK_CFG_CAPACITY)?,
            block_size: message.u32(DEV_BLK_CFG_BLK_SIZE)?,
            max_segments: message.u32(DEV_BLK_CFG_SEG_MAX)?,
            queues: message.u16(DEV_BLK_CFG_NUM_QUEUES)?,
            read_only: flag(DEV_BLK_READ_ONLY)?,
            flush: flag(DEV_BLK_FLUSH)?,
        })
    }
}
