//! What contradicts itself in a pool, or beside the rest of the file.

use doorbell_common::subdevice::Access;

use super::super::runtime::RuntimeName;
use super::super::{Cdi, Iommufd, Prepare, ResourcePrefix, Select, VirtioType};
use super::{Contradiction, Pool, PoolFields, full};

/// Virtio device type of a network device (virtio 1.3, section 5).
const NET: u16 = 1;

impl PoolFields {
    pub(super) fn against(&self, before: &[Pool], cdi: Cdi) -> Result<(), Contradiction> {
        let Self { name, select, .. } = self;
        let access = self.access;
        if before.iter().any(|other| other.name == *name) {
            let message = format!("pool `{name}` is there already");
            return Err(contradiction("name", &message));
        }
        let sets = select.sets();
        if sets.is_empty() {
            return Err(contradiction("select", "no selector is given"));
        }
        // Every VF of the node would be in the pool, and `prepare` would take them all off their drivers.
        if let Some(set) = sets.iter().find(|(_, set)| **set == Select::default()) {
            return Err(of_set(set, "", "no selector is given"));
        }
        if self.kata.is_some() && self.runtime == RuntimeName::Runc {
            return Err(contradiction("kata", "it is for pools with `runtime: kata`"));
        }
        if let Some(why) = self.runtime().refuses(access) {
            return Err(contradiction("access", why));
        }
        if self.kata.as_ref().is_some_and(|kata| kata.dan_conf.is_some()) {
            if access != Access::Vfio {
                return Err(contradiction(
                    "kata.danConf",
                    "a DAN file names a VF: only `access: vfio` has one",
                ));
            }
            if self.iommufd != Iommufd::Off {
                let message = "Kata plugs what a DAN file names by its group: leave `iommufd` out";
                return Err(contradiction("kata.danConf", message));
            }
        }
        self.select_against_access()?;
        if let Some(prepare) = &self.prepare {
            self.prepare_against_the_rest(prepare)?;
        }
        for set in &sets {
            let types = &set.1.virtio_types;
            if access.is_netdev() && !types.is_empty() && !types.contains(&VirtioType(NET)) {
                let message = "only a network device (net) has a network interface";
                return Err(of_set(set, ".virtioTypes", message));
            }
        }
        if self.runtime == RuntimeName::Kata
            && self.resource.as_ref().is_some_and(|resource| !resource.is_cdi_kind())
        {
            let message = "Kata looks devices up by it, and CDI has no kinds whose name begins with a digit or is a letter";
            return Err(contradiction("resource", message));
        }
        if self.vhost_net == Some(true) && self.runtime == RuntimeName::Kata {
            let message = "Kata takes every node that it is given for a device to plug into the VM";
            return Err(contradiction("vhostNet", message));
        }
        if access.is_netdev() {
            let message = "the pod gets a network interface from the CNI, and no device node";
            if self.require_cni == Some(false) {
                return Err(contradiction("requireCni", message));
            }
            if self.node_mode.is_some() {
                return Err(contradiction("nodeMode", message));
            }
            if self.node_owner.is_some() {
                return Err(contradiction("nodeOwner", message));
            }
        }
        if cdi == Cdi::Off {
            let message = "only CDI carries it to the container, and `cdi` is false";
            if self.node_mode.is_some() {
                return Err(contradiction("nodeMode", message));
            }
            if self.node_owner.is_some() {
                return Err(contradiction("nodeOwner", message));
            }
        }
        Ok(())
    }

    pub(super) fn resource_against(
        &self,
        prefix: &ResourcePrefix,
        before: &[Pool],
    ) -> Result<(), Contradiction> {
        let full = full(self.resource.as_ref(), prefix, &self.name);
        let Some(other) = before.iter().find(|other| other.resource_below(prefix) == full) else {
            return Ok(());
        };
        let message = format!("`{full}` is the resource of pool `{}` already", other.name);
        Err(match &self.resource {
            Some(_) => contradiction("resource", &message),
            None if other.name == self.name => return Ok(()),
            None => contradiction("name", &message),
        })
    }

