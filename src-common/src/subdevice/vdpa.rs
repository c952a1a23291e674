//! Access modes `vhost-vdpa` and `virtio-vdpa`: a vDPA device on a VF, on a sub-function, or of a simulator.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Access, Child, DeviceId, Eligible, Nodes, Parent, VirtualFunction, netdev};
use crate::doorbell::{self, Doorbell};
use crate::error::chain;
use crate::host::Host;
use crate::isolation::{Class, Isolation};
use crate::kernel::vdpa;
use crate::kernel::vdpa::{BusDriver, OnBus};

/// How a ring of the consumer reaches the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effective {
    /// The page is mapped into the consumer: no exit, no system call.
    Direct,
    /// The consumer writes an eventfd, and the kernel rings.
    Eventfd,
    /// The kernel has the rings, and rings itself.
    Kernel,
    /// There is no doorbell to ring.
    None,
}

/// What a vDPA driver lets a consumer map as a queue's doorbell (`get_vq_notification` in its source). The vhost core
/// maps exactly one page, and looks at nothing but its alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maps {
    /// As much as the notify multiplier says; `zero`: what 0 stands for, in pages.
    Multiplier { zero: u64 },
    /// A page, whatever the device says.
    Page,
    /// A page that only the driver knows the device's layout of.
    Attested,
    /// Nothing.
    Nothing,
}

/// The drivers of parents, as they are called on their bus.
const DRIVERS: [(&str, Maps); 7] = [
    ("vp-vdpa", Maps::Multiplier { zero: 0 }),
    ("ifcvf", Maps::Multiplier { zero: 1 }),
    ("octep_vdpa", Maps::Page),
    ("mlx5_core", Maps::Attested),
    ("mlx5_core.sf", Maps::Attested),
    ("eni-vdpa", Maps::Nothing),
    ("snet-vdpa-driver", Maps::Nothing),
];

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
) -> Result<Eligible, Vec<String>> {
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
        _ => vf.isolation.clone().map_err(|refusal| refusal.to_string()),
    };
    let bound = on_bus.and_then(|on_bus| bound(host, &parent, child, &on_bus, access));
    let (nodes, isolation, effective) = match (bound, isolation, effective) {
        (Ok(nodes), Ok(isolation), Ok(effective)) => (nodes, isolation, effective),
        (nodes, isolation, effective) => {
            let reasons = [nodes.err(), isolation.err(), effective.err()];
            return Err(reasons.into_iter().flatten().collect());
        }
    };
    Ok(Eligible {
        id: address.into(),
        parent,
        child: child.clone(),
        access,
        function: Some(address),
        pf: vf.pf,
        driver: driver.map(str::to_owned),
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
) -> Result<Eligible, Vec<String>> {
    let on_bus = on_bus(host, parent, child).map_err(|reason| vec![reason])?;
    let nodes = bound(host, parent, child, &on_bus, access).map_err(|reason| vec![reason])?;
    let sub_function = match parent {
        Parent::Sf(address) => Some(netdev::sub_function(host, *address).map_err(|reason| vec![reason])?),
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
            return Err(vec![format!("nothing shows that {driver} keeps DMA to the consumer's memory")]);
        }
    };
    let effective = match access {
        Access::VirtioVdpa => Effective::Kernel,
        _ if class == Class::OnDevice => Effective::Direct,
        _ => Effective::Eventfd,
    };
    let Child::Vdpa { virtio_type, .. } = child else { return Err(vec!["no vDPA device".to_owned()]) };
    Ok(Eligible {
        id: DeviceId::of(parent, child).map_err(|error| vec![error.to_string()])?,
        parent: parent.clone(),
        child: child.clone(),
        access,
        function,
        pf: function,
        driver,
        nodes,
        numa_node: sub_function.and_then(|sub_function| sub_function.numa_node),
        virtio_type: *virtio_type,
        isolation: Isolation { class, group: None },
        doorbell: Err(doorbell::Refusal::NotPci),
        effective,
    })
}

/// The device on its bus, the only one of its parent where that takes one.
fn on_bus(host: &Host, parent: &Parent, child: &Child) -> Result<OnBus, String> {
    let Child::Vdpa { name, .. } = child else { return Err("it has no vDPA device".to_owned()) };
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
            alone(&vdpa::children_of(host, &name).map_err(unreadable)?)?;
        }
        Ok(found)
    };
    read()
}

/// A function has one set of rings, and vp_vdpa takes a second device on it without a word.
pub fn alone(children: &[OnBus]) -> Result<(), String> {
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
) -> Result<Nodes, String> {
    let wanted = match access {
        Access::VhostVdpa => BusDriver::VhostVdpa,
        Access::VirtioVdpa => BusDriver::VirtioVdpa,
        other => return Err(format!("a vDPA device is no {other} device")),
    };
    if on_bus.driver.as_deref() != Some(wanted.name()) {
        let now = on_bus.driver.as_deref().unwrap_or("no driver");
        return Err(format!("vDPA device {} is not on {} but on {now}", on_bus.name, wanted.name()));
    }
    if access == Access::VirtioVdpa {
        netdev::there(host, parent, child)?;
        return Ok(Nodes::None {});
    }
    let Child::Vdpa { name, .. } = child else { return Err("it has no vDPA device".to_owned()) };
    let node = vdpa::node(host, name).map_err(|error| chain(&error))?;
    Ok(Nodes::VhostVdpa { vhost_vdpa: node })
}

