//! What a device that is only opened (`--open`) says of itself.

use serde::{Deserialize, Serialize};

/// A device that was opened as a consumer of its kind does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opened {
    /// Device id.
    pub device: String,
    /// The node that is taken: the group's, or the device's own.
    pub node: String,
    /// Microseconds from opening the first node to holding the device, its reset included.
    pub open_micros: u64,
    /// What it is.
    #[serde(flatten)]
    pub found: Found,
}

/// What a device says of itself: under the name of what it was asked by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Found {
    /// By the node of a vDPA device.
    Vdpa(Vdpa),
    /// By the file of a function or an mdev.
    Vfio(Vfio),
}

/// A vDPA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vdpa {
    /// Virtio device type (virtio 1.3, section 5): 1 is a network device, 2 a block device.
    pub virtio_type: u32,
    /// Feature bits that it offers, in hex.
    pub features: String,
    /// Bytes of its configuration.
    pub config_bytes: u32,
    /// Number of queues.
    pub queues: u32,
    /// The most descriptors that a queue may have.
    pub queue_limit: u16,
    /// What was read of it, if it is a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

/// A disk that was read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Its capacity, in sectors of 512 bytes.
    pub sectors: u64,
    /// The first 16 bytes of the first sector, in hex.
    pub first_sector: String,
    /// Microseconds from the request to its answer.
    pub read_micros: u64,
}

/// A device of VFIO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vfio {
    /// The name by which VFIO knows it: a function's address, an mdev's UUID.
    pub name: String,
    /// `VFIO_DEVICE_FLAGS_*`, in hex.
    pub flags: String,
    /// Number of regions, empty ones included.
    pub regions: u32,
    /// Number of kinds of interrupts.
    pub interrupts: u32,
    /// Whether it could be reset.
    pub reset: bool,
}
