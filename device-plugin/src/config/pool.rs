//! A pool: one extended resource, what stands behind it and how it is handed out.

use doorbell_common::subdevice::Access;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::node::{NodeMode, NodeOwner};
use super::runtime::RuntimeName;
use super::schema::form;
use super::{Cdi, Iommufd, Kata, NodePermissions, PoolName, Prepare, Runtime, Select, VirtioType};

/// Virtio device type of a network device (virtio 1.3, section 5).
const NET: u16 = 1;

/// One extended resource and the sub-devices behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Last part of the resource name.
    pub name: PoolName,
    /// How a pod drives the sub-device.
    pub access: Access,
    /// Container runtime of the pods that take from this pool; `runc` by default.
    pub runtime: Runtime,
    /// Which sub-devices.
    pub select: Select,
    /// What is made and bound for the pool; absent: sub-devices are taken as they are found.
    pub prepare: Option<Prepare>,
    /// Whether consumers open the device's own node instead of its group's; off by default.
    pub iommufd: Iommufd,
    /// Whether a container is started only with a device that the CNI has wired; off by default, and always on where
    /// the pod gets nothing but what the CNI moves into it.
    pub require_cni: bool,
    /// Which devices the kubelet is advised to take; packed by default.
    pub allocation: AllocationPolicy,
    /// Who may open the device nodes in the container; by default whoever the runtime lets.
    pub node: NodePermissions,
    /// What a PF without a link means for its devices; nothing by default.
    pub pf_link_down: PfLinkDown,
}

/// One extended resource and the sub-devices behind it.
// As it is written: fields that others contradict keep their lines.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PoolFields {
    #[schemars(with = "PoolName")]
    name: Spanned<PoolName>,
    #[schemars(with = "form::Access")]
    access: Spanned<Access>,
    #[serde(default)]
    runtime: RuntimeName,
    #[serde(default)]
    #[schemars(with = "Kata")]
    kata: Option<Spanned<Kata>>,
    #[schemars(with = "Select")]
    select: Spanned<Select>,
    #[serde(default)]
    #[schemars(with = "Prepare")]
    prepare: Option<Spanned<Prepare>>,
    #[serde(default)]
    iommufd: Iommufd,
    #[serde(default)]
    #[schemars(with = "bool")]
    require_cni: Option<Spanned<bool>>,
    #[serde(default)]
    allocation: AllocationPolicy,
    #[serde(default)]
    #[schemars(with = "NodeMode")]
    node_mode: Option<Spanned<NodeMode>>,
    #[serde(default)]
    #[schemars(with = "NodeOwner")]
    node_owner: Option<Spanned<NodeOwner>>,
    #[serde(default)]
    pf_link_down: PfLinkDown,
}

/// Which of a pool's free devices a container is best given, once its NUMA node is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AllocationPolicy {
    /// From the fewest PFs, so that the others stay whole for larger requests.
    #[default]
    Pack,
    /// From as many PFs as there are, for their bandwidth.
    Spread,
}

/// What a PF whose link is down means for the devices of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PfLinkDown {
    /// Nothing: the wire is the network's affair, and VFs of one PF reach each other without it.
    #[default]
    Ignore,
    /// They are not to be used.
    Unhealthy,
}

/// What makes no sense beside the rest of the file.
pub(super) struct Contradiction {
    pub(super) line: u64,
    /// Path of the field, within the pool.
    pub(super) field: &'static str,
    pub(super) message: String,
}

impl PoolFields {
    /// The pool, behind those that stand before it and beside the file's `cdi`.
    pub(super) fn checked(self, before: &[Pool], cdi: Cdi) -> Result<Pool, Contradiction> {
        self.against(before, cdi)?;
        let Self { node_mode, node_owner, .. } = &self;
        let owner = node_owner.as_ref().map(|owner| owner.value);
        let node = NodePermissions {
            mode: node_mode.as_ref().map(|mode| mode.value.0),
            uid: owner.and_then(|owner| owner.uid),
            gid: owner.and_then(|owner| owner.gid),
        };
        let runtime = self.runtime();
        let Self { name, access, select, prepare, iommufd, require_cni, allocation, pf_link_down, .. } = self;
        let (name, access, select) = (name.value, access.value, select.value);
        let prepare = prepare.map(|prepare| prepare.value);
        let require_cni = require_cni.map_or(access.is_netdev(), |require_cni| require_cni.value);
        Ok(Pool {
            name,
            access,
            runtime,
            select,
            prepare,
            iommufd,
            require_cni,
            allocation,
            node,
            pf_link_down,
        })
    }

