//! Writing each advertised device's descriptor, before it is advertised.

use doorbell_common::claim;
use doorbell_common::formats::descriptor::{
    self, API_VERSION, Access, DEVICE_FILE, Device, Doorbell, Effective, Isolation, Locked, Mediation,
    Memory, Registers,
};
use doorbell_common::host::{self, Host};
use doorbell_common::subdevice::Eligible;

use crate::config::PoolName;
use crate::inventory::Inventory;

/// Brings the descriptors in line with the inventory. A file that is right already is not written.
pub fn descriptors(host: &Host, inventory: &Inventory, page: u64) -> host::Result<()> {
    for (name, pool) in &inventory.pools {
        for device in pool.devices.values() {
            write(host, &describe(name, &pool.resource, device, page))?;
        }
    }
    withdraw(host, inventory)
}

/// A device that is neither advertised nor claimed is no longer described; its folder stays, as containers may have
/// it mounted.
fn withdraw(host: &Host, inventory: &Inventory) -> host::Result<()> {
    for id in descriptor::ids(host)? {
        let advertised = inventory.pools.values().any(|pool| pool.devices.contains_key(&id));
        // A claim that can't be read is a claim: CNI's DEL may still want the descriptor.
        if !advertised && matches!(claim::read(host, &id), Ok(None)) {
            host.remove(format!("{}/{DEVICE_FILE}", descriptor::folder(&id)))?;
        }
    }
    Ok(())
}

fn write(host: &Host, device: &Device) -> host::Result<()> {
    let folder = descriptor::folder(&device.id);
    let file = format!("{folder}/{DEVICE_FILE}");
    let content = descriptor::to_json(device);
    if host.read(&file).is_ok_and(|now| now == content) {
        return Ok(());
    }
    host.make_folder(&folder)?;
    host.replace(file, &content)
}

fn describe(pool: &PoolName, resource: &str, device: &Eligible, page: u64) -> Device {
    let group = device.isolation.group;
    let doorbell = device.doorbell;
    Device {
        api_version: API_VERSION.to_owned(),
        id: device.id.clone(),
        pool: pool.to_string(),
        resource: resource.to_owned(),
        access: Access::Vfio,
        nodes: device.nodes.clone(),
        pci_address: device.address,
        iommu_group: group,
        isolation: Isolation {
            class: device.isolation.class,
            reason: format!("IOMMU group {group} holds this function alone, and the VFs of its PF attach"),
        },
        registers: Registers::Exposed,
        mediation: Mediation::None,
        doorbell: Doorbell {
            verdict: "exclusive".to_owned(),
            reason: format!(
                "pages {:#x}..{:#x} of BAR {} hold the notify area alone",
                doorbell.hull.start,
                doorbell.hull.start + doorbell.hull.length,
                doorbell.bar
            ),
            region: doorbell.bar,
            offset: doorbell.offset,
            length: doorbell.length,
            stride: doorbell.stride,
            granularity: doorbell.granularity,
            effective: Effective::Direct,
        },
        virtio_type: device.virtio_type,
        numa_node: device.numa_node,
        memory: Memory { page_size: page, locked: Locked::MemlockUnlessIpcLock },
    }
}
