//! What an open device of any kind says of itself, and does once: an mdev is reset, a disk is read.

use std::rc::Rc;

use anyhow::{Context, Result};
use vhost::VhostBackend;
use vhost::vdpa::VhostVdpa;

use crate::attach::Open;
use crate::descriptor::Device;
use crate::disk::{self, Disk};
use crate::dma::Space;
use crate::report::{By, Found, Vdpa, Vfio};
use crate::vfio::Function;
use crate::vhost::Node;

/// Asks the open device; a disk is read through `space` and rung by `by`, or else as the descriptor says.
pub(crate) fn ask(device: &Device, open: &Open, space: &Rc<Space>, by: Option<By>) -> Result<Found> {
    match open {
        Open::Function(function) => Ok(Found::Vfio(vfio(function, device.vfio_name())?)),
        Open::Vhost(node) => {
            let mut vdpa = vdpa(node)?;
            if vdpa.virtio_type == disk::DEVICE_TYPE {
                let virtio = open.virtio(device, device.rung_by(by)?)?;
                let read = Disk::bring_up(virtio, space).and_then(|mut disk| disk.read());
                vdpa.disk = Some(read.with_context(|| format!("read {}", device.id))?);
            }
            Ok(Found::Vdpa(vdpa))
        }
    }
}

fn vdpa(node: &Node) -> Result<Vdpa> {
    let device = node.device();
    Ok(Vdpa {
        virtio_type: node.virtio_type()?,
        features: format!("{:#x}", node.told("get the features", device.get_features())?),
        config_bytes: node.told("get the size of the configuration", device.get_config_size())?,
        queues: node.told("get the number of queues", device.get_vqs_count())?,
        queue_limit: node.told("get the size of queues", device.get_vring_num())?,
        disk: None,
    })
}

fn vfio(function: &Function, name: &str) -> Result<Vfio> {
    Ok(Vfio {
        name: name.to_owned(),
        flags: format!("{:#x}", function.flags()),
        regions: function.regions(),
        interrupts: function.interrupts(),
        reset: function.reset()?,
    })
}
