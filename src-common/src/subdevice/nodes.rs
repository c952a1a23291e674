//! The device nodes that a consumer opens, at the same path in host and container.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kernel::vfio::{self, Way};

/// The nodes of a sub-device, by its access mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Nodes {
    /// Through VFIO.
    Vfio(vfio::Nodes),
    /// A vDPA device's own.
    VhostVdpa {
        /// `/dev/vhost-vdpa-<N>`; the number shifts when devices are made in another order.
        #[serde(rename = "vhostVdpa")]
        vhost_vdpa: String,
    },
    /// None: the consumer has a network interface.
    None {},
}

impl Nodes {
    /// All paths, the device's own first.
    #[must_use]
    pub fn paths(&self) -> Vec<&str> {
        match self {
            Self::Vfio(nodes) => nodes.paths().to_vec(),
            Self::VhostVdpa { vhost_vdpa } => vec![vhost_vdpa],
            Self::None {} => Vec::new(),
        }
    }

    /// The node that is this device's alone.
    #[must_use]
    pub fn own(&self) -> Option<&str> {
        self.paths().first().copied()
    }

    /// The way that these nodes go, where they go through VFIO.
    #[must_use]
    pub fn way(&self) -> Way {
        match self {
            Self::Vfio(nodes) => nodes.way(),
            _ => Way::default(),
        }
    }
}

impl From<vfio::Nodes> for Nodes {
    fn from(nodes: vfio::Nodes) -> Self {
        Self::Vfio(nodes)
    }
}

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vfio(nodes) => nodes.fmt(f),
            Self::VhostVdpa { vhost_vdpa } => f.write_str(vhost_vdpa),
            Self::None {} => f.write_str("no node"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_each_mode_read_back_as_what_they_were() {
        for json in [
            r#"{"group":"/dev/vfio/7","container":"/dev/vfio/vfio"}"#,
            r#"{"device":"/dev/vfio/devices/vfio3","iommu":"/dev/iommu"}"#,
            r#"{"vhostVdpa":"/dev/vhost-vdpa-0"}"#,
            "{}",
        ] {
            let nodes: Nodes = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&nodes).unwrap(), json);
        }
        assert!(serde_json::from_str::<Nodes>(r#"{"vhostVdpa":"a","group":"b"}"#).is_err());
    }
}
