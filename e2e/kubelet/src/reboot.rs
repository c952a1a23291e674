//! A reboot of the node, as far as the kubelet and the runtime show it: nothing runs any more and no CNI plugin was
//! asked, yet the runtime remembers every sandbox, the checkpoint every device, and the API server every pod.
//!
//! [`Kubelet::reboot`] plays it on a node that stays up. On one that really restarts, a new process starts the double
//! on the old folder and is told of the pods by [`Kubelet::adopt`]. Either way [`Kubelet::readmit`] comes next.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};

use crate::{
    cri::{Cri, CriError, api},
    kubelet::{Kubelet, StartError},
    pod::PodUid,
    sandbox::LABEL_POD_UID,
    state::ContainerRecord,
    view::Phase,
};

/// How long the runtime may take to notice that what it ran is dead.
const NOTICE_LIMIT: Duration = Duration::from_secs(30);
/// How often it is asked.
const NOTICE_INTERVAL: Duration = Duration::from_millis(50);

/// Why a reboot cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum RebootError {
    /// The runtime did not say what runs.
    #[error("cannot tell what runs of pod {uid}")]
    Runtime {
        /// The pod.
        uid: PodUid,
        /// The cause.
        source: CriError,
    },
    /// A process of a pod could not be killed.
    #[error("cannot kill process {pid} of pod {uid}")]
    Kill {
        /// The pod.
        uid: PodUid,
        /// The process.
        pid: i32,
        /// The cause.
        source: Errno,
    },
    /// The runtime calls something running that was killed.
    #[error("the runtime calls pod {uid} running {limit:?} after its processes were killed")]
    Unnoticed {
        /// The pod.
        uid: PodUid,
        /// The bound.
        limit: Duration,
    },
    /// The kubelet did not come back.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Kubelet {
    /// Stops, kills every process of its pods behind the runtime's back, and starts again. The network namespaces and
    /// the runtime itself stay, which a real reboot would take too.
    pub async fn reboot(&self) -> Result<(), RebootError> {
        self.stop().await;
        let pods: Vec<_> = self.shared.read(|state| {
            let active = state.pods.iter().filter(|(_, pod)| pod.phase.is_active());
            active.map(|(uid, _)| uid.clone()).collect()
        });
        for uid in &pods {
            if let Some(runtime) = &self.runtime {
                kill_pod(runtime, uid).await?;
            }
            self.shared.update(|state| state.set_phase(uid, Phase::Bound));
        }
        Ok(self.resume().await?)
    }

    /// Learns from the runtime what it has of a pod, as the kubelet does when it starts: the newest sandbox and
    /// attempts, so that their names are not taken again. Answers the names of the containers that run; none where
    /// the double has no runtime.
    pub(crate) async fn recall(&self, uid: &PodUid) -> Result<BTreeSet<String>, CriError> {
        let Some(runtime) = &self.runtime else { return Ok(BTreeSet::new()) };
        let sandboxes = runtime.sandboxes_of(uid).await?;
        let containers = runtime.containers_of(uid).await?;
        let newest = sandboxes
            .into_iter()
            .map(|sandbox| (sandbox.metadata.map_or(0, |metadata| metadata.attempt), sandbox.id))
            .max();
        let mut records: BTreeMap<String, ContainerRecord> = BTreeMap::new();
        let mut running = BTreeSet::new();
        for container in containers {
            let Some(metadata) = container.metadata else { continue };
            if container.state == api::ContainerState::ContainerRunning as i32 {
                running.insert(metadata.name.clone());
            }
            if records.get(&metadata.name).is_none_or(|had| had.attempt < metadata.attempt) {
                let (id, sandbox) = (container.id, container.pod_sandbox_id);
                records.insert(metadata.name, ContainerRecord { id, attempt: metadata.attempt, sandbox });
            }
        }
        self.shared.update(|state| {
            if let (Some(pod), Some((attempt, sandbox))) = (state.pods.get_mut(uid), newest) {
                pod.next_attempt = pod.next_attempt.max(attempt + 1);
                pod.sandbox = Some(sandbox);
                pod.containers = records;
            }
        });
        Ok(running)
    }
}

impl Cri {
    /// Every sandbox of a pod.
    pub(crate) async fn sandboxes_of(&self, uid: &PodUid) -> Result<Vec<api::PodSandbox>, CriError> {
        let filter = api::PodSandboxFilter { label_selector: of_pod(uid) };
        Ok(self.list_pod_sandbox(api::ListPodSandboxRequest { filter: Some(filter) }).await?.items)
    }

    /// Every container of a pod, in all of its sandboxes.
    async fn containers_of(&self, uid: &PodUid) -> Result<Vec<api::Container>, CriError> {
        let filter = api::ContainerFilter { label_selector: of_pod(uid) };
        Ok(self.list_containers(api::ListContainersRequest { filter: Some(filter) }).await?.containers)
    }

    /// The processes that a pod's sandboxes and containers began with, of those that run.
    async fn processes_of(&self, uid: &PodUid) -> Result<Vec<i32>, CriError> {
        let mut pids = Vec::new();
        for container in self.containers_of(uid).await? {
            if container.state == api::ContainerState::ContainerRunning as i32 {
                let request = api::ContainerStatusRequest { container_id: container.id, verbose: true };
                pids.extend(process(&self.container_status(request).await?.info));
            }
        }
        for sandbox in self.sandboxes_of(uid).await? {
            if sandbox.state == api::PodSandboxState::SandboxReady as i32 {
                let request = api::PodSandboxStatusRequest { pod_sandbox_id: sandbox.id, verbose: true };
                pids.extend(process(&self.pod_sandbox_status(request).await?.info));
            }
        }
        Ok(pids)
    }
}

/// Kills what runs of a pod, and waits until the runtime has noticed.
async fn kill_pod(runtime: &Cri, uid: &PodUid) -> Result<(), RebootError> {
    let failed = |source| RebootError::Runtime { uid: uid.clone(), source };
    let end = Instant::now() + NOTICE_LIMIT;
    loop {
        let pids = runtime.processes_of(uid).await.map_err(failed)?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                // It is dead, and the runtime has not noticed yet.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(source) => return Err(RebootError::Kill { uid: uid.clone(), pid, source }),
            }
        }
        if Instant::now() >= end {
            return Err(RebootError::Unnoticed { uid: uid.clone(), limit: NOTICE_LIMIT });
        }
        sleep(NOTICE_INTERVAL).await;
    }
}

fn of_pod(uid: &PodUid) -> HashMap<String, String> {
    HashMap::from([(LABEL_POD_UID.to_owned(), uid.to_string())])
}

/// The process id in containerd's verbose status, 0 there where nothing runs.
fn process(info: &HashMap<String, String>) -> Option<i32> {
    let info: serde_json::Value = serde_json::from_str(info.get("info")?).ok()?;
    info["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_found_in_the_verbose_status() {
        let info = |text: &str| HashMap::from([("info".to_owned(), text.to_owned())]);
        assert_eq!(process(&info(r#"{"sandboxID":"s","pid":7}"#)), Some(7));
        assert_eq!(process(&info(r#"{"pid":0}"#)), None);
        assert_eq!(process(&info("{}")), None);
    }
}
