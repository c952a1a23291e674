//! Access mode `netdev`: the kernel drives the device, and the consumer gets its network interface.

use super::{Access, Child, DeviceId, Effective, Eligible, Kind, Nodes, Parent, Reasons};
use crate::doorbell;
use crate::error::chain;
use crate::host::Host;
use crate::isolation::{Class, Isolation};
use crate::kernel::auxiliary::{SfAddress, SubFunction};
use crate::kernel::{auxiliary, net, pci, vdpa, virtio};

/// The folder in sysfs below which the interface of such a sub-device hangs.
pub fn interface_home(host: &Host, parent: &Parent, child: &Child) -> Result<String, String> {
    match (parent, child) {
        (_, Child::Vdpa { name, .. }) => vdpa::virtio_child(host, name).map_err(|error| chain(&error)),
        (Parent::Vf(address), _) => Ok(pci::folder(*address)),
        (Parent::Sf(address), _) => Ok(sub_function(host, *address)?.folder),
        (Parent::Device(name), _) => Err(format!("{name} has no network interface")),
    }
}

/// The sub-function of that address.
pub(super) fn sub_function(host: &Host, address: SfAddress) -> Result<SubFunction, String> {
    let found = auxiliary::find(host, address).map_err(|error| chain(&error))?;
    found.ok_or_else(|| format!("sub-function {address} is gone"))
}

/// Whether the kernel has made an interface for it, wherever that is now, and nothing is wrong with a virtio device.
pub(super) fn there(host: &Host, parent: &Parent, child: &Child) -> Result<(), String> {
    let home = interface_home(host, parent, child)?;
    match net::has_interface(host, &home) {
        Ok(true) => {}
        Ok(false) => return Err("it has no network interface".to_owned()),
        Err(error) => return Err(chain(&error)),
    }
    match virtio::trouble(host, &home) {
        Ok(None) => Ok(()),
        Ok(Some(trouble)) => Err(trouble.to_owned()),
        Err(error) => Err(chain(&error)),
    }
}

/// A sub-function whose own interface the consumer gets.
pub(super) fn on_named(host: &Host, parent: &Parent, access: Access) -> Result<Eligible, Reasons> {
    let Parent::Sf(address) = parent else {
        return Err(Kind::Parent.because(format!("nothing stands on {parent}")).into());
    };
    if access != Access::Netdev {
        return Err(Kind::Parent.because(format!("a sub-function itself is no {access} device")).into());
    }
    let sub_function = sub_function(host, *address).map_err(|reason| Kind::Parent.because(reason))?;
    let driver = sub_function.driver.ok_or_else(|| Kind::Driver.because("on no driver"))?;
    there(host, parent, &Child::None).map_err(|reason| Kind::Interface.because(reason))?;
    Ok(Eligible {
        id: DeviceId::of(parent, &Child::None).map_err(|error| Kind::Parent.because(error))?,
        parent: parent.clone(),
        child: Child::None,
        access,
        function: Some(sub_function.parent),
        ids: None,
        pf: Some(sub_function.parent),
        driver: Some(driver.into()),
        nodes: Nodes::None {},
        numa_node: sub_function.numa_node,
        virtio_type: None,
        isolation: Isolation { class: Class::KernelMediated, group: None },
        doorbell: Err(doorbell::Refusal::NotPci),
        effective: Effective::Kernel,
    })
}
