//! Access modes `vhost-vdpa` and `virtio-vdpa`: a vDPA device on a VF, on a sub-function, or of a simulator.

use std::sync::Arc;

use super::effective::{Effective, rung};
use super::{
    Access, Child, DeviceId, Eligible, Kind, Nodes, Parent, Reason, Reasons, VirtualFunction, netdev,
};
use crate::doorbell;
use crate::error::chain;
use crate::host::Host;
use crate::isolation::{Class, Isolation};
use crate::kernel::vdpa::{self, BusDriver, OnBus};

/// Drivers whose devices keep DMA to their consumer's memory themselves, by memory keys of their own.
const ON_DEVICE: [&str; 2] = ["mlx5_core", "mlx5_core.sf"];

/// Whether devices of this driver's isolate themselves.
pub(super) fn is_on_device(driver: &str) -> bool {
    ON_DEVICE.contains(&driver)
}

/// A vDPA device on a VF.
pub(super) fn on_vf(
    host: &Host,
    vf: &VirtualFunction,
    child: &Child,
    access: Access,
    page: u64,
) -> Result<Eligible, Reasons> {
    let address = vf.function.address;
    let parent = Parent::Vf(address);
    let on_bus = on_bus(host, &parent, child);
    let driver = vf.function.driver.as_deref();
    let effective = match access {
        Access::VhostVdpa => rung(driver, vf.doorbell.as_ref(), page),
        _ => Ok(Effective::Kernel),
    };
    let isolation = match (access, driver) {
        (Access::VirtioVdpa, _) => Ok(kernel_mediated(vf)),
        (_, Some(driver)) if is_on_device(driver) => {
            Ok(Isolation { class: Class::OnDevice, group: vf.iommu_group })
        }
        _ => vf.isolation.clone(),
    };
    let bound = on_bus.and_then(|on_bus| bound(host, &parent, child, &on_bus, access));
    let (nodes, isolation, effective) = match (bound, isolation, effective) {
        (Ok(nodes), Ok(isolation), Ok(effective)) => (nodes, isolation, effective),
        (nodes, isolation, effective) => {
            let isolation = isolation.err().map(|refusal| Kind::Isolation.because(refusal));
            let effective = effective.err().map(|reason| Kind::Doorbell.because(reason));
            let reasons = [nodes.err(), isolation, effective].into_iter().flatten();
            return Err(Reasons::of(reasons).expect("one of the three is an error"));
        }
    };
    Ok(Eligible {
        id: address.into(),
        parent,
        child: child.clone(),
        access,
        function: Some(address),
        ids: None,
        pf: vf.pf,
        driver: vf.function.driver.clone(),
        nodes,
        numa_node: vf.function.numa_node,
        virtio_type: vf.virtio_type,
        isolation,
        doorbell: vf.doorbell.clone(),
        effective,
    })
}

/// A vDPA device on a sub-function, or of a simulator.
pub(super) fn on_named(
    host: &Host,
    parent: &Parent,
    child: &Child,
    access: Access,
) -> Result<Eligible, Reasons> {
    let on_bus = on_bus(host, parent, child)?;
    let nodes = bound(host, parent, child, &on_bus, access)?;
    let sub_function = match parent {
        Parent::Sf(address) => {
            Some(netdev::sub_function(host, *address).map_err(|reason| Kind::Parent.because(reason))?)
        }
        _ => None,
    };
    let driver = sub_function.as_ref().and_then(|sub_function| sub_function.driver.clone());
    let function = sub_function.as_ref().map(|sub_function| sub_function.parent);
    let class = match (access, &driver) {
        (Access::VirtioVdpa, _) => Class::KernelMediated,
        (_, None) if function.is_none() => Class::Software,
        (_, Some(driver)) if is_on_device(driver) => Class::OnDevice,
        (_, driver) => {
            let driver = driver.as_deref().unwrap_or("no driver");
            let reason = format!("nothing shows that {driver} keeps DMA to the consumer's memory");
            return Err(Kind::Isolation.because(reason).into());
        }
    };
    let effective = match access {
        Access::VirtioVdpa => Effective::Kernel,
        _ if class == Class::OnDevice => Effective::Direct,
        _ => Effective::Eventfd,
    };
    let Child::Vdpa { virtio_type, .. } = child else { return Err(none().into()) };
    Ok(Eligible {
        id: DeviceId::of(parent, child).map_err(|error| Kind::Parent.because(error))?,
        parent: parent.clone(),
        child: child.clone(),
        access,
        function,
        ids: None,
        pf: function,
        driver: driver.map(Arc::from),
        nodes,
        numa_node: sub_function.and_then(|sub_function| sub_function.numa_node),
        virtio_type: *virtio_type,
        isolation: Isolation { class, group: None },
        doorbell: Err(doorbell::Refusal::NotPci),
        effective,
    })
}

