//! What contradicts itself in a pool, or beside the rest of the file.

use doorbell_common::subdevice::Access;
use serde_saphyr::Spanned;

use super::super::runtime::RuntimeName;
use super::super::{Cdi, Iommufd, Prepare, ResourcePrefix, Select, VirtioType};
use super::{Contradiction, Pool, PoolFields, full};

/// Virtio device type of a network device (virtio 1.3, section 5).
const NET: u16 = 1;

impl PoolFields {
    pub(super) fn against(&self, before: &[Pool], cdi: Cdi) -> Result<(), Contradiction> {
        let Self { name, select, .. } = self;
        let access = self.access.value;
        if before.iter().any(|other| other.name == name.value) {
            let message = format!("pool `{}` is there already", name.value);
            return Err(contradiction(name, "name", &message));
        }
        let sets = select.value.sets();
        if sets.is_empty() {
            return Err(contradiction(select, "select", "no selector is given"));
        }
        // Every VF of the node would be in the pool, and `prepare` would take them all off their drivers.
        if let Some(set) = sets.iter().find(|(_, _, set)| **set == Select::default()) {
            return Err(self.of_set(set, "", "no selector is given"));
        }
        if let Some(kata) = self.kata.as_ref().filter(|_| self.runtime == RuntimeName::Runc) {
            return Err(contradiction(kata, "kata", "it is for pools with `runtime: kata`"));
        }
        if let Some(why) = self.runtime().refuses(access) {
            return Err(contradiction(&self.access, "access", why));
        }
        if let Some(kata) = self.kata.as_ref().filter(|kata| kata.value.dan_conf.is_some()) {
            if access != Access::Vfio {
                return Err(contradiction(
                    kata,
                    "kata.danConf",
                    "a DAN file names a VF: only `access: vfio` has one",
                ));
            }
            if self.iommufd != Iommufd::Off {
                let message = "Kata plugs what a DAN file names by its group: leave `iommufd` out";
                return Err(contradiction(kata, "kata.danConf", message));
            }
        }
        self.select_against_access()?;
        if let Some(prepare) = &self.prepare {
            self.prepare_against_the_rest(prepare)?;
        }
        for set in &sets {
            let types = &set.2.virtio_types;
            if access.is_netdev() && !types.is_empty() && !types.contains(&VirtioType(NET)) {
                let message = "only a network device (net) has a network interface";
                return Err(self.of_set(set, ".virtioTypes", message));
            }
        }
        if let Some(resource) = self.resource.as_ref().filter(|resource| !resource.value.is_cdi_kind())
            && self.runtime == RuntimeName::Kata
        {
            let message = "Kata looks devices up by it, and CDI has no kinds whose name begins with a digit or is a letter";
            return Err(contradiction(resource, "resource", message));
        }
        if let Some(vhost_net) = self.vhost_net.as_ref().filter(|asked| asked.value)
            && self.runtime == RuntimeName::Kata
        {
            let message = "Kata takes every node that it is given for a device to plug into the VM";
            return Err(contradiction(vhost_net, "vhostNet", message));
        }
        if access.is_netdev() {
            let message = "the pod gets a network interface from the CNI, and no device node";
            if let Some(require_cni) = self.require_cni.as_ref().filter(|require_cni| !require_cni.value) {
                return Err(contradiction(require_cni, "requireCni", message));
            }
            if let Some(mode) = &self.node_mode {
                return Err(contradiction(mode, "nodeMode", message));
            }
            if let Some(owner) = &self.node_owner {
                return Err(contradiction(owner, "nodeOwner", message));
            }
        }
        if cdi == Cdi::Off {
            let message = "only CDI carries it to the container, and `cdi` is false";
            if let Some(mode) = &self.node_mode {
                return Err(contradiction(mode, "nodeMode", message));
            }
            if let Some(owner) = &self.node_owner {
                return Err(contradiction(owner, "nodeOwner", message));
            }
        }
        Ok(())
    }

    pub(super) fn resource_against(
        &self,
        prefix: &ResourcePrefix,
        before: &[Pool],
    ) -> Result<(), Contradiction> {
        let own = self.resource.as_ref().map(|resource| &resource.value);
        let full = full(own, prefix, &self.name.value);
        let Some(other) = before.iter().find(|other| other.resource_below(prefix) == full) else {
            return Ok(());
        };
        let message = format!("`{full}` is the resource of pool `{}` already", other.name);
        Err(match &self.resource {
            Some(resource) => contradiction(resource, "resource", &message),
            None if other.name == self.name.value => return Ok(()),
            None => contradiction(&self.name, "name", &message),
        })
    }