    fn runtime(&self) -> Runtime {
        match self.runtime {
            RuntimeName::Runc => Runtime::Runc,
            RuntimeName::Kata => {
                Runtime::Kata(self.kata.as_ref().map(|kata| kata.value.clone()).unwrap_or_default())
            }
        }
    }

    fn against(&self, before: &[Pool], cdi: Cdi) -> Result<(), Contradiction> {
        let Self { name, select, .. } = self;
        let access = self.access.value;
        if before.iter().any(|other| other.name == name.value) {
            let message = format!("pool `{}` is there already", name.value);
            return Err(Contradiction { line: name.referenced.line(), field: "name", message });
        }
        // Every VF of the node would be in the pool, and `prepare` would take them all off their drivers.
        if select.value == Select::default() {
            return Err(contradiction(select, "select", "no selector is given"));
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
        let types = &select.value.virtio_types;
        if access.is_netdev() && !types.is_empty() && !types.contains(&VirtioType(NET)) {
            let message = "only a network device (net) has a network interface";
            return Err(contradiction(select, "select.virtioTypes", message));
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

    /// Each mode has its parents.
    fn select_against_access(&self) -> Result<(), Contradiction> {
        let Self { select, .. } = self;
        let access = self.access.value;
        let Select { aux_types, parents, .. } = &select.value;
        if access == Access::Mdev && parents.is_empty() {
            return Err(contradiction(
                select,
                "select",
                "mdevs stand on the parents that select.parents names",
            ));
        }
        if !aux_types.is_empty() && matches!(access, Access::Vfio | Access::Mdev) {
            let message = format!("a sub-function is no {access} device");
            return Err(contradiction(select, "select.auxTypes", &message));
        }
        if !parents.is_empty() && aux_types.is_empty() && matches!(access, Access::Vfio | Access::Netdev) {
            let message = format!("simulators and mdev parents have no {access} devices");
            return Err(contradiction(select, "select.parents", &message));
        }
        if !parents.is_empty() && aux_types.is_empty() {
            let bare = Select {
                parents: parents.clone(),
                isolation: select.value.isolation.clone(),
                virtio_types: select.value.virtio_types.clone(),
                ..Select::default()
            };
            if select.value != bare {
                let message = "beside it, only isolation and virtioTypes can select";
                return Err(contradiction(select, "select.parents", message));
            }
        }
        Ok(())
    }

    fn prepare_against_the_rest(&self, prepare: &Spanned<Prepare>) -> Result<(), Contradiction> {
        let Self { select, .. } = self;
        let access = self.access.value;
        let asked = &prepare.value;
        if asked.num_vfs.is_some() && select.value.pfs().next().is_none() {
            let message = "neither select.pfNames nor select.rootDevices names a PF to make VFs on";
            return Err(contradiction(prepare, "prepare.numVfs", message));
        }
        let of_vfs =
            [("prepare.numVfs", asked.num_vfs.is_some()), ("prepare.driver", asked.driver.is_some())];
        let takes_vfs = select.value.aux_types.is_empty() && select.value.parents.is_empty();
        if let Some((field, _)) = of_vfs.into_iter().find(|(_, given)| *given && !takes_vfs) {
            return Err(contradiction(prepare, field, "it is for VFs, and the pool selects none"));
        }
        let drivers = &select.value.drivers;
        if let Some(driver) = asked.driver_for(access)
            && takes_vfs
            && !drivers.is_empty()
            && !drivers.iter().any(|name| *name == *driver)
        {
            let message = "once bound to prepare.driver, no VF would be selected any more";
            return Err(contradiction(select, "select.drivers", message));
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
        if asked.per_parent.is_some()
            && (select.value.parents.is_empty() || !select.value.aux_types.is_empty())
        {
            let message = "a VF or sub-function takes one";
            return Err(contradiction(prepare, "prepare.perParent", message));
        }
        Ok(())
    }
}

fn contradiction<T>(at: &Spanned<T>, field: &'static str, message: &str) -> Contradiction {
    Contradiction { line: at.referenced.line(), field, message: message.to_owned() }
}
