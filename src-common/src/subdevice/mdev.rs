//! Access mode `mdev`: a mediated device, only ever bound to VFIO.

use super::{Access, Child, DeviceId, Effective, Eligible, Nodes, Parent};
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
) -> Result<Eligible, Vec<String>> {
    let child = Child::Mdev(uuid.clone());
    let one = |reason: String| vec![reason];
    if access != Access::Mdev {
        return Err(one(format!("an mdev is no {access} device")));
    }
    let found = mdev::find(host, uuid).map_err(|error| one(chain(&error)))?;
    let found = found.ok_or_else(|| one(format!("mdev {uuid} is gone")))?;
    if found.parent != parent.to_string() {
        return Err(one(format!("mdev {uuid} stands on {}, not on {parent}", found.parent)));
    }
    if found.vfio.is_none() {
        let driver = found.driver.as_deref().unwrap_or("no driver");
        return Err(one(format!("an mdev is handed out on a VFIO driver only, and it is on {driver}")));
    }
    if !found.is_software() {
        return Err(one(format!("nothing shows what confines the DMA of an mdev on {parent}")));
    }
    let Some(group) = found.iommu_group else { return Err(one("it has no IOMMU group".to_owned())) };
    let nodes = vfio::nodes_of(host, &found.folder, group, way);
    let nodes = nodes.map_err(|error| one(chain(&error)))?;
    Ok(Eligible {
        id: DeviceId::of(parent, &child).map_err(|error| one(error.to_string()))?,
        parent: parent.clone(),
        child,
        access,
        function: None,
        ids: None,
        pf: None,
        driver: found.driver,
        nodes: Nodes::Vfio(nodes),
        numa_node: None,
        virtio_type: None,
        isolation: Isolation { class: Class::Software, group: Some(group) },
        doorbell: Err(doorbell::Refusal::NotPci),
        effective: Effective::None,
    })
}
