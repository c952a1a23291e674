//! Each device's descriptor, `device.json`.

use doorbell_common::claim;
use doorbell_common::formats;
use doorbell_common::formats::descriptor::{
    self, API_VERSION, Access, Device, Doorbell, Effective, Isolation, Locked, Mediation, Memory, Registers,
};
use doorbell_common::host::{self, Host};
use doorbell_common::subdevice::Eligible;

use crate::config::PoolName;
use crate::inventory::Inventory;

/// Writes the descriptors of all devices, and withdraws those of devices that are neither advertised nor claimed. A
/// folder stays, as containers may have it mounted.
pub(super) fn publish(host: &Host, inventory: &Inventory) -> host::Result<()> {
    for (name, pool) in &inventory.pools {
        for device in pool.devices.values() {
            let described = describe(name, &pool.resource, device, inventory.page);
            host.keep_as(descriptor::device_file(&device.id), &formats::to_json(&described))?;
        }
    }
    for id in descriptor::ids(host)? {
        let advertised = inventory.pools.values().any(|pool| pool.devices.contains_key(&id));
        // A claim that can't be read is a claim: CNI's DEL may still want the descriptor.
        if !advertised && matches!(claim::read(host, &id), Ok(None)) {
            host.remove(descriptor::device_file(&id))?;
        }
    }
    Ok(())
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
            reason: format!("pages {} of BAR {} hold the notify area alone", doorbell.hull, doorbell.bar),
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
