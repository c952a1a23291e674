//! Whose a device is, and who was told of it.

use std::collections::{BTreeMap, BTreeSet};

use doorbell_common::claim::{self, Pod};
use doorbell_common::host::Host;
use doorbell_common::kubelet::podresources::PodResources;
use doorbell_common::subdevice::DeviceId;

use super::health::Change;
use crate::allocated;

/// Devices whose pods are remembered.
const REMEMBERED: usize = 512;

/// What the kubelet has given away.
pub(super) enum Holders {
    /// Pods by the ids of their devices.
    Known(BTreeMap<String, BTreeSet<Pod>>),
    /// It does not say.
    Unknown,
}

/// Who was told that a device is unhealthy, and is to be told when it is healthy again.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<DeviceId, BTreeSet<Pod>>);

impl Holders {
    pub(super) async fn ask(host: &Host) -> Self {
        allocated::pods(host).await.map_or(Self::Unknown, |pods| Self::Known(by_device(pods)))
    }

    /// The pods that have a device: more than one where a kubelet still lists pods that are done. While the kubelet does
    /// not say, it is the pod that the CNI has wired the device for.
    pub(super) fn of(&self, host: &Host, id: &DeviceId) -> BTreeSet<Pod> {
        match self {
            Self::Known(pods) => pods.get(id.as_str()).cloned().unwrap_or_default(),
            Self::Unknown => {
                let claim = claim::of_this_boot(host, id).ok().flatten();
                claim.map(|claim| claim.holder.pod).into_iter().collect()
            }
        }
    }
}

fn by_device(pods: Vec<PodResources>) -> BTreeMap<String, BTreeSet<Pod>> {
    let mut holders: BTreeMap<String, BTreeSet<Pod>> = BTreeMap::new();
    for PodResources { namespace, name, containers, .. } in pods {
        let pod = Pod { namespace, name };
        for id in containers.into_iter().flat_map(|container| container.devices).flat_map(|of| of.device_ids)
        {
            holders.entry(id).or_default().insert(pod.clone());
        }
    }
    holders
}

impl Told {
    /// Whether somebody was told that it is unhealthy.
    pub(super) fn has(&self, id: &DeviceId) -> bool {
        self.0.contains_key(id)
    }

    /// Which pods are to be told of a change; nobody at all where the device is nobody's.
    pub(super) fn whom(&mut self, change: &Change, holders: &BTreeSet<Pod>) -> Option<Vec<Pod>> {
        if change.reason.is_none() {
            // The node was told as well, whether or not its pod is still there.
            let told = self.0.remove(&change.device)?;
            return Some(told.intersection(holders).cloned().collect());
        }
        if holders.is_empty() {
            return None;
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_first();
        }
        self.0.insert(change.device.clone(), holders.clone());
        Some(holders.iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(reason: Option<&str>) -> Change {
        let (pool, device) = ("fast".parse().unwrap(), "0000:01:00.1".parse().unwrap());
        Change { pool, device, reason: reason.map(str::to_owned) }
    }

    fn pods<const N: usize>(names: [&str; N]) -> BTreeSet<Pod> {
        names.map(|name| Pod { namespace: "default".to_owned(), name: name.to_owned() }).into()
    }

    #[test]
    fn of_a_device_that_nobody_has_nobody_is_told() {
        let mut told = Told::default();
        assert_eq!(told.whom(&change(Some("gone")), &pods([])), None);
        assert_eq!(told.whom(&change(None), &pods(["a"])), None);
    }

    #[test]
    fn that_it_is_healthy_again_hears_who_heard_that_it_was_not_and_still_has_it() {
        let mut told = Told::default();
        assert_eq!(told.whom(&change(Some("gone")), &pods(["a", "b"])).unwrap().len(), 2);
        let again: BTreeSet<Pod> = told.whom(&change(None), &pods(["b", "c"])).unwrap().into_iter().collect();
        assert_eq!(again, pods(["b"]));
        assert!(!told.has(&change(None).device));
    }
}
