//! Who holds which devices: one record for each pod, container and resource, with the plugin's whole answer.
//! The record is what the kubelet checkpoints and replays; `options` merges a container's records into what the
//! runtime is told.

use std::collections::{BTreeMap, BTreeSet};

use doorbell_common::kubelet::deviceplugin::{ContainerAllocateResponse, DeviceSpec, Mount};

use crate::pod::PodUid;

/// The NUMA node under which the kubelet files a device that named none.
pub(crate) const NO_NUMA: i64 = -1;

/// Device ids by NUMA node, the kubelet's own shape: a device of two nodes stands under both.
pub(crate) type IdsByNuma = BTreeMap<i64, Vec<String>>;

/// What one container was given of one resource.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Allocation {
    pub(crate) ids: IdsByNuma,
    pub(crate) answer: ContainerAllocateResponse,
}

impl Allocation {
    pub(crate) fn device_ids(&self) -> BTreeSet<String> {
        self.ids.values().flatten().cloned().collect()
    }
}

/// Whose record it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder {
    pub(crate) pod: PodUid,
    pub(crate) container: String,
    pub(crate) resource: String,
}

/// Every record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Allocations {
    records: BTreeMap<Holder, Allocation>,
}

impl Allocations {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Holder, &Allocation)> {
        self.records.iter()
    }

    pub(crate) fn insert(&mut self, holder: Holder, allocation: Allocation) {
        self.records.insert(holder, allocation);
    }

    pub(crate) fn get(&self, holder: &Holder) -> Option<&Allocation> {
        self.records.get(holder)
    }

    /// The pod has ended, or its admission failed: whatever it held is free.
    pub(crate) fn release(&mut self, pod: &PodUid) {
        self.records.retain(|holder, _| holder.pod != *pod);
    }

    /// The devices of a resource that some pod holds.
    pub(crate) fn in_use(&self, resource: &str) -> BTreeSet<String> {
        let held = self.records.iter().filter(|(holder, _)| holder.resource == resource);
        held.flat_map(|(_, allocation)| allocation.device_ids()).collect()
    }

    /// A container's records, by resource.
    pub(crate) fn of<'a>(
        &'a self,
        pod: &'a PodUid,
        container: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Allocation)> {
        let own = move |holder: &Holder| holder.pod == *pod && holder.container == container;
        self.records
            .iter()
            .filter(move |(holder, _)| own(holder))
            .map(|(holder, allocation)| (holder.resource.as_str(), allocation))
    }

    /// A container's answers as one. Where two of them name the same variable, path or device, the first
    /// resource wins and the other is left out, as in the kubelet.
    pub(crate) fn options(&self, pod: &PodUid, container: &str) -> RunOptions {
        let mut options = RunOptions::default();
        for (_, allocation) in self.of(pod, container) {
            options.merge(&allocation.answer);
        }
        options
    }
}

/// What the device plugins' answers put into a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunOptions {
    /// Environment variables.
    pub envs: BTreeMap<String, String>,
    /// Host paths to mount.
    pub mounts: Vec<Mount>,
    /// Device nodes.
    pub devices: Vec<DeviceSpec>,
    /// Annotations on the container, not on the pod.
    pub annotations: BTreeMap<String, String>,
    /// Fully qualified CDI names.
    pub cdi_devices: Vec<String>,
}

impl RunOptions {
    fn merge(&mut self, answer: &ContainerAllocateResponse) {
        for (key, value) in &answer.envs {
            self.envs.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for (key, value) in &answer.annotations {
            self.annotations.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for mount in &answer.mounts {
            if !self.mounts.iter().any(|had| had.container_path == mount.container_path) {
                self.mounts.push(mount.clone());
            }
        }
        for device in &answer.devices {
            if !self.devices.iter().any(|had| had.container_path == device.container_path) {
                self.devices.push(device.clone());
            }
        }
        for device in &answer.cdi_devices {
            if !self.cdi_devices.contains(&device.name) {
                self.cdi_devices.push(device.name.clone());
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use doorbell_common::kubelet::deviceplugin::CdiDevice;

    use super::*;

    pub(crate) fn holder(pod: &str, container: &str, resource: &str) -> Holder {
        Holder { pod: PodUid::from(pod), container: container.to_owned(), resource: resource.to_owned() }
    }

    pub(crate) fn allocation(ids: &[&str]) -> Allocation {
        let ids: Vec<String> = ids.iter().map(|&id| id.to_owned()).collect();
        let cdi_devices = ids.iter().map(|id| CdiDevice { name: format!("r/x={id}") }).collect();
        let answer = ContainerAllocateResponse { cdi_devices, ..Default::default() };
        Allocation { ids: BTreeMap::from([(NO_NUMA, ids)]), answer }
    }

    #[test]
    fn a_released_pod_holds_nothing() {
        let mut allocations = Allocations::default();
        allocations.insert(holder("p", "c", "r"), allocation(&["a", "b"]));
        allocations.insert(holder("q", "c", "r"), allocation(&["c"]));
        assert_eq!(allocations.in_use("r").len(), 3);
        allocations.release(&PodUid::from("p"));
        assert_eq!(allocations.in_use("r"), BTreeSet::from(["c".to_owned()]));
    }

    #[test]
    fn answers_of_two_resources_are_merged_and_the_first_wins() {
        let mut allocations = Allocations::default();
        for (resource, value) in [("r1", "one"), ("r2", "two")] {
            let mut given = allocation(&["a"]);
            given.answer.envs.insert("KEY".to_owned(), value.to_owned());
            let mount =
                Mount { container_path: "/m".to_owned(), host_path: value.to_owned(), read_only: true };
            given.answer.mounts.push(mount);
            allocations.insert(holder("p", "c", resource), given);
        }
        let options = allocations.options(&PodUid::from("p"), "c");
        assert_eq!(options.envs["KEY"], "one");
        assert_eq!(options.mounts.len(), 1);
        assert_eq!(options.cdi_devices, ["r/x=a"]);
    }
}
