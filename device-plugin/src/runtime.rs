//! The node's container runtime: whether devices are handed to it by CDI names.
//!
//! Only where it is seen to take them: a runtime without CDI ignores the names, and starts the container without its
//! device. Device nodes in Allocate's answer serve everywhere, so that is what every doubt ends in.

mod containerd;

use doorbell_common::error::chain;
use doorbell_common::host::Host;

use crate::config::{Cdi, Config};

/// Where containerd's config is, by the documentation of containerd, k3s, RKE2, k0s and MicroK8s.
const CONTAINERD: [&str; 5] = [
    "/etc/containerd/config.toml",
    "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
    "/etc/k0s/containerd.toml",
    "/var/snap/microk8s/current/args/containerd.toml",
];

/// What shows CRI-O: its config folder and its socket.
const CRIO: [&str; 2] = ["/etc/crio", "/run/crio/crio.sock"];

/// Whether devices are handed out by CDI names, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdiChoice {
    /// By CDI names; otherwise Allocate's answer holds nodes, mounts and variables itself.
    pub on: bool,
    /// What decided it, for the log.
    pub reason: String,
}

/// What the config says, or where it leaves that to the node, what is seen of its runtime. A runtime's config may hold
/// the credentials of registries: no capture gets to see it.
#[must_use]
pub fn cdi(host: &Host, config: &Config) -> CdiChoice {
    match config.cdi {
        Cdi::On => CdiChoice::on("`cdi` is true"),
        Cdi::Off => CdiChoice::off("`cdi` is false"),
        Cdi::Auto => seen(&host.unrecorded(), config.containerd_config.as_deref()),
    }
}

fn seen(host: &Host, containerd_config: Option<&str>) -> CdiChoice {
    let mut without_cri = Vec::new();
    let found = CONTAINERD.into_iter().filter(|path| containerd_config.is_none() && host.exists(path));
    for path in containerd_config.into_iter().chain(found) {
        match containerd::cdi(host, path) {
            Ok(Some(choice)) => return choice,
            // Docker's containerd, for one: another serves the kubelet.
            Ok(None) => without_cri.push(path),
            Err(error) => return CdiChoice::off(chain(&error)),
        }
    }
    if let Some(path) = CRIO.into_iter().find(|path| host.exists(path)) {
        return CdiChoice::on(format!("{path} shows CRI-O, which always takes CDI names"));
    }
    match without_cri.as_slice() {
        [] => CdiChoice::off("no config of containerd and no CRI-O is seen"),
        paths => CdiChoice::off(format!("the CRI plugin is disabled in {}", paths.join(", "))),
    }
}

impl CdiChoice {
    fn on(reason: impl Into<String>) -> Self {
        Self { on: true, reason: reason.into() }
    }

    fn off(reason: impl Into<String>) -> Self {
        Self { on: false, reason: reason.into() }
    }
}

#[cfg(test)]
mod tests;
