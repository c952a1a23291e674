//! Which pool's selectors let a parent through.

use doorbell_common::isolation::Class;
use doorbell_common::kernel::auxiliary::SubFunction;
use doorbell_common::kernel::pci;
use doorbell_common::kernel::sriov::Pf;
use doorbell_common::subdevice::{Access, Parent, ParentName};

use super::{Other, Survey, Vf};
use crate::config::{AuxType, PfSelector, Pool, Select, VdpaDriver, VirtioType};

/// A parent as it was found.
pub(super) enum Found<'a> {
    Vf(&'a Vf, Option<&'a Pf>),
    Sf(&'a SubFunction),
    Other(&'a ParentName, &'a Other),
}

impl Survey {
    /// What was found of a parent, to hold it to the selectors of many pools.
    pub(super) fn found<'a>(&'a self, parent: &'a Parent) -> Option<Found<'a>> {
        match parent {
            Parent::Vf(address) => self.vfs.get(address).map(|vf| Found::Vf(vf, self.pf(vf.pf))),
            Parent::Sf(address) => self.sfs.get(address).map(Found::Sf),
            Parent::Device(name) => self.others.get(name).map(|other| Found::Other(name, other)),
        }
    }

    pub(super) fn selects(&self, pool: &Pool, found: &Found<'_>) -> bool {
        pool.select.iter().any(|select| match *found {
            Found::Vf(vf, pf) => self.selects_vf(pool.access, select, vf, pf),
            Found::Sf(sf) => self.selects_sf(pool.access, select, sf),
            Found::Other(name, other) => selects_other(pool.access, select, name, other),
        })
    }

    fn selects_vf(&self, access: Access, select: &Select, vf: &Vf, pf: Option<&Pf>) -> bool {
        let device = &vf.device;
        let function = &device.function;
        let Select {
            aux_types,
            parents,
            pci_addresses,
            vendors,
            devices,
            classes,
            drivers,
            pf_names,
            root_devices,
            link_types,
            vdpa_drivers,
            acpi_indexes,
            numa_nodes,
            virtio_types,
            isolation,
            doorbell,
        } = select;
        let of_pf = |selector: &PfSelector| pf.is_some_and(|pf| selector.selects(pf, vf.index));
        aux_types.is_empty()
            && parents.is_empty()
            && (pci_addresses.is_empty() || pci_addresses.contains(&function.address))
            && allows(vendors, |id| id.0 == function.ids.vendor)
            && allows(devices, |id| id.0 == function.ids.device)
            && allows(drivers, |name| function.driver.as_ref().is_some_and(|driver| *name == **driver))
            && allows(pf_names, of_pf)
            && allows(root_devices, |root| of_pf(root.selector()))
            && allows(numa_nodes, |node| function.numa_node == Some(*node))
            && allows(virtio_types, |kind| device.virtio_type == Some(kind.0))
            && allows(isolation, |class| device.class(access) == Some(*class))
            && allows(doorbell, |verdict| {
                device.doorbell.as_ref().is_ok_and(|now| verdict.covers(now.granularity))
            })
            && allows(vdpa_drivers, |driver| self.has_vdpa_on(&Parent::Vf(function.address), *driver))
            && allows(classes, |class| self.asked.class(&self.vfs, function.address) == Some(*class))
            && allows(acpi_indexes, |index| {
                self.asked.acpi_index(&self.vfs, function.address) == Some(*index)
            })
            && allows(link_types, |wanted| {
                self.asked.link_type(&pci::folder(function.address), pf) == Some(*wanted)
            })
    }

    /// What is asked for and a sub-function does not have, it does not match.
    fn selects_sf(&self, access: Access, select: &Select, sf: &SubFunction) -> bool {
        let of_vfs_only = select.classes.is_empty()
            && select.pci_addresses.is_empty()
            && select.acpi_indexes.is_empty()
            && select.doorbell.is_empty();
        let pf = self.pf(sf.parent);
        let of_pf = |selector: &PfSelector| pf.is_some_and(|pf| selector.selects(pf, sf.number));
        let class = if access.is_netdev() { Class::KernelMediated } else { Class::OnDevice };
        let ids = || self.asked.ids(sf.parent);
        // A VF can have sub-functions too; its PF then does not name them.
        select.aux_types.contains(&AuxType::Sf)
            && of_vfs_only
            && allows(&select.parents, |parent| parent.as_str() == sf.name)
            && allows(&select.drivers, |name| {
                sf.driver.as_ref().is_some_and(|driver| name == driver.as_str())
            })
            && allows(&select.pf_names, of_pf)
            && allows(&select.root_devices, |root| of_pf(root.selector()))
            && allows(&select.numa_nodes, |node| sf.numa_node == Some(*node))
            && allows(&select.isolation, |wanted| *wanted == class)
            && allows(&select.virtio_types, |kind| self.can_be(&sf.name, *kind))
            && allows(&select.vdpa_drivers, |driver| self.has_vdpa_on(&Parent::Sf(sf.address()), *driver))
            && allows(&select.vendors, |id| ids().is_some_and(|ids| id.0 == ids.vendor))
            && allows(&select.devices, |id| ids().is_some_and(|ids| id.0 == ids.device))
            && allows(&select.link_types, |wanted| self.asked.link_type(&sf.folder, pf) == Some(*wanted))
    }

    /// Whether the vDPA device on a parent is bound to that driver.
    fn has_vdpa_on(&self, parent: &Parent, driver: VdpaDriver) -> bool {
        self.vdpa_on(parent).iter().any(|on| on.on_bus.driver.as_deref() == Some(driver.name()))
    }

    /// Whether devices of that type can be made on a parent.
    fn can_be(&self, parent: &str, kind: VirtioType) -> bool {
        let of = self.management.iter().find(|device| device.handle.name() == parent);
        of.is_some_and(|device| device.serves(u32::from(kind.0)))
    }
}

/// Named, or not at all: what no hardware confines is in a pool because somebody wanted just that.
fn selects_other(access: Access, select: &Select, name: &ParentName, other: &Other) -> bool {
    let Select { parents, isolation, virtio_types, .. } = select;
    let bare = Select {
        parents: parents.clone(),
        isolation: isolation.clone(),
        virtio_types: virtio_types.clone(),
        ..Select::default()
    };
    let fits = match other {
        Other::Simulator(device) => {
            access.is_vdpa() && allows(virtio_types, |kind| device.serves(u32::from(kind.0)))
        }
        Other::Mdev { .. } => access == Access::Mdev && virtio_types.is_empty(),
    };
    parents.contains(name)
        && *select == bare
        && fits
        && allows(isolation, |class| match access {
            Access::VirtioVdpa => *class == Class::KernelMediated,
            _ => *class == Class::Software,
        })
}

/// Whether a selector lets a parent through: it is not given, or one of its values matches.
fn allows<T>(values: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(matches)
}
