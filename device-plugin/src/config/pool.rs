//! A pool: one extended resource, what stands behind it and how it is handed out.

mod against;

use doorbell_common::subdevice::Access;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::node::{NodeMode, NodeOwner};
use super::runtime::RuntimeName;
use super::schema::form;
use super::selection::SelectionFields;
use super::{
    AdditionalInfo, Cdi, Iommufd, Kata, NodePermissions, PoolName, Prepare, ResourceName, ResourcePrefix,
    Runtime, Selection,
};

/// One extended resource and the sub-devices behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name, and the last part of the resource name.
    pub name: PoolName,
    /// Another resource name, whole, such as one that pods ask for already.
    pub resource: Option<ResourceName>,
    /// How a pod drives the sub-device.
    pub access: Access,
    /// Container runtime of the pods that take from this pool; `runc` by default.
    pub runtime: Runtime,
    /// Which sub-devices.
    pub select: Selection,
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
    /// Whether the kubelet is not told of NUMA nodes; it is by default.
    pub exclude_topology: bool,
    /// Whether a pod gets `/dev/vhost-net` and `/dev/net/tun` beside its devices; it does not by default.
    pub vhost_net: bool,
    /// What pods are told besides; nothing by default.
    pub additional_info: AdditionalInfo,
}

/// One extended resource and the sub-devices behind it.
// As it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PoolFields {
    name: PoolName,
    #[serde(default)]
    #[schemars(with = "ResourceName")]
    resource: Option<ResourceName>,
    #[schemars(with = "form::Access")]
    access: Access,
    /// Container runtime of the pool's pods.
    #[serde(default)]
    runtime: RuntimeName,
    #[serde(default)]
    #[schemars(with = "Kata")]
    kata: Option<Kata>,
    #[schemars(with = "Selection")]
    select: SelectionFields,
    #[serde(default)]
    #[schemars(with = "Prepare")]
    prepare: Option<Prepare>,
    #[serde(default)]
    iommufd: Iommufd,
    /// Whether a container is started only with devices that the CNI plugin has wired; always so where the pod gets nothing
    /// but a network interface.
    #[serde(default)]
    #[schemars(with = "bool")]
    require_cni: Option<bool>,
    #[serde(default)]
    allocation: AllocationPolicy,
    #[serde(default)]
    #[schemars(with = "NodeMode")]
    node_mode: Option<NodeMode>,
    /// Who owns the device nodes in the container.
    #[serde(default)]
    #[schemars(with = "NodeOwner")]
    node_owner: Option<NodeOwner>,
    #[serde(default)]
    pf_link_down: PfLinkDown,
    /// Whether the kubelet is not told of the devices' NUMA nodes.
    #[serde(default)]
    exclude_topology: bool,
    /// Whether a pod gets `/dev/vhost-net` and `/dev/net/tun` beside its devices.
    #[serde(default)]
    #[schemars(with = "bool")]
    vhost_net: Option<bool>,
    #[serde(default)]
    additional_info: AdditionalInfo,
}

/// Which of a pool's free devices a container is best given, once its NUMA node is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AllocationPolicy {
    /// From the fewest PFs, so that the others stay whole for larger requests.
    #[default]
    Pack,
    /// From as many PFs as there are, for their bandwidth.
    Spread,
}

/// What a PF whose link is down means for the devices of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
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
    /// Path of the field, within the pool.
    pub(super) field: String,
    pub(super) message: String,
}

impl Pool {
    /// Full name of its resource, in a file with that prefix.
    pub(super) fn resource_below(&self, prefix: &ResourcePrefix) -> String {
        full(self.resource.as_ref(), prefix, &self.name)
    }
}

fn full(resource: Option<&ResourceName>, prefix: &ResourcePrefix, name: &PoolName) -> String {
    resource.map_or_else(|| format!("{prefix}/{name}"), ToString::to_string)
}

impl PoolFields {
    /// The pool, behind those that stand before it and beside the file's prefix and `cdi`.
    pub(super) fn checked(
        self,
        prefix: &ResourcePrefix,
        before: &[Pool],
        cdi: Cdi,
    ) -> Result<Pool, Contradiction> {
        self.resource_against(prefix, before)?;
        self.against(before, cdi)?;
        let Self { node_mode, node_owner, .. } = &self;
        let node = NodePermissions {
            mode: node_mode.as_ref().map(|mode| mode.0),
            uid: node_owner.as_ref().and_then(|owner| owner.uid),
            gid: node_owner.as_ref().and_then(|owner| owner.gid),
        };
        let runtime = self.runtime();
        let Self { name, resource, access, select, prepare, iommufd, require_cni, allocation, .. } = self;
        let Self { pf_link_down, exclude_topology, vhost_net, additional_info, .. } = self;
        let select = select.into_selection();
        let require_cni = require_cni.unwrap_or(access.is_netdev());
        Ok(Pool {
            name,
            resource,
            access,
            runtime,
            select,
            prepare,
            iommufd,
            require_cni,
            allocation,
            node,
            pf_link_down,
            exclude_topology,
            vhost_net: vhost_net.unwrap_or_default(),
            additional_info,
        })
    }

    fn runtime(&self) -> Runtime {
        match self.runtime {
            RuntimeName::Runc => Runtime::Runc,
            RuntimeName::Kata => Runtime::Kata(self.kata.clone().unwrap_or_default()),
        }
    }
}