/// The device on its bus, the only one of its parent where that takes one.
fn on_bus(host: &Host, parent: &Parent, child: &Child) -> Result<OnBus, Reason> {
    let Child::Vdpa { name, .. } = child else { return Err(none()) };
    let read = || -> Result<OnBus, String> {
        let unreadable = |error| chain(&error);
        let found = vdpa::find(host, name).map_err(unreadable)?;
        let found = found.ok_or_else(|| format!("vDPA device {name} is gone"))?;
        // As its parent is called in sysfs.
        let name_of_parent = match parent {
            Parent::Vf(address) => Some(address.to_string()),
            Parent::Sf(address) => Some(netdev::sub_function(host, *address)?.name),
            Parent::Device(_) => None,
        };
        // The bus does not show which simulator a device is of: it has no parent there.
        if found.parent != name_of_parent {
            let on = found.parent.as_deref().unwrap_or("no device");
            return Err(format!("vDPA device {name} stands on {on}, not on {parent}"));
        }
        if let Some(name) = name_of_parent {
            at_most_one(&vdpa::children_of(host, &name).map_err(unreadable)?)?;
        }
        Ok(found)
    };
    read().map_err(|reason| Kind::Vdpa.because(reason))
}

fn none() -> Reason {
    Kind::Vdpa.because("it has no vDPA device")
}

/// A function has one set of rings, and vp_vdpa takes a second device on it without a word.
pub fn at_most_one(children: &[OnBus]) -> Result<(), String> {
    if children.len() <= 1 {
        return Ok(());
    }
    let names: Vec<&str> = children.iter().map(|child| child.name.as_str()).collect();
    Err(format!("{} vDPA devices share its one set of rings: {}", names.len(), names.join(", ")))
}

/// The nodes of a device that is on the driver its access mode needs.
fn bound(
    host: &Host,
    parent: &Parent,
    child: &Child,
    on_bus: &OnBus,
    access: Access,
) -> Result<Nodes, Reason> {
    let wanted = match access {
        Access::VhostVdpa => BusDriver::VhostVdpa,
        Access::VirtioVdpa => BusDriver::VirtioVdpa,
        other => return Err(Kind::Vdpa.because(format!("a vDPA device is no {other} device"))),
    };
    if on_bus.driver.as_deref() != Some(wanted.name()) {
        let now = on_bus.driver.as_deref().unwrap_or("no driver");
        let reason = format!("vDPA device {} is not on {} but on {now}", on_bus.name, wanted.name());
        return Err(Kind::Driver.because(reason));
    }
    if access == Access::VirtioVdpa {
        netdev::there(host, parent, child).map_err(|reason| Kind::Interface.because(reason))?;
        return Ok(Nodes::None {});
    }
    let Child::Vdpa { name, .. } = child else { return Err(none()) };
    let node = vdpa::node(host, name).map_err(|error| Kind::Node.because(chain(&error)))?;
    Ok(Nodes::VhostVdpa { vhost_vdpa: node })
}

fn kernel_mediated(vf: &VirtualFunction) -> Isolation {
    Isolation { class: Class::KernelMediated, group: vf.iommu_group }
}