    /// Each mode has its parents.
    fn select_against_access(&self) -> Result<(), Contradiction> {
        let access = self.access.value;
        for set in &self.select.value.sets() {
            let Select { aux_types, parents, vdpa_drivers, .. } = set.2;
            if access == Access::Mdev && parents.is_empty() {
                return Err(self.of_set(set, "", "mdevs stand on the parents that select.parents names"));
            }
            if !aux_types.is_empty() && matches!(access, Access::Vfio | Access::Mdev) {
                let message = format!("a sub-function is no {access} device");
                return Err(self.of_set(set, ".auxTypes", &message));
            }
            if !parents.is_empty() && aux_types.is_empty() && matches!(access, Access::Vfio | Access::Netdev)
            {
                let message = format!("simulators and mdev parents have no {access} devices");
                return Err(self.of_set(set, ".parents", &message));
            }
            if !parents.is_empty() && aux_types.is_empty() {
                let bare = Select {
                    parents: parents.clone(),
                    isolation: set.2.isolation.clone(),
                    virtio_types: set.2.virtio_types.clone(),
                    ..Select::default()
                };
                if *set.2 != bare {
                    let message = "beside it, only isolation and virtioTypes can select";
                    return Err(self.of_set(set, ".parents", message));
                }
            }
            if !vdpa_drivers.is_empty() && !vdpa_drivers.iter().any(|driver| driver.serves(access)) {
                let message = format!("no {access} device is on one of these");
                return Err(self.of_set(set, ".vdpaDrivers", &message));
            }
        }
        Ok(())
    }

    fn prepare_against_the_rest(&self, prepare: &Spanned<Prepare>) -> Result<(), Contradiction> {
        let access = self.access.value;
        let asked = &prepare.value;
        let sets = self.select.value.sets();
        if asked.num_vfs.is_some() && sets.iter().any(|(_, _, set)| set.pfs().next().is_none()) {
            let message = "neither select.pfNames nor select.rootDevices names a PF to make VFs on";
            return Err(contradiction(prepare, "prepare.numVfs", message));
        }
        let of_vfs =
            [("prepare.numVfs", asked.num_vfs.is_some()), ("prepare.driver", asked.driver.is_some())];
        let takes_vfs = |set: &Select| set.aux_types.is_empty() && set.parents.is_empty();
        let none_takes_vfs = !sets.iter().any(|(_, _, set)| takes_vfs(set));
        if let Some((field, _)) = of_vfs.into_iter().find(|(_, given)| *given && none_takes_vfs) {
            return Err(contradiction(prepare, field, "it is for VFs, and the pool selects none"));
        }
        let driver = asked.driver_for(access);
        for set in &sets {
            let drivers = &set.2.drivers;
            if let Some(driver) = &driver
                && takes_vfs(set.2)
                && !drivers.is_empty()
                && !drivers.iter().any(|name| *name == **driver)
            {
                let message = "once bound to prepare.driver, no VF would be selected any more";
                return Err(self.of_set(set, ".drivers", message));
            }
            if !set.2.vdpa_drivers.is_empty() {
                let message = "it selects what has a vDPA device already, and `prepare` is to make them";
                return Err(self.of_set(set, ".vdpaDrivers", message));
            }
        }
        let of_vdpa = [
            ("prepare.maxVqPairs", asked.max_vq_pairs.is_some()),
            ("prepare.mtu", asked.mtu.is_some()),
            ("prepare.mac", asked.mac.is_some()),
            ("prepare.features", asked.features.is_some()),
        ];
        if let Some((field, _)) = of_vdpa.into_iter().find(|(_, given)| *given && !access.is_vdpa()) {
            return Err(contradiction(prepare, field, "no vDPA device is made for this access mode"));
        }
        if asked.mdev_type.is_some() != (access == Access::Mdev) {
            let message = "mdevs are made of the type that it names, and nothing else has one";
            return Err(contradiction(prepare, "prepare.mdevType", message));
        }
        let takes_several = |set: &Select| !set.parents.is_empty() && set.aux_types.is_empty();
        if asked.per_parent.is_some() && !sets.iter().any(|(_, _, set)| takes_several(set)) {
            let message = "a VF or sub-function takes one";
            return Err(contradiction(prepare, "prepare.perParent", message));
        }
        Ok(())
    }

    /// What is wrong with a field of one set of selectors, or with all of it.
    fn of_set(
        &self,
        (path, line, _): &(String, Option<u64>, &Select),
        field: &str,
        message: &str,
    ) -> Contradiction {
        let line = line.unwrap_or_else(|| self.select.referenced.line());
        Contradiction { line, field: format!("{path}{field}"), message: message.to_owned() }
    }
}

fn contradiction<T>(at: &Spanned<T>, field: &str, message: &str) -> Contradiction {
    Contradiction { line: at.referenced.line(), field: field.to_owned(), message: message.to_owned() }
}
