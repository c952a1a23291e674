//! Access mode `mdev`: a mediated device, only ever bound to VFIO.

use std::sync::Arc;

use super::{Access, Child, DeviceId, Effective, Eligible, Kind, Nodes, Parent, Reasons};
use crate::doorbell;
use crate::error::chain;
use crate::host::Host;
use crate::isolation::{Class, Isolation};
use crate::kernel::mdev::{self, Uuid};
use crate::kernel::vfio::{self, Way};

/// An mdev of a parent of software. What confines the DMA of one on hardware, no file shows.
pub(super) fn eligible(
    host: &Host,
    parent: &Parent,
    uuid: &Uuid,
    access: Access,
    way: Way,
) -> Result<Eligible, Reasons> {
    let child = Child::Mdev(uuid.clone());
    if access != Access::Mdev {
        return Err(Kind::Mdev.because(format!("an mdev is no {access} device")).into());
    }
    let found = mdev::find(host, uuid).map_err(|error| Kind::Unreadable.because(chain(&error)))?;
    let found = found.ok_or_else(|| Kind::Mdev.because(format!("mdev {uuid} is gone")))?;
    if found.parent != parent.to_string() {
        let reason = format!("mdev {uuid} stands on {}, not on {parent}", found.parent);
        return Err(Kind::Mdev.because(reason).into());
    }
    if found.vfio.is_none() {
        let driver = found.driver.as_deref().unwrap_or("no driver");
        let reason = format!("an mdev is handed out on a VFIO driver only, and it is on {driver}");
        return Err(Kind::Driver.because(reason).into());
    }
    if !found.is_software() {
        let reason = format!("nothing shows what confines the DMA of an mdev on {parent}");
        return Err(Kind::Isolation.because(reason).into());
    }
    let group = found.iommu_group.ok_or_else(|| Kind::Isolation.because("it has no IOMMU group"))?;
    let nodes = vfio::nodes_of(host, &found.folder, group, way);
    let nodes = nodes.map_err(|error| Kind::Node.because(chain(&error)))?;
    Ok(Eligible {
        id: DeviceId::of(parent, &child).map_err(|error| Kind::Parent.because(error))?,
        parent: parent.clone(),
        child,
        access,
        function: None,
        ids: None,
        pf: None,
        driver: found.driver.map(Arc::from),
        nodes: Nodes::Vfio(nodes),
        numa_node: None,
        virtio_type: None,
        isolation: Isolation { class: Class::Software, group: Some(group) },
        doorbell: Err(doorbell::Refusal::NotPci),
        effective: Effective::None,
    })
}
