//! Each device's descriptor, `device.json`.

use doorbell_common::claim;
use doorbell_common::formats;
use doorbell_common::formats::descriptor::{
    self, API_VERSION, Area, Device, Doorbell, Guest, Isolation, Locked, Memory,
};
use doorbell_common::host::{self, Host};
use doorbell_common::isolation::Class;
use doorbell_common::subdevice::{Access, Child, DeviceId, Effective, Eligible};

use crate::config::{PoolName, Runtime};
use crate::inventory::{Inventory, Pool};

/// Writes the descriptor of a device.
pub(super) fn publish(
    host: &Host,
    inventory: &Inventory,
    name: &PoolName,
    pool: &Pool,
    device: &Eligible,
) -> host::Result<()> {
    let mut described = describe(name, pool, device, inventory.page);
    if pool.runtime.is_kata() {
        // First what the descriptor for the guest lacks: who reads that one wants this one next.
        host.keep_as(descriptor::vm_file(&device.id), &formats::to_json(&described))?;
        described = described.for_guest(guest(pool, device));
    }
    host.keep_as(descriptor::device_file(&device.id), &formats::to_json(&described))
}

/// Withdraws the descriptors of devices that are neither advertised nor left to a pod nor claimed. A folder stays, as
/// containers may have it mounted.
pub(super) fn withdraw(host: &Host, inventory: &Inventory) -> host::Result<()> {
    let has = |pool: &Pool, id: &DeviceId| pool.devices.contains_key(id);
    // A claim that can't be read is a claim: CNI's DEL may still want the descriptor.
    let is_a_pods = |id: &DeviceId| {
        inventory.left.iter().any(|left| left.has(id)) || !matches!(claim::read(host, id), Ok(None))
    };
    for id in descriptor::ids(host)? {
        if !inventory.pools.values().any(|pool| has(pool, &id)) && !is_a_pods(&id) {
            host.remove(descriptor::device_file(&id))?;
        }
    }
    for id in descriptor::vm_ids(host)? {
        let mut pools = inventory.pools.values().filter(|pool| has(pool, &id)).peekable();
        let is_wanted = pools.peek().map_or_else(|| is_a_pods(&id), |pool| pool.runtime.is_kata());
        if !is_wanted {
            host.remove(descriptor::vm_file(&id))?;
        }
    }
    Ok(())
}

fn guest(pool: &Pool, device: &Eligible) -> Guest {
    Guest {
        pci_ids: device.ids.map(|ids| ids.to_string()),
        pci_address_in: device.is_its_function().then(|| pool.variable.clone()),
    }
}

fn describe(name: &PoolName, pool: &Pool, device: &Eligible, page: u64) -> Device {
    let (vdpa, mdev) = match &device.child {
        Child::Vdpa { name, .. } => (Some(name.clone()), None),
        Child::Mdev(uuid) => (None, Some(uuid.clone())),
        Child::None => (None, None),
    };
    Device {
        api_version: API_VERSION.to_owned(),
        id: device.id.clone(),
        pool: name.to_string(),
        resource: pool.resource.clone(),
        access: device.access,
        nodes: device.nodes.clone(),
        parent: device.parent.clone(),
        vdpa,
        mdev,
        pci_address: device.function,
        iommu_group: device.isolation.group,
        isolation: isolation(device),
        registers: device.access.registers(),
        mediation: device.access.mediation(&device.parent),
        doorbell: doorbell(device, &pool.runtime),
        virtio_type: device.virtio_type,
        numa_node: device.numa_node,
        memory: Memory { page_size: page, locked: locked(device.access) },
        guest: None,
        vm: pool.runtime.vm(),
    }
}

fn isolation(device: &Eligible) -> Isolation {
    let class = device.isolation.class;
    let reason = match (class, device.isolation.group) {
        (Class::IommuRid, Some(group)) => {
            format!("IOMMU group {group} holds this function alone, and the VFs of its PF attach")
        }
        (Class::IommuRid, None) => "the IOMMU tells its function from others".to_owned(),
        (Class::OnDevice, _) => "its driver gives the consumer memory keys of its own".to_owned(),
        (Class::KernelMediated, _) => "the kernel's driver has the rings".to_owned(),
        (Class::Software, _) => "no hardware does DMA for it".to_owned(),
    };
    Isolation { class, reason }
}

fn doorbell(device: &Eligible, runtime: &Runtime) -> Doorbell {
    let stride = device.doorbell.as_ref().ok().map(|doorbell| doorbell.stride);
    let (verdict, reason, area) = match &device.doorbell {
        Ok(doorbell) => {
            let area = Area {
                region: doorbell.bar,
                offset: doorbell.offset,
                length: doorbell.length,
                stride: doorbell.stride,
                granularity: doorbell.granularity,
            };
            let reason =
                format!("pages {} of BAR {} hold the notify area alone", doorbell.hull, doorbell.bar);
            ("exclusive", reason, Some(area))
        }
        Err(_) if device.effective == Effective::Direct => {
            ("driver-attested", "only its driver knows where its doorbells lie".to_owned(), None)
        }
        Err(refusal) => (refusal.verdict(), refusal.to_string(), None),
    };
    Doorbell {
        verdict: verdict.to_owned(),
        reason,
        effective: device.effective,
        effective_reason: effective_reason(device, runtime, stride),
        area,
    }
}

fn effective_reason(device: &Eligible, runtime: &Runtime, stride: Option<u32>) -> String {
    match (device.access, device.effective) {
        (Access::Vfio, Effective::Direct) if runtime.is_kata() => {
            "VFIO maps it into the VMM, and the VMM into its guest".to_owned()
        }
        (Access::Vfio, Effective::Direct) => "VFIO maps it into the consumer".to_owned(),
        (_, effective) => effective.reason(device.driver.as_deref(), stride),
    }
}

fn locked(access: Access) -> Locked {
    match access {
        Access::Vfio | Access::Mdev => Locked::MemlockUnlessIpcLock,
        Access::VhostVdpa => Locked::Memlock,
        Access::VirtioVdpa | Access::Netdev => Locked::Nothing,
    }
}
