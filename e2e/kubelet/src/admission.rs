//! Admission: a pod gets its devices before anything of it runs, or is refused for good.
//! Whether a pod comes so far at all is for `scheduler`; which devices it gets, for `select`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use doorbell_common::kubelet::deviceplugin::DevicePluginOptions;

use crate::{
    allocations::{Allocation, Holder, IdsByNuma, NO_NUMA, RunOptions},
    cri::CriError,
    devices::Endpoint,
    kubelet::Kubelet,
    plugin::{Plugin, describe},
    pod::{ContainerSpec, PodSpec, PodUid},
    select::{Selection, select, take},
    state::{Pod, Shared, State},
    view::{Phase, Timeout},
};

/// What became of a pod that was handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It has its devices and can be started.
    Admitted(PodUid),
    /// It waits for capacity.
    Pending {
        /// The pod.
        uid: PodUid,
        /// The scheduler's words.
        reason: String,
    },
}

/// Why a pod was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// The device manager failed: the pod has failed for good, its status carries this text.
    #[error("UnexpectedAdmissionError: {message}")]
    Unexpected {
        /// "Allocate failed due to …, which is unexpected".
        message: String,
    },
    /// The API server would not have taken it.
    #[error("pod {namespace}/{name} exists")]
    Exists {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
    },
    /// There is no such pod.
    #[error("there is no pod {0}")]
    Unknown(PodUid),
}

/// The reason that the kubelet puts into the status of a pod whose allocation failed.
const UNEXPECTED: &str = "UnexpectedAdmissionError";

/// Devices of finished init containers, by resource, for the pod's later containers.
type Reusable = BTreeMap<String, BTreeSet<String>>;

impl Kubelet {
    /// Hands a pod in: it gets its devices, or stays pending, or is refused.
    pub async fn admit(&self, spec: PodSpec) -> Result<Admission, AdmissionError> {
        let _turn = self.shared.admission.lock().await;
        let uid = self.shared.receive(spec, being_admitted())?;
        let missing = self.shared.update(|state| {
            let reason = state.missing_for(&uid)?;
            state.set_phase(&uid, Phase::Pending { reason: reason.clone() });
            Some(reason)
        });
        if let Some(reason) = missing {
            return Ok(Admission::Pending { uid, reason });
        }
        self.shared.allocate(&uid, &BTreeSet::new()).await?;
        Ok(Admission::Admitted(uid))
    }

    /// Hands in a pod that names its node (`spec.nodeName`): no scheduler, so what it asks for is there or the
    /// pod fails.
    pub async fn bind(&self, spec: PodSpec) -> Result<PodUid, AdmissionError> {
        let _turn = self.shared.admission.lock().await;
        let uid = self.shared.receive(spec, being_admitted())?;
        self.shared.allocate(&uid, &BTreeSet::new()).await?;
        Ok(uid)
    }

    /// Learns of a pod that another process's kubelet admitted on this node before it was switched off, as the API
    /// server tells a kubelet that starts. [`Kubelet::readmit`] is what admits it, on the checkpoint.
    pub fn adopt(&self, spec: PodSpec) -> Result<PodUid, AdmissionError> {
        self.shared.receive(spec, Phase::Bound)
    }

    /// Admits a known pod again, as the kubelet does with every pod after its own restart. A container that the
    /// runtime reports running passes; after a reboot nothing runs, and the pod fails where its resource has not
    /// registered, has no healthy devices, or where a device that it holds is not healthy. What it holds is
    /// replayed from the checkpoint: Allocate is not called again.
    pub async fn readmit(&self, uid: &PodUid) -> Result<(), AdmitError> {
        let running = self.recall(uid).await?;
        let _turn = self.shared.admission.lock().await;
        self.shared.allocate(uid, &running).await?;
        Ok(())
    }

    /// What a container holds, by resource.
    pub fn devices(&self, uid: &PodUid, container: &str) -> BTreeMap<String, Vec<String>> {
        self.shared.read(|state| {
            let held = state.allocations.of(uid, container);
            held.map(|(resource, allocation)| {
                (resource.to_owned(), allocation.device_ids().into_iter().collect())
            })
            .collect()
        })
    }

    /// What the plugins' answers put into a container.
    pub fn run_options(&self, uid: &PodUid, container: &str) -> RunOptions {
        self.shared.read(|state| state.allocations.options(uid, container))
    }
}

