//! Pod sandboxes: the namespaces of a pod, and with them its network. One attempt is one sandbox; a scenario may have
//! two of one pod at once, and end them in the order it wants.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    cri::{Condition, Cri, CriError, api},
    kubelet::Kubelet,
    lifecycle::PodError,
    pod::{PodSpec, PodUid},
};

/// The labels by which the kubelet finds its pods again, and tools find them.
pub(crate) const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";

/// How often the runtime's own condition is asked for: nothing announces it.
const CONDITION_INTERVAL: Duration = Duration::from_millis(100);

/// A sandbox as the runtime reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The runtime's id, which is CNI_CONTAINERID too.
    pub id: String,
    /// Which try it is, from 0.
    pub attempt: u32,
    /// It stands; else it was stopped or broke.
    pub ready: bool,
    /// Its addresses, the first one the pod's; none on the host's network.
    pub ips: Vec<String>,
    /// Its network namespace; `None` on the host's network and once it is closed.
    pub netns: Option<PathBuf>,
}

impl Kubelet {
    /// Makes a sandbox for an admitted pod, its network included; the pod's containers are made in it from now on.
    /// An older sandbox of the pod stays as it is.
    pub async fn run_sandbox(&self, uid: &PodUid, attempt: u32) -> Result<Sandbox, PodError> {
        let runtime = self.runtime()?;
        let spec = self.admitted(uid)?;
        let config = self.sandbox_config(&spec, attempt);
        std::fs::create_dir_all(&config.log_directory)
            .map_err(|source| PodError::Logs { path: PathBuf::from(&config.log_directory), source })?;
        let request =
            api::RunPodSandboxRequest { config: Some(config), runtime_handler: spec.runtime_handler.clone() };
        self.shared.update(|state| {
            if let Some(pod) = state.pods.get_mut(uid) {
                // Counted before it is tried: the name of a sandbox that failed may be taken.
                pod.next_attempt = pod.next_attempt.max(attempt + 1);
            }
        });
        let id = runtime.run_pod_sandbox(request).await?.pod_sandbox_id;
        self.shared.update(|state| {
            if let Some(pod) = state.pods.get_mut(uid) {
                pod.sandbox = Some(id.clone());
            }
        });
        self.sandbox_status(&id).await
    }

    /// The sandbox as it stands.
    pub async fn sandbox_status(&self, id: &str) -> Result<Sandbox, PodError> {
        let request = api::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        let response = self.runtime()?.pod_sandbox_status(request).await?;
        let incomplete = CriError::Incomplete { call: "PodSandboxStatus", lacking: "status" };
        let status = response.status.ok_or(incomplete)?;
        let network = status.network.unwrap_or_default();
        let ips = [network.ip].into_iter().chain(network.additional_ips.into_iter().map(|ip| ip.ip));
        Ok(Sandbox {
            id: status.id,
            attempt: status.metadata.map_or(0, |metadata| metadata.attempt),
            ready: status.state == api::PodSandboxState::SandboxReady as i32,
            ips: ips.filter(|ip| !ip.is_empty()).collect(),
            netns: response.info.get("info").and_then(|info| network_namespace(info)),
        })
    }

    /// Every sandbox of the pod that the runtime knows, the oldest first.
    pub async fn sandboxes(&self, uid: &PodUid) -> Result<Vec<Sandbox>, PodError> {
        let mut sandboxes = Vec::new();
        for id in self.sandbox_ids(uid).await? {
            sandboxes.push(self.sandbox_status(&id).await?);
        }
        sandboxes.sort_by_key(|sandbox| sandbox.attempt);
        Ok(sandboxes)
    }

    pub(crate) async fn sandbox_ids(&self, uid: &PodUid) -> Result<Vec<String>, PodError> {
        let sandboxes = self.runtime()?.sandboxes_of(uid).await?;
        Ok(sandboxes.into_iter().map(|sandbox| sandbox.id).collect())
    }

