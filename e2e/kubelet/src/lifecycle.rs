//! A pod's life over the runtime, in the kubelet's order: sandbox, init containers one by one, containers; and back.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    admission::{Admission, AdmitError},
    cri::{Condition, CriError, api},
    kubelet::Kubelet,
    logs::LogError,
    pod::{PodSpec, PodUid},
    prestart::PreStartError,
    sandbox::Sandbox,
    view::Phase,
};

/// How long an init container may take.
const INIT_LIMIT: Duration = Duration::from_secs(120);

/// Why a pod does not run, or cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The double was started without a runtime.
    #[error("the kubelet has no container runtime")]
    NoRuntime,
    /// The pod has no devices, or has ended.
    #[error("pod {uid} is not admitted but {phase:?}")]
    NotAdmitted {
        /// The pod.
        uid: PodUid,
        /// Its phase; `None` where there is no such pod.
        phase: Option<Phase>,
    },
    /// Its admission failed or took too long.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// No sandbox of the pod stands.
    #[error("pod {0} has no sandbox")]
    NoSandbox(PodUid),
    /// No such container was made.
    #[error("pod {uid} has no container {container}")]
    NoContainer {
        /// The pod.
        uid: PodUid,
        /// The container.
        container: String,
    },
    /// The runtime refused. A CNI plugin's error is in the message.
    #[error(transparent)]
    Cri(#[from] CriError),
    /// A device plugin refused the start.
    #[error(transparent)]
    PreStart(#[from] PreStartError),
    /// An init container failed.
    #[error("init container {container} exited with {exit}")]
    Init {
        /// The container.
        container: String,
        /// Its exit code.
        exit: i32,
    },
    /// A container did not end in time.
    #[error("container {container} still runs after {limit:?}")]
    StillRunning {
        /// The container.
        container: String,
        /// The bound.
        limit: Duration,
    },
    /// The runtime's network did not become ready in time.
    #[error("the network is not ready after {limit:?}: {conditions:?}")]
    NetworkNotReady {
        /// The bound.
        limit: Duration,
        /// What the runtime says of itself.
        conditions: Vec<Condition>,
    },
    /// The folder for logs could not be made or removed.
    #[error("cannot prepare the log folder {}", path.display())]
    Logs {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A log could not be read, or lacks what was waited for.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl PodError {
    pub(crate) fn no_container(uid: &PodUid, container: &str) -> Self {
        Self::NoContainer { uid: uid.clone(), container: container.to_owned() }
    }

    /// The runtime's own text, where it is the runtime that refused.
    pub fn runtime_message(&self) -> Option<&str> {
        match self {
            Self::Cri(error) => error.message(),
            _ => None,
        }
    }
}

impl Kubelet {
    /// Admits a pod, waiting up to `limit` while it is pending, and starts it.
    pub async fn run_pod(&self, spec: PodSpec, limit: Duration) -> Result<PodUid, PodError> {
        let uid = match self.admit(spec).await.map_err(AdmitError::from)? {
            Admission::Admitted(uid) => uid,
            Admission::Pending { uid, .. } => {
                self.wait_admitted(&uid, limit).await?;
                uid
            }
        };
        self.start_pod(&uid).await?;
        Ok(uid)
    }

    /// Starts an admitted pod: the next sandbox and everything in it. After an error it may be called again, as
    /// the kubelet would; what stands of the failed sandbox is stopped first.
    pub async fn start_pod(&self, uid: &PodUid) -> Result<Sandbox, PodError> {
        self.admitted(uid)?;
        for id in self.sandbox_ids(uid).await? {
            self.stop_sandbox(&id).await?;
        }
        let attempt = self.shared.read(|state| state.pods.get(uid).map_or(0, |pod| pod.next_attempt));
        let sandbox = self.run_sandbox(uid, attempt).await?;
        self.start_containers(uid).await?;
        Ok(sandbox)
    }

    /// Runs the init containers to their ends and starts the containers, in the pod's newest sandbox.
    pub async fn start_containers(&self, uid: &PodUid) -> Result<(), PodError> {
        let spec = self.admitted(uid)?;
        for container in &spec.init_containers {
            self.start_container(uid, &container.name).await?;
            if container.restartable {
                continue;
            }
            let exit = self.wait_exit(uid, &container.name, INIT_LIMIT).await?;
            if exit != 0 {
                return Err(PodError::Init { container: container.name.clone(), exit });
            }
        }
        for container in &spec.containers {
            self.start_container(uid, &container.name).await?;
        }
        self.shared.update(|state| state.set_phase(uid, Phase::Running));
        Ok(())
    }

    /// The pod's address: the first of its newest sandbox.
    pub async fn pod_ip(&self, uid: &PodUid) -> Result<Option<String>, PodError> {
        let sandbox = self.shared.read(|state| state.pods.get(uid).and_then(|pod| pod.sandbox.clone()));
        let sandbox = sandbox.ok_or_else(|| PodError::NoSandbox(uid.clone()))?;
        Ok(self.sandbox_status(&sandbox).await?.ips.into_iter().next())
    }

    /// Ends a pod: its containers, then its sandboxes (the CNI chain's DEL). Its devices are free after that.
    pub async fn stop_pod(&self, uid: &PodUid) -> Result<(), PodError> {
        if let Some(runtime) = &self.runtime {
            for sandbox in self.sandbox_ids(uid).await? {
                let containers: Vec<String> = self.shared.read(|state| {
                    let containers = state.pods.get(uid).into_iter().flat_map(|pod| pod.containers.values());
                    let inside = containers.filter(|container| container.sandbox == sandbox);
                    inside.map(|container| container.id.clone()).collect()
                });
                for container in containers {
                    self.stop_container(&container).await?;
                }
                let request = api::StopPodSandboxRequest { pod_sandbox_id: sandbox };
                runtime.stop_pod_sandbox(request).await?;
            }
        }
        self.shared.update(|state| state.terminate(uid));
        Ok(())
    }

    /// Ends a pod where it has not ended, and forgets it: its sandboxes, containers and logs are gone.
    pub async fn remove_pod(&self, uid: &PodUid) -> Result<(), PodError> {
        self.stop_pod(uid).await?;
        if self.runtime.is_some() {
            for sandbox in self.sandbox_ids(uid).await? {
                self.remove_sandbox(&sandbox).await?;
            }
        }
        let Some(pod) = self.shared.update(|state| state.pods.remove(uid)) else { return Ok(()) };
        let folder = PathBuf::from(self.sandbox_config(&pod.spec, 0).log_directory);
        match std::fs::remove_dir_all(&folder) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(PodError::Logs { path: folder, source })
            }
            _ => Ok(()),
        }
    }

    /// The spec of a pod that has its devices.
    pub(crate) fn admitted(&self, uid: &PodUid) -> Result<Arc<PodSpec>, PodError> {
        self.shared.read(|state| {
            let pod = state.pods.get(uid);
            match pod.filter(|pod| pod.phase.is_admitted()) {
                Some(pod) => Ok(Arc::clone(&pod.spec)),
                None => {
                    Err(PodError::NotAdmitted { uid: uid.clone(), phase: pod.map(|pod| pod.phase.clone()) })
                }
            }
        })
    }
}