/// Why a pod that was waited for is not admitted.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] AdmissionError),
    /// It is pending still.
    #[error(transparent)]
    Timeout(#[from] Timeout),
    /// The runtime could not be asked what runs.
    #[error("cannot tell which containers run")]
    Runtime(#[from] CriError),
}

impl Shared {
    fn receive(&self, spec: PodSpec, phase: Phase) -> Result<PodUid, AdmissionError> {
        self.update(|state| {
            let same = |pod: &Pod| pod.spec.name == spec.name && pod.spec.namespace == spec.namespace;
            if state.pods.values().any(same) {
                return Err(AdmissionError::Exists { namespace: spec.namespace, name: spec.name });
            }
            let uid = spec.uid.clone();
            let arrival = state.next();
            let containers = BTreeMap::new();
            let pod =
                Pod { spec: Arc::new(spec), phase, arrival, next_attempt: 0, sandbox: None, containers };
            state.pods.insert(uid.clone(), pod);
            Ok(uid)
        })
    }

    /// Gives a pod its devices; a failure is the pod's end, and sets its devices free.
    pub(crate) async fn allocate(
        &self,
        uid: &PodUid,
        running: &BTreeSet<String>,
    ) -> Result<(), AdmissionError> {
        let spec = self.read(|state| state.pods.get(uid).map(|pod| Arc::clone(&pod.spec)));
        let Some(spec) = spec else { return Err(AdmissionError::Unknown(uid.clone())) };
        match self.allocate_containers(&spec, running).await {
            Ok(()) => {
                let phase = if running.is_empty() { Phase::Admitted } else { Phase::Running };
                self.update(|state| state.set_phase(uid, phase));
                Ok(())
            }
            Err(cause) => {
                let message = format!("Allocate failed due to {cause}, which is unexpected");
                self.update(|state| {
                    state.allocations.release(uid);
                    let reason = UNEXPECTED.to_owned();
                    state.set_phase(uid, Phase::Failed { reason, message: message.clone() });
                });
                Err(AdmissionError::Unexpected { message })
            }
        }
    }

    /// Init containers first: what one that ends held may be given to the containers after it. A sidecar keeps
    /// what it has.
    async fn allocate_containers(&self, spec: &PodSpec, running: &BTreeSet<String>) -> Result<(), String> {
        let mut reusable = Reusable::new();
        let init = spec.init_containers.iter().map(|container| (container, !container.restartable));
        for (container, ends) in init.chain(spec.containers.iter().map(|container| (container, false))) {
            for (resource, &count) in container.resources.iter().filter(|(_, count)| **count > 0) {
                let reuse = reusable.entry(resource.clone()).or_default();
                let holder = holder(&spec.uid, container, resource);
                self.allocate_resource(&holder, count, reuse, running.contains(&container.name)).await?;
                let held = self.read(|state| {
                    state.allocations.get(&holder).map(Allocation::device_ids).unwrap_or_default()
                });
                if ends {
                    reuse.extend(held);
                } else {
                    reuse.retain(|id| !held.contains(id));
                }
            }
        }
        Ok(())
    }

    async fn allocate_resource(
        &self,
        holder: &Holder,
        count: usize,
        reusable: &BTreeSet<String>,
        running: bool,
    ) -> Result<(), String> {
        let selection = self
            .read(|state| select(&state.table, &state.allocations, holder, count, reusable, running))
            .map_err(|error| error.to_string())?;
        let chosen = match selection {
            Selection::Held => return Ok(()),
            Selection::Reuse(reused) => reused,
            Selection::Choose { reused, available } => {
                let preferred = self.preferred(&holder.resource, &reused, &available, count).await?;
                take(reused, &available, &preferred, count)
            }
        };
        let (plugin, _) = self.plugin(&holder.resource)?;
        let answer =
            plugin.allocate(chosen.iter().cloned().collect()).await.map_err(|status| describe(&status))?;
        self.update(|state| {
            let ids = by_numa(state, &holder.resource, chosen);
            state.allocations.insert(holder.clone(), Allocation { ids, answer });
        });
        Ok(())
    }

    /// The plugin's preference, where its options offer one. The kubelet asks even where there is no choice.
    async fn preferred(
        &self,
        resource: &str,
        reused: &BTreeSet<String>,
        available: &BTreeSet<String>,
        count: usize,
    ) -> Result<Vec<String>, String> {
        let (plugin, options) = self.plugin(resource)?;
        if !options.get_preferred_allocation_available {
            return Ok(Vec::new());
        }
        let offered = available.union(reused).cloned().collect();
        let preferred = plugin.preferred(offered, reused.iter().cloned().collect(), count).await;
        preferred.map_err(|status| {
            format!("device plugin GetPreferredAllocation rpc failed with err: {}", describe(&status))
        })
    }

    fn plugin(&self, resource: &str) -> Result<(Plugin, DevicePluginOptions), String> {
        self.read(|state| {
            let endpoint = state.table.get(resource).map(|resource| resource.endpoint);
            match (endpoint, state.plugins.get(resource)) {
                (Some(Endpoint::Connected { options, .. }), Some(link)) => Ok((link.plugin.clone(), options)),
                (Some(Endpoint::Unknown) | None, _) => Err(format!("unknown Device Plugin {resource}")),
                _ => Err(format!("endpoint {resource} has been stopped")),
            }
        })
    }
}

fn being_admitted() -> Phase {
    Phase::Pending { reason: "being admitted".to_owned() }
}

pub(crate) fn holder(pod: &PodUid, container: &ContainerSpec, resource: &str) -> Holder {
    Holder { pod: pod.clone(), container: container.name.clone(), resource: resource.to_owned() }
}

fn by_numa(state: &State, resource: &str, ids: BTreeSet<String>) -> IdsByNuma {
    let mut by_numa = IdsByNuma::new();
    for id in ids {
        let device = state.table.get(resource).and_then(|resource| resource.devices.get(&id));
        let nodes = device.map(|device| device.numa.clone()).unwrap_or_default();
        for node in if nodes.is_empty() { vec![NO_NUMA] } else { nodes } {
            by_numa.entry(node).or_default().push(id.clone());
        }
    }
    by_numa
}
