//! Where the double lives and how it behaves: the kubelet's folders, sockets and bounds.

use std::{path::PathBuf, time::Duration};

/// `endpointStopGracePeriod` of the kubelet.
const STOP_GRACE: Duration = Duration::from_secs(300);
/// `runtimeRequestTimeout` of the kubelet.
const RUNTIME_LIMIT: Duration = Duration::from_secs(120);

/// Where the double lives and how it behaves.
#[derive(Clone, Debug)]
pub struct KubeletConfig {
    /// The kubelet's folder, /var/lib/kubelet on a node. Socket paths below it must stay within 107 bytes.
    pub root: PathBuf,
    /// Where container logs go, /var/log/pods on a node.
    pub log_root: PathBuf,
    /// The CRI socket. Without one the double is a device manager only, and nothing is run.
    pub runtime: Option<PathBuf>,
    /// How long the devices of a plugin that went away linger as capacity: 5 minutes in the kubelet.
    pub stop_grace: Duration,
    /// The feature gate KubeletPodResourcesGet, on from Kubernetes 1.34; see [`crate::Kubelet::set_get_enabled`].
    pub get_enabled: bool,
    /// The bound on one CRI call: 2 minutes in the kubelet (`runtimeRequestTimeout`).
    pub runtime_limit: Duration,
}

impl KubeletConfig {
    /// The kubelet's own defaults below `root`, without a runtime.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            log_root: PathBuf::from("/var/log/pods"),
            runtime: None,
            stop_grace: STOP_GRACE,
            get_enabled: true,
            runtime_limit: RUNTIME_LIMIT,
        }
    }

    /// The folder of the device plugins' sockets.
    pub fn plugins(&self) -> PathBuf {
        self.root.join("device-plugins")
    }

    /// The socket that plugins register on.
    pub fn registration_socket(&self) -> PathBuf {
        self.plugins().join("kubelet.sock")
    }

    /// The folder in which the plugin watcher looks for sockets.
    pub fn registry(&self) -> PathBuf {
        self.root.join("plugins_registry")
    }

    /// The PodResources socket.
    pub fn pod_resources_socket(&self) -> PathBuf {
        self.root.join("pod-resources/kubelet.sock")
    }

    /// The device manager's checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.plugins().join("kubelet_internal_checkpoint")
    }
}
