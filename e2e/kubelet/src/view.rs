//! What a scenario can see and wait for: an immutable picture of the node, published anew after each change.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use doorbell_common::kubelet::deviceplugin::DevicePluginOptions;

pub use crate::devices::DeviceView;
use crate::pod::PodUid;

/// The node at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeView {
    /// Every resource that was ever registered, by name.
    pub resources: BTreeMap<String, ResourceView>,
    /// Every pod that was not removed.
    pub pods: BTreeMap<PodUid, PodView>,
}

/// One resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceView {
    /// Its devices by id, as its plugin last listed them; all unhealthy once the plugin is gone.
    pub devices: BTreeMap<String, DeviceView>,
    /// The devices that pods hold, listed still or not.
    pub allocated: BTreeSet<String>,
    /// The plugin's stream is open.
    pub connected: bool,
    /// Its first list since then has come.
    pub listed: bool,
    /// How many times it has registered, over restarts of the kubelet too.
    pub registrations: u64,
    /// What the plugin answered to GetDevicePluginOptions.
    pub options: Option<DevicePluginOptions>,
    /// Where its lists broke a documented rule that the kubelet does not enforce.
    pub violations: Vec<String>,
}

impl ResourceView {
    /// What node status calls capacity: every listed device.
    pub fn capacity(&self) -> usize {
        self.devices.len()
    }

    /// What node status calls allocatable: every healthy device, given out or not.
    pub fn allocatable(&self) -> usize {
        self.devices.values().filter(|device| device.healthy).count()
    }
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// How far it got.
    pub phase: Phase,
}

/// How far a pod got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not scheduled: the node has not what it asks for. Tried again whenever capacity changes.
    Pending {
        /// The scheduler's words.
        reason: String,
    },
    /// Assigned to this node, as the API server tells, and not admitted since the node was started; see
    /// [`crate::Kubelet::readmit`].
    Bound,
    /// It has its devices and may be started.
    Admitted,
    /// Its containers were started.
    Running,
    /// Refused, for good: the kubelet does not try such a pod again.
    Failed {
        /// "UnexpectedAdmissionError".
        reason: String,
        /// The cause.
        message: String,
    },
    /// Stopped: its devices are free.
    Terminated,
}

impl Phase {
    /// Whether the pod counts against the node's resources.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self, Self::Bound) || self.is_admitted()
    }

    /// Whether the pod may be run.
    pub(crate) fn is_admitted(&self) -> bool {
        matches!(self, Self::Admitted | Self::Running)
    }
}

/// What was waited for did not come.
#[derive(Debug, thiserror::Error)]
#[error("waited {limit:?} for {awaited} in vain; the node is {node:#?}")]
pub struct Timeout {
    /// What was waited for.
    pub awaited: String,
    /// For how long.
    pub limit: Duration,
    /// The node at the end.
    pub node: Box<NodeView>,
}
