//! The double's one piece of state, behind one lock: the device table, the allocations and the pods.
//! Every change goes through [`Shared::update`], which checkpoints what the kubelet checkpoints and publishes a new
//! [`NodeView`], so that whoever waits for a change is woken by it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use doorbell_common::kubelet::podresources::PodResources as PodEntry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    allocations::Allocations,
    checkpoint::{self, Registered},
    config::KubeletConfig,
    devices::{DeviceTable, Endpoint, Resource},
    plugin::Plugin,
    pod::{PodSpec, PodUid},
    podresources,
    view::{NodeView, Phase, PodView, ResourceView},
};

/// The plugin that registered last for a resource, and what ends the following of its stream.
#[derive(Debug)]
pub(crate) struct PluginLink {
    pub(crate) plugin: Plugin,
    pub(crate) cancel: CancellationToken,
}

/// A container that was created.
#[derive(Clone, Debug)]
pub(crate) struct ContainerRecord {
    pub(crate) id: String,
    /// Counts on over sandboxes: the runtime keeps the name of a dead container until it is removed.
    pub(crate) attempt: u32,
    pub(crate) sandbox: String,
}

/// A pod and what was made of it.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) spec: Arc<PodSpec>,
    pub(crate) phase: Phase,
    /// Order of arrival: the oldest pending pod is tried first.
    pub(crate) arrival: u64,
    /// The attempt number of the next sandbox.
    pub(crate) next_attempt: u32,
    /// The newest sandbox, the one whose containers count.
    pub(crate) sandbox: Option<String>,
    /// The latest attempt of each container.
    pub(crate) containers: BTreeMap<String, ContainerRecord>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) table: DeviceTable,
    pub(crate) plugins: BTreeMap<String, PluginLink>,
    pub(crate) allocations: Allocations,
    pub(crate) pods: BTreeMap<PodUid, Pod>,
    /// What PodResources said of pods that ended, in the order of their ends.
    pub(crate) ended: Vec<PodEntry>,
    counter: u64,
    checkpointed: Option<(Allocations, Registered)>,
}

impl State {
    /// A number that was not given before: for registrations and arrivals.
    pub(crate) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(crate) fn set_phase(&mut self, uid: &PodUid, phase: Phase) {
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.phase = phase;
        }
    }

    /// The pod was stopped: its devices are free. A pod that failed stays failed.
    pub(crate) fn terminate(&mut self, uid: &PodUid) {
        if let Some(pod) = self.pods.get(uid).filter(|pod| pod.phase.is_active()) {
            self.ended.push(podresources::entry(self, &pod.spec));
        }
        self.allocations.release(uid);
        if let Some(pod) = self.pods.get_mut(uid)
            && !matches!(pod.phase, Phase::Failed { .. })
        {
            pod.phase = Phase::Terminated;
        }
    }

    fn registered(&self) -> Registered {
        let listed = self.table.iter().filter(|(_, resource)| resource.listed);
        listed.map(|(name, resource)| (name.clone(), resource.healthy().into_iter().collect())).collect()
    }

    fn view(&self) -> NodeView {
        let resource = |(name, resource): (&String, &Resource)| {
            let (connected, options) = match resource.endpoint {
                Endpoint::Unknown | Endpoint::Restored => (false, None),
                Endpoint::Stopped { options, .. } => (false, Some(options)),
                Endpoint::Connected { options, .. } => (true, Some(options)),
            };
            let view = ResourceView {
                devices: resource.devices.clone(),
                allocated: self.allocations.in_use(name),
                connected,
                listed: resource.listed,
                registrations: resource.registrations,
                options,
                violations: resource.violations.clone(),
            };
            (name.clone(), view)
        };
        let pod = |(uid, pod): (&PodUid, &Pod)| {
            let (name, namespace) = (pod.spec.name.clone(), pod.spec.namespace.clone());
            (uid.clone(), PodView { name, namespace, phase: pod.phase.clone() })
        };
        NodeView {
            resources: self.table.iter().map(resource).collect(),
            pods: self.pods.iter().map(pod).collect(),
        }
    }
}

/// What the servers, the followers of plugins and the public face share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: KubeletConfig,
    state: Mutex<State>,
    view: watch::Sender<Arc<NodeView>>,
    /// The kubelet admits one pod at a time.
    pub(crate) admission: tokio::sync::Mutex<()>,
}

impl Shared {
    pub(crate) fn new(config: KubeletConfig) -> Self {
        let view = watch::Sender::new(Arc::default());
        Self { config, state: Mutex::default(), view, admission: tokio::sync::Mutex::default() }
    }

    /// Looks at the state. Never held over an await.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the state, then checkpoints and publishes it.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let current = (state.allocations.clone(), state.registered());
        if state.checkpointed.as_ref() != Some(&current) {
            let (allocations, registered) = &current;
            // The kubelet logs this and goes on, so the pod's own course is the same.
            match checkpoint::write(&self.config.checkpoint(), allocations, registered.clone()) {
                Ok(()) => state.checkpointed = Some(current),
                Err(error) => tracing::error!(%error, "checkpoint not written"),
            }
        }
        let view = state.view();
        self.view.send_if_modified(|published| {
            let changed = **published != view;
            if changed {
                *published = Arc::new(view);
            }
            changed
        });
        result
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<NodeView>> {
        self.view.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
