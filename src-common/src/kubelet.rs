//! The kubelet's gRPC APIs, generated from `proto/`. Shapes, names and numbers are the kubelet's own.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

mod connection;

pub use connection::{Connection, ConnectionError};

/// Device plugin API v1beta1: Registration (the kubelet serves) and DevicePlugin (a plugin serves).
pub mod deviceplugin {
    tonic::include_proto!("v1beta1");

    /// Where the kubelet serves its part, and looks for the sockets of plugins that registered there.
    pub const FOLDER: &str = "/var/lib/kubelet/device-plugins";
    /// The kubelet's socket in it.
    pub const KUBELET_SOCKET: &str = "kubelet.sock";
    /// The version.
    pub const VERSION: &str = "v1beta1";
}

/// The plugin watcher: Registration (a plugin serves, and the kubelet asks).
pub mod pluginregistration {
    tonic::include_proto!("pluginregistration");

    /// Where the kubelet looks for sockets of plugins.
    pub const FOLDER: &str = "/var/lib/kubelet/plugins_registry";
}

/// PodResources API v1: which pod holds which device (the kubelet serves).
pub mod podresources {
    tonic::include_proto!("v1");

    /// Where the kubelet serves it.
    pub const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";
    /// Bytes of an answer that the kubelet's own clients take (`defaultPodResourcesMaxSize`): List tells of every pod of
    /// the node.
    pub const ANSWER_SIZE: usize = 16 * 1024 * 1024;
}
