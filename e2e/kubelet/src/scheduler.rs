//! The scheduler's part, as little of it as one node shows: a pod that asks for more than is free stays pending and is
//! tried again whenever the node changes. The kubelet proper does not wait: what reaches it is admitted or fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    admission::{AdmissionError, AdmitError},
    kubelet::Kubelet,
    pod::PodUid,
    state::{Shared, State},
    view::{NodeView, Phase},
};

impl Kubelet {
    /// Tries the pending pods again, oldest first, and names those that are not pending any more. It happens by
    /// itself too, whenever the node changes.
    pub async fn retry_pending(&self) -> Vec<PodUid> {
        self.shared.retry_pending().await
    }

    /// Waits until the pod is no longer pending; a refusal is an error.
    pub async fn wait_admitted(&self, uid: &PodUid, limit: Duration) -> Result<(), AdmitError> {
        let decided = |node: &NodeView| {
            node.pods.get(uid).is_none_or(|pod| !matches!(pod.phase, Phase::Pending { .. }))
        };
        let node = self.wait_until(&format!("pod {uid} to be admitted"), decided, limit).await?;
        match node.pods.get(uid).map(|pod| &pod.phase) {
            None => Err(AdmissionError::Unknown(uid.clone()).into()),
            Some(Phase::Failed { message, .. }) => {
                Err(AdmissionError::Unexpected { message: message.clone() }.into())
            }
            Some(_) => Ok(()),
        }
    }
}

impl Shared {
    /// The scheduler's loop: pending pods are tried at each change of the node.
    pub(crate) async fn schedule(&self) {
        let mut changes = self.subscribe();
        // The sender lives in `self`, so the channel does not close.
        while changes.changed().await.is_ok() {
            self.retry_pending().await;
        }
    }

    async fn retry_pending(&self) -> Vec<PodUid> {
        let _turn = self.admission.lock().await;
        let mut pending: Vec<_> = self.read(|state| {
            let pods = state.pods.iter();
            let pods = pods.filter(|(_, pod)| matches!(pod.phase, Phase::Pending { .. }));
            pods.map(|(uid, pod)| (pod.arrival, uid.clone())).collect()
        });
        pending.sort();
        let mut decided = Vec::new();
        for (_, uid) in pending {
            if self.read(|state| state.missing_for(&uid).is_none()) {
                // A refusal is kept in the pod's phase.
                let _ = self.allocate(&uid, &BTreeSet::new()).await;
                decided.push(uid);
            }
        }
        decided
    }
}

impl State {
    /// What the scheduler would say is missing. It counts requests against allocatable and knows no device: a
    /// device that is held and unhealthy counts twice, once as not allocatable and once as requested.
    pub(crate) fn missing_for(&self, uid: &PodUid) -> Option<String> {
        let asked = self.pods.get(uid)?.spec.requests();
        let others = self.pods.iter().filter(|(other, pod)| *other != uid && pod.phase.is_active());
        let mut requested: BTreeMap<String, usize> = BTreeMap::new();
        for (resource, count) in others.flat_map(|(_, pod)| pod.spec.requests()) {
            *requested.entry(resource).or_default() += count;
        }
        let short = asked.into_iter().find(|(resource, count)| {
            let allocatable = self.table.get(resource).map_or(0, |resource| resource.healthy().len());
            requested.get(resource).copied().unwrap_or_default() + count > allocatable && *count > 0
        });
        short.map(|(resource, _)| format!("Insufficient {resource}"))
    }
}
