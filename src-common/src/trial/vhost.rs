//! The proof of a vhost-vdpa device: each queue's doorbell maps, or none does, as its parent's layout was judged.
//!
//! Opening the node resets the device. No page is touched: reading it is refused, and a write would ring.

use std::time::{Duration, Instant};

use super::{TrialError, ioctl, open, refused};
use crate::host::Host;
use crate::subdevice::Effective;

/// Bit of a network device that has a control queue, its last (virtio 1.3, 5.1.3).
const NET_CTRL_VQ: u64 = 1 << 17;
/// Virtio device type of a network device.
const NET: u32 = 1;

/// What a vDPA device said while it was open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Virtio device type.
    pub virtio_type: u32,
    /// Its queues.
    pub queues: u32,
    /// How many of them have a doorbell that maps.
    pub doorbells: u32,
    /// Virtio feature bits that it offers.
    pub features: u64,
    /// Its configuration space (virtio 1.3, section 5, by type).
    pub config: Vec<u8>,
    /// From opening the node to the last mapping in place.
    pub took: Duration,
}

/// Opens the device, asks what it is, and maps the doorbell of each queue, or sees that none can be mapped.
pub(super) fn open_and_ask(
    host: &Host,
    node: &str,
    effective: Effective,
    page: u64,
) -> Result<Opened, TrialError> {
    let started = Instant::now();
    let device = open(host, node)?;
    let virtio_type = ioctl::vdpa_device_id(&device).map_err(refused("VHOST_VDPA_GET_DEVICE_ID", node))?;
    let queues = ioctl::vdpa_queues(&device).map_err(refused("VHOST_VDPA_GET_VQS_COUNT", node))?;
    let features = ioctl::vhost_features(&device).map_err(refused("VHOST_GET_FEATURES", node))?;
    let config = ioctl::vdpa_config(&device).map_err(refused("VHOST_VDPA_GET_CONFIG", node))?;
    let map =
        |queue: u32| {
            ioctl::map_and_drop(&device, u64::from(queue) * page, page)
                .map_err(|source| TrialError::Doorbell { node: node.to_owned(), queue, source })
        };
    let doorbells = match effective {
        Effective::Direct => {
            // The control queue of some drivers is the kernel's, and has none.
            let control = virtio_type == NET && features & NET_CTRL_VQ != 0;
            let data = queues.saturating_sub(u32::from(control));
            (0..data).try_for_each(map)?;
            data + (data..queues).map(map).filter(Result::is_ok).count() as u32
        }
        _ if (0..queues).any(|queue| map(queue).is_ok()) => {
            return Err(TrialError::Mappable(node.to_owned()));
        }
        _ => 0,
    };
    Ok(Opened { virtio_type, queues, doorbells, features, config, took: started.elapsed() })
}
