//! Switches that can be left to the node by `auto`.

use doorbell_common::kernel::vfio::Way;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether devices are handed out by CDI names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub enum Cdi {
    /// Where the node's runtime is seen to take them ([`crate::runtime`]).
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// Always.
    #[serde(rename = "true")]
    On,
    /// Never: device nodes, mounts and variables stand in Allocate's answer itself.
    #[serde(rename = "false")]
    Off,
}

/// Whether a pool's devices are handed out by their own node and `/dev/iommu`, in place of their group's.
///
/// Off by default: consumers that open groups are the rule (DPDK, QEMU's `host=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub enum Iommufd {
    /// A device without a node of its own is not advertised.
    #[serde(rename = "true")]
    On,
    /// By the group.
    #[default]
    #[serde(rename = "false")]
    Off,
    /// By the device's own node where the kernel has it and `/dev/iommu`, by the group elsewhere.
    #[serde(rename = "auto")]
    Auto,
}

impl Iommufd {
    /// The way that consumers of the pool go.
    #[must_use]
    pub fn way(self) -> Way {
        match self {
            Self::On => Way::Cdev,
            Self::Off => Way::Group,
            Self::Auto => Way::CdevIfAny,
        }
    }
}

/// How the kubelet comes to know of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Registration {
    /// At the kubelet's socket; by its plugin watcher where it takes no registrations there.
    #[default]
    Auto,
    /// At the kubelet's socket in `device-plugins`, by every kubelet there is.
    Legacy,
    /// By a socket in `plugins_registry`, which the kubelet finds.
    Watcher,
}