    /// Each mode has its parents.
    fn select_against_access(&self) -> Result<(), Contradiction> {
        let access = self.access;
        for set in &self.select.sets() {
            let Select { aux_types, parents, vdpa_drivers, .. } = set.1;
            if access == Access::Mdev && parents.is_empty() {
                return Err(of_set(set, "", "mdevs stand on the parents that select.parents names"));
            }
            if !aux_types.is_empty() && matches!(access, Access::Vfio | Access::Mdev) {
                let message = format!("a sub-function is no {access} device");
                return Err(of_set(set, ".auxTypes", &message));
            }
            if !parents.is_empty() && aux_types.is_empty() && matches!(access, Access::Vfio | Access::Netdev)
            {
                let message = format!("simulators and mdev parents have no {access} devices");
                return Err(of_set(set, ".parents", &message));
            }
            if !parents.is_empty() && aux_types.is_empty() {
                let bare = Select {
                    parents: parents.clone(),
                    isolation: set.1.isolation.clone(),
                    virtio_types: set.1.virtio_types.clone(),
                    ..Select::default()
                };
                if *set.1 != bare {
                    let message = "beside it, only isolation and virtioTypes can select";
                    return Err(of_set(set, ".parents", message));
                }
            }
            if !vdpa_drivers.is_empty() && !vdpa_drivers.iter().any(|driver| driver.serves(access)) {
                let message = format!("no {access} device is on one of these");
                return Err(of_set(set, ".vdpaDrivers", &message));
            }
        }
        Ok(())
    }

    fn prepare_against_the_rest(&self, asked: &Prepare) -> Result<(), Contradiction> {
        let access = self.access;
        let sets = self.select.sets();
        if asked.num_vfs.is_some() && sets.iter().any(|(_, set)| set.pfs().next().is_none()) {
            let message = "neither select.pfNames nor select.rootDevices names a PF to make VFs on";
            return Err(contradiction("prepare.numVfs", message));
        }
        let of_vfs =
            [("prepare.numVfs", asked.num_vfs.is_some()), ("prepare.driver", asked.driver.is_some())];
        let takes_vfs = |set: &Select| set.aux_types.is_empty() && set.parents.is_empty();
        let none_takes_vfs = !sets.iter().any(|(_, set)| takes_vfs(set));
        if let Some((field, _)) = of_vfs.into_iter().find(|(_, given)| *given && none_takes_vfs) {
            return Err(contradiction(field, "it is for VFs, and the pool selects none"));
        }
        let driver = asked.driver_for(access);
        for set in &sets {
            let drivers = &set.1.drivers;
            if let Some(driver) = &driver
                && takes_vfs(set.1)
                && !drivers.is_empty()
                && !drivers.iter().any(|name| *name == **driver)
            {
                let message = "once bound to prepare.driver, no VF would be selected any more";
                return Err(of_set(set, ".drivers", message));
            }
            if !set.1.vdpa_drivers.is_empty() {
                let message = "it selects what has a vDPA device already, and `prepare` is to make them";
                return Err(of_set(set, ".vdpaDrivers", message));
            }
        }
        let of_vdpa = [
            ("prepare.maxVqPairs", asked.max_vq_pairs.is_some()),
            ("prepare.mtu", asked.mtu.is_some()),
            ("prepare.mac", asked.mac.is_some()),
            ("prepare.features", asked.features.is_some()),
        ];
        if let Some((field, _)) = of_vdpa.into_iter().find(|(_, given)| *given && !access.is_vdpa()) {
            return Err(contradiction(field, "no vDPA device is made for this access mode"));
        }
        if asked.mdev_type.is_some() != (access == Access::Mdev) {
            let message = "mdevs are made of the type that it names, and nothing else has one";
            return Err(contradiction("prepare.mdevType", message));
        }
        let takes_several = |set: &Select| !set.parents.is_empty() && set.aux_types.is_empty();
        if asked.per_parent.is_some() && !sets.iter().any(|(_, set)| takes_several(set)) {
            let message = "a VF or sub-function takes one";
            return Err(contradiction("prepare.perParent", message));
        }
        Ok(())
    }
}

/// What is wrong with a field of one set of selectors, or with all of it.
fn of_set((path, _): &(String, &Select), field: &str, message: &str) -> Contradiction {
    contradiction(&format!("{path}{field}"), message)
}

fn contradiction(field: &str, message: &str) -> Contradiction {
    Contradiction { field: field.to_owned(), message: message.to_owned() }
}
