//! Which container runtime a pool's pods run in, and what follows for what they are handed.
//!
//! Allocate is not told who asks, so a pool is for one runtime.

use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;

use doorbell_common::formats::descriptor::Vm;
use doorbell_common::formats::kata_dan::{FOLDER, KataRuntime};
use doorbell_common::subdevice::{Access, Eligible};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};

use super::schema::form;

/// Container runtimes that differ in what they take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runtime {
    /// Any OCI runtime in the host's kernel.
    Runc,
    /// Kata Containers: the device goes into the pod's VM.
    Kata(Kata),
}

/// Which Kata the node has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kata {
    /// Which of its two runtimes; runtime-rs by default.
    #[serde(default)]
    #[schemars(with = "form::KataRuntime")]
    pub runtime: KataRuntime,
    /// Its `dan_conf`, where it takes VFs by DAN files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dan_conf: Option<Folder>,
}

/// A folder of the host, by its absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(String);

/// Why a text is none.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no absolute path of a folder, such as {FOLDER}")]
pub struct NoFolder(String);

/// As a pool names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RuntimeName {
    #[default]
    Runc,
    Kata,
}

impl FromStr for Folder {
    type Err = NoFolder;

    fn from_str(text: &str) -> Result<Self, NoFolder> {
        let mut parts = Path::new(text).components();
        let is_whole = parts.next() == Some(Component::RootDir);
        let below: Vec<_> = parts.collect();
        let is_plain = below.iter().all(|part| matches!(part, Component::Normal(_)));
        if is_whole && is_plain && !below.is_empty() {
            Ok(Self(text.trim_end_matches('/').to_owned()))
        } else {
            Err(NoFolder(text.to_owned()))
        }
    }
}

impl<'de> Deserialize<'de> for Folder {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Runtime {
    /// Whether the device goes into a VM of Kata's.
    #[must_use]
    pub fn is_kata(&self) -> bool {
        matches!(self, Self::Kata(_))
    }

    /// The VM that devices go into, where they do.
    #[must_use]
    pub fn vm(&self) -> Option<Vm> {
        let Self::Kata(Kata { runtime, dan_conf }) = self else { return None };
        let dan_conf = dan_conf.as_ref().map(ToString::to_string);
        Some(Vm { kata: *runtime, dan_conf })
    }

    /// The nodes of a device that its container is handed. Kata takes every node that it is given for a device to plug
    /// into the VM, and fails the sandbox at `/dev/vfio/vfio` and `/dev/iommu`: its VMM opens those by itself.
    #[must_use]
    pub fn nodes<'a>(&self, device: &'a Eligible) -> Vec<&'a str> {
        match self {
            Self::Runc => device.nodes.paths(),
            Self::Kata(_) => device.nodes.own().into_iter().collect(),
        }
    }

    /// Why pods of this runtime can't have devices by that access mode, and what they can have instead.
    pub(super) fn refuses(&self, access: Access) -> Option<&'static str> {
        let Self::Kata(Kata { runtime, .. }) = self else { return None };
        match (access, runtime) {
            (Access::Vfio, _) | (Access::Mdev, KataRuntime::Go) => None,
            (Access::Mdev, KataRuntime::Rs) => Some(
                "Kata's runtime-rs plugs no mdev into a VM; `kata: {runtime: go}` can, where the nodes have it",
            ),
            (Access::VhostVdpa, _) => Some(
                "Kata plugs no vhost-vdpa device into a VM: it would make a node of the host's number in the guest, \
                 where that is another device; use `access: vfio`",
            ),
            (Access::VirtioVdpa, _) => Some(
                "Kata would forward the packets of the interface in the host, and the VM would have no doorbell; use \
                 `access: vfio`",
            ),
            (Access::Netdev, _) => Some(
                "Kata would take the VF off its driver itself, unseen by what verifies it; use `access: vfio`",
            ),
        }
    }
}
