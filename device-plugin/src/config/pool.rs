//! A pool: one extended resource, what stands behind it and how it is handed out.

use doorbell_common::formats::descriptor::Access;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::node::{NodeMode, NodeOwner};
use super::{Cdi, DriverName, Iommufd, NodePermissions, PoolName, Select};

/// One extended resource and the sub-devices behind it.
#[derive(Debug, Clone)]
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
    /// Whether a container is started only with a device that the CNI has wired; off by default.
    pub require_cni: bool,
    /// Which devices the kubelet is advised to take; packed by default.
    pub allocation: AllocationPolicy,
    /// Who may open the device nodes in the container; by default whoever the runtime lets.
    pub node: NodePermissions,
}

/// The pool as it is written: fields that others contradict keep their lines.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PoolFields {
    name: Spanned<PoolName>,
    access: Access,
    #[serde(default)]
    runtime: Runtime,
    select: Spanned<Select>,
    prepare: Option<Spanned<Prepare>>,
    #[serde(default)]
    iommufd: Iommufd,
    #[serde(default)]
    require_cni: bool,
    #[serde(default)]
    allocation: AllocationPolicy,
    node_mode: Option<Spanned<NodeMode>>,
    node_owner: Option<Spanned<NodeOwner>>,
}

/// Container runtimes that differ in what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// Any OCI runtime in the host's kernel.
    #[default]
    Runc,
}

/// Which of a pool's free devices a container is best given, once its NUMA node is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllocationPolicy {
    /// From the fewest PFs, so that the others stay whole for larger requests.
    #[default]
    Pack,
    /// From as many PFs as there are, for their bandwidth.
    Spread,
}

/// What is done before sub-devices are advertised.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prepare {
    /// Makes this many VFs on each PF in `select.pfNames` and `select.rootDevices` that has none; more are left as
    /// they are.
    pub num_vfs: Option<u32>,
    /// Binds each selected VF to this driver; `vfio-pci` by default. One on another VFIO driver stays there.
    #[serde(default)]
    pub driver: DriverName,
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
        let Self { name, access, runtime, select, prepare, iommufd, require_cni, allocation, .. } = self;
        let (name, select, prepare) = (name.value, select.value, prepare.map(|prepare| prepare.value));
        Ok(Pool { name, access, runtime, select, prepare, iommufd, require_cni, allocation, node })
    }

    fn against(&self, before: &[Pool], cdi: Cdi) -> Result<(), Contradiction> {
        let Self { name, select, .. } = self;
        let refused =
            |line, field, message: &str| Err(Contradiction { line, field, message: message.to_owned() });
        if before.iter().any(|other| other.name == name.value) {
            let message = format!("pool `{}` is there already", name.value);
            return refused(name.referenced.line(), "name", &message);
        }
        // Every VF of the node would be in the pool, and `prepare` would take them all off their drivers.
        if select.value == Select::default() {
            return refused(select.referenced.line(), "select", "no selector is given");
        }
        if let Some(Spanned { value: prepare, referenced, .. }) = &self.prepare {
            if prepare.num_vfs.is_some() && select.value.pfs().next().is_none() {
                let message = "neither select.pfNames nor select.rootDevices names a PF to make VFs on";
                return refused(referenced.line(), "prepare.numVfs", message);
            }
            let drivers = &select.value.drivers;
            if !drivers.is_empty() && !drivers.contains(&prepare.driver) {
                let message = "once bound to prepare.driver, no VF would be selected any more";
                return refused(select.referenced.line(), "select.drivers", message);
            }
        }
        if cdi == Cdi::Off {
            let message = "only CDI carries it to the container, and `cdi` is false";
            if let Some(mode) = &self.node_mode {
                return refused(mode.referenced.line(), "nodeMode", message);
            }
            if let Some(owner) = &self.node_owner {
                return refused(owner.referenced.line(), "nodeOwner", message);
            }
        }
        Ok(())
    }
}