    /// Stops a sandbox and whatever runs in it: the runtime calls the CNI chain's DEL. Idempotent.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), PodError> {
        let request = api::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime()?.stop_pod_sandbox(request).await?;
        Ok(())
    }

    /// Removes a sandbox and its containers, stopping them first where they run. Idempotent.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), PodError> {
        let request = api::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime()?.remove_pod_sandbox(request).await?;
        Ok(())
    }

    /// Waits until the runtime reports that its network is ready, which is when it has loaded a CNI config.
    pub async fn wait_network_ready(&self, limit: Duration) -> Result<(), PodError> {
        let runtime = self.runtime()?;
        let end = Instant::now() + limit;
        let ready = async {
            loop {
                let conditions = runtime.conditions().await?;
                if conditions.iter().any(|condition| condition.name == "NetworkReady" && condition.holds) {
                    return Ok(());
                }
                if Instant::now() + CONDITION_INTERVAL >= end {
                    return Err(PodError::NetworkNotReady { limit, conditions });
                }
                sleep(CONDITION_INTERVAL).await;
            }
        };
        let late = |_| PodError::NetworkNotReady { limit, conditions: Vec::<Condition>::new() };
        timeout_at(end, ready).await.map_err(late)?
    }

    /// The runtime, or an error where the double has none.
    pub(crate) fn runtime(&self) -> Result<&Cri, PodError> {
        self.runtime.as_ref().ok_or(PodError::NoRuntime)
    }

    pub(crate) fn sandbox_config(&self, spec: &PodSpec, attempt: u32) -> api::PodSandboxConfig {
        let folder = format!("{}_{}_{}", spec.namespace, spec.name, spec.uid);
        let security_context = api::LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces(spec)),
            // The runtime refuses a privileged container in a sandbox that is not.
            privileged: spec
                .init_containers
                .iter()
                .chain(&spec.containers)
                .any(|container| container.privileged),
        };
        api::PodSandboxConfig {
            metadata: Some(api::PodSandboxMetadata {
                name: spec.name.clone(),
                uid: spec.uid.to_string(),
                namespace: spec.namespace.clone(),
                attempt,
            }),
            // The kubelet leaves it empty on the host's network.
            hostname: if spec.host_network { String::new() } else { spec.name.clone() },
            log_directory: self.config().log_root.join(folder).display().to_string(),
            labels: pod_labels(spec).into_iter().collect(),
            annotations: HashMap::default(),
            linux: Some(api::LinuxPodSandboxConfig { security_context: Some(security_context) }),
        }
    }
}

/// The kubelet's namespaces for a pod: of its own unless it shares the host's, a pid namespace for each container.
pub(crate) fn namespaces(spec: &PodSpec) -> api::NamespaceOption {
    let mode = |is_host, own| if is_host { api::NamespaceMode::Node } else { own };
    api::NamespaceOption {
        network: mode(spec.host_network, api::NamespaceMode::Pod) as i32,
        pid: mode(spec.host_pid, api::NamespaceMode::Container) as i32,
        ipc: api::NamespaceMode::Pod as i32,
    }
}

pub(crate) fn pod_labels(spec: &PodSpec) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LABEL_POD_NAME.to_owned(), spec.name.clone()),
        (LABEL_POD_NAMESPACE.to_owned(), spec.namespace.clone()),
        (LABEL_POD_UID.to_owned(), spec.uid.to_string()),
    ])
}

/// The path of the network namespace in containerd's verbose status. It is in the sandbox's OCI spec, and nowhere
/// once that is gone.
fn network_namespace(info: &str) -> Option<PathBuf> {
    let info: serde_json::Value = serde_json::from_str(info).ok()?;
    let namespaces = info.pointer("/runtimeSpec/linux/namespaces")?.as_array()?;
    let network = namespaces.iter().find(|namespace| namespace["type"] == "network")?;
    network["path"].as_str().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_namespace_is_found_in_the_verbose_status() {
        let info = r#"{"pid":7,"runtimeSpec":{"linux":{"namespaces":[{"type":"pid"},
            {"type":"network","path":"/var/run/netns/cni-1"}]}}}"#;
        assert_eq!(network_namespace(info), Some(PathBuf::from("/var/run/netns/cni-1")));
        assert_eq!(network_namespace("{}"), None);
    }
}