fn kernel_mediated(vf: &VirtualFunction) -> Isolation {
    Isolation { class: Class::KernelMediated, group: vf.iommu_group }
}

/// How the consumer of a vhost-vdpa device on such a driver rings, or why it must not be let near.
///
/// A page that the driver maps has to hold nothing else; one that it does not map may.
fn rung(
    driver: Option<&str>,
    doorbell: Result<&Doorbell, &doorbell::Refusal>,
    page: u64,
) -> Result<Effective, String> {
    let driver = driver.unwrap_or("no driver");
    let Some((_, maps)) = DRIVERS.iter().find(|(name, _)| *name == driver) else {
        return Err(format!("what {driver} maps as a doorbell is not known"));
    };
    let mapped = match (maps, doorbell) {
        (Maps::Attested, _) => return Ok(Effective::Direct),
        (Maps::Nothing, _) => false,
        (Maps::Page, _) => true,
        (Maps::Multiplier { zero }, Ok(Doorbell { stride: 0, .. })) => *zero == 1,
        (Maps::Multiplier { .. }, Ok(Doorbell { stride, .. })) => u64::from(*stride) == page,
        // Without its layout it can't be told whether the driver maps it.
        (Maps::Multiplier { .. }, Err(_)) => true,
    };
    match doorbell {
        _ if !mapped => Ok(Effective::Eventfd),
        Ok(_) => Ok(Effective::Direct),
        Err(refusal) => Err(refusal.to_string()),
    }
}

impl Effective {
    /// Why it is so, for people; `stride` is the doorbell's, where it is known.
    #[must_use]
    pub fn reason(self, driver: Option<&str>, stride: Option<u32>) -> String {
        let driver = driver.unwrap_or("a simulator");
        let by_multiplier =
            |(name, maps): &(&str, Maps)| *name == driver && matches!(maps, Maps::Multiplier { .. });
        match (self, stride.filter(|_| DRIVERS.iter().any(by_multiplier))) {
            (Self::Direct, _) => format!("{driver} maps it into the consumer"),
            (Self::Eventfd, Some(stride)) => format!(
                "{driver} maps a doorbell only where the notify multiplier is the page size, and it is {stride:#x}"
            ),
            (Self::Eventfd, None) => format!("{driver} maps no doorbell"),
            (Self::Kernel, _) => "the kernel drives the rings".to_owned(),
            (Self::None, _) => "there are no rings".to_owned(),
        }
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Eventfd => "eventfd",
            Self::Kernel => "kernel",
            Self::None => "none",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doorbell::{Granularity, Hull};

    const PAGE: u64 = 0x1000;

    fn doorbell(stride: u32) -> Doorbell {
        Doorbell {
            bar: 4,
            bar_length: 0x80_0000,
            offset: 0x3000,
            length: 0x1000,
            stride,
            granularity: Granularity::Queue,
            hull: Hull { start: 0x3000, length: 0x1000 },
        }
    }

    fn rung_by(driver: &str, stride: u32) -> Result<Effective, String> {
        rung(Some(driver), Ok(&doorbell(stride)), PAGE)
    }

    #[test]
    fn vp_vdpa_maps_a_page_per_queue_and_nothing_else() {
        assert_eq!(rung_by("vp-vdpa", 0x1000), Ok(Effective::Direct));
        for stride in [0, 4, 0x2000] {
            assert_eq!(rung_by("vp-vdpa", stride), Ok(Effective::Eventfd), "{stride}");
        }
    }

    #[test]
    fn a_multiplier_of_zero_is_a_page_to_ifcvf() {
        assert_eq!(rung_by("ifcvf", 0), Ok(Effective::Direct));
        assert_eq!(rung_by("ifcvf", 4), Ok(Effective::Eventfd));
    }

    #[test]
    fn a_page_that_would_be_mapped_and_is_not_verified_is_refused() {
        let refusal = doorbell::Refusal::NoNotify;
        assert!(rung(Some("vp-vdpa"), Err(&refusal), PAGE).is_err());
        assert!(rung(Some("octep_vdpa"), Err(&refusal), PAGE).is_err());
        assert_eq!(rung(Some("eni-vdpa"), Err(&refusal), PAGE), Ok(Effective::Eventfd));
    }

    #[test]
    fn an_eventfd_has_its_reason_from_the_driver() {
        let reason = |driver, stride| Effective::Eventfd.reason(driver, stride);
        assert!(reason(Some("vp-vdpa"), Some(4)).ends_with("the page size, and it is 0x4"));
        assert_eq!(reason(Some("eni-vdpa"), Some(4)), "eni-vdpa maps no doorbell");
        assert_eq!(reason(None, None), "a simulator maps no doorbell");
    }

    #[test]
    fn a_driver_that_nobody_knows_is_refused() {
        assert_eq!(rung_by("new-vdpa", 0x1000).unwrap_err(), "what new-vdpa maps as a doorbell is not known");
    }
}
