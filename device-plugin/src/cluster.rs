//! What the API server is told, where that is asked for: events of devices in use ([`events`]), and labels of the node
//! ([`labels`]); and the one thing that it is asked ([`uninstalled`]).
//!
//! Best effort. Nothing that hands devices out knows of this room: it reads the inventory like everybody else, and while
//! the API server is away, slow or unwilling, only what it would be told is late ([`server`]).

mod access;
mod connection;
mod events;
mod health;
mod holders;
mod kubeconfig;
mod labels;
mod note;
mod objects;
mod server;
mod uninstalled;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result};
use doorbell_common::host::Host;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::inventory::Inventory;

use server::Server;

pub use uninstalled::is_uninstalled;

/// Who says it: the source of events, and the owner of labels (the field manager of server-side apply).
const NAME: &str = "doorbell";

/// What the API server is told.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// This node's name there.
    pub node: NodeName,
    /// How it is reached.
    pub reach: Reach,
    /// Whether it is told when a device in use goes unhealthy, and when it is healthy again.
    pub events: bool,
    /// Whether the node gets labels.
    pub labels: bool,
}

/// Name of a node: a DNS subdomain (RFC 1123), as Kubernetes has names of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName(String);

/// Why a string is no node's name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no node name: expected a DNS name in lower case, as `kubectl get nodes` shows it")]
pub struct BadNodeName(String);

/// What names an object of a namespace: `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    namespace: String,
    name: String,
}

/// Why a string names no object.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` names no object: expected `namespace/name`")]
pub struct BadObjectName(String);

impl FromStr for ObjectName {
    type Err = BadObjectName;

    fn from_str(text: &str) -> Result<Self, BadObjectName> {
        let is_name = |name: &str| name.parse::<NodeName>().is_ok();
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(BadObjectName(text.to_owned())),
        }
    }
}

/// How the API server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// By what a pod is given.
    ServiceAccount(ServiceAccount),
    /// By kubeconfig files, of which earlier ones win.
    Kubeconfig(Vec<PathBuf>),
}

/// What a pod is given to reach the API server: the environment has its address, a mount the token and the CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// [`ServiceAccount::HOST`] of the environment, if it is set.
    pub host: Option<String>,
    /// [`ServiceAccount::PORT`] likewise.
    pub port: Option<String>,
    /// Where the mount is: `ca.crt` and `token`.
    pub folder: PathBuf,
}

impl ServiceAccount {
    /// The variable that has the API server's host.
    pub const HOST: &str = "KUBERNETES_SERVICE_HOST";
    /// The one that has its port.
    pub const PORT: &str = "KUBERNETES_SERVICE_PORT";
    /// Where a pod has the mount.
    pub const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
}

impl NodeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = BadNodeName;

    fn from_str(text: &str) -> Result<Self, BadNodeName> {
        let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let is_label = |label: &str| is_end(label.as_bytes().first()) && is_end(label.as_bytes().last());
        let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        let good = text.len() <= 253 && text.bytes().all(is_known) && text.split('.').all(is_label);
        if good { Ok(Self(text.to_owned())) } else { Err(BadNodeName(text.to_owned())) }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Tells the API server what it is to be told, until `closing`.
pub async fn keep(
    host: Host,
    cluster: Cluster,
    inventory: watch::Receiver<Arc<Inventory>>,
    closing: CancellationToken,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    // A client each, and an end of its own: what is in the way of one is not in the other's, nor in the plugin's.
    let server = |what| Server::new(cluster.reach.clone(), what);
    if cluster.events {
        let (server, closing) = (server("events"), closing.child_token());
        tasks.spawn(events::keep(host, cluster.node.clone(), server, inventory.clone(), closing));
    }
    if cluster.labels {
        tasks.spawn(labels::keep(cluster.node.clone(), server("labels"), inventory, closing.child_token()));
    }
    // What fails here is no reason to hand out no devices.
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended.context("a task panicked").and_then(|ended| ended) {
            warn!(
                error = format!("{error:#}"),
                "the API server is not told of all that is asked for any more"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_name_is_a_dns_name() {
        for good in ["a", "node-1", "ip-10-0-0-1.ec2.internal"] {
            assert_eq!(good.parse::<NodeName>().unwrap().to_string(), good);
        }
        for bad in ["", "A", "a..b", "-a", "a.", "a/b", &"a".repeat(254)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }
}
