//! The hook before a container is made: PreStartContainer, for every resource of the container whose plugin
//! requires it. The kubelet calls it while it puts the container's configuration together, so after the sandbox
//! stands and before CreateContainer, at every start, restarts and re-admitted pods included.

use crate::{
    admission::holder,
    allocations::{Allocation, RunOptions},
    devices::Endpoint,
    kubelet::Kubelet,
    plugin::describe,
    pod::PodUid,
};

/// Why a container may not be made. The texts are the kubelet's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PreStartError {
    /// There is no such pod or container.
    #[error("there is no container {container} in a pod {uid}")]
    Unknown {
        /// The pod.
        uid: PodUid,
        /// The container.
        container: String,
    },
    /// The resource has no plugin, not even a stopped one.
    #[error("endpoint not found in cache for a registered resource: {0}")]
    NoEndpoint(String),
    /// The plugin requires the call and its stream has ended.
    #[error("device plugin PreStartContainer rpc failed with err: endpoint {0} has been stopped")]
    Stopped(String),
    /// Nothing was allocated.
    #[error(
        "no devices found allocated in local cache for pod {uid}, container {container}, resource {resource}"
    )]
    NothingHeld {
        /// The pod.
        uid: PodUid,
        /// The container.
        container: String,
        /// The resource.
        resource: String,
    },
    /// The plugin refused, or took more than 30 s.
    #[error("device plugin PreStartContainer rpc failed with err: {message}")]
    Refused {
        /// The plugin's status, as Go's gRPC prints it.
        message: String,
    },
}

impl Kubelet {
    /// Asks the plugins whether the container may start, and answers what they put into it. Part of every
    /// container start; by itself it serves where nothing is run.
    pub async fn pre_start(&self, uid: &PodUid, container: &str) -> Result<RunOptions, PreStartError> {
        let unknown = || PreStartError::Unknown { uid: uid.clone(), container: container.to_owned() };
        let spec = self
            .shared
            .read(|state| state.pods.get(uid).and_then(|pod| pod.spec.find(container).cloned()))
            .ok_or_else(unknown)?;
        for resource in spec.resources.iter().filter(|(_, count)| **count > 0).map(|(resource, _)| resource) {
            let asked = self.shared.read(|state| {
                let endpoint = state.table.get(resource).map(|resource| resource.endpoint);
                let held = state.allocations.get(&holder(uid, &spec, resource)).map(Allocation::device_ids);
                let plugin = state.plugins.get(resource).map(|link| link.plugin.clone());
                (endpoint, held, plugin)
            });
            let (endpoint, held, plugin) = asked;
            let required = match endpoint {
                None | Some(Endpoint::Unknown) => return Err(PreStartError::NoEndpoint(resource.clone())),
                // A resource of the checkpoint has no options until its plugin is back, so nothing is required.
                Some(Endpoint::Restored) => false,
                Some(Endpoint::Connected { options, .. } | Endpoint::Stopped { options, .. }) => {
                    options.pre_start_required
                }
            };
            if !required {
                continue;
            }
            let held = held.ok_or_else(|| PreStartError::NothingHeld {
                uid: uid.clone(),
                container: container.to_owned(),
                resource: resource.clone(),
            })?;
            let plugin = match (endpoint, plugin) {
                (Some(Endpoint::Connected { .. }), Some(plugin)) => plugin,
                _ => return Err(PreStartError::Stopped(resource.clone())),
            };
            plugin
                .pre_start(held.into_iter().collect())
                .await
                .map_err(|status| PreStartError::Refused { message: describe(&status) })?;
        }
        Ok(self.run_options(uid, container))
    }
}
