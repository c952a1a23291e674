//! Which devices a container gets: the kubelet's rules, in its order and with its words.
//! Pure; the caller asks the plugin for its preference and for the answer.

use std::collections::BTreeSet;

use crate::{
    allocations::{Allocation, Allocations, Holder},
    devices::DeviceTable,
};

/// Why no devices can be given. The texts are the kubelet's: they end in the pod's status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SelectError {
    #[error(
        "pod \"{pod}\" container \"{container}\" changed request for resource \"{resource}\" from {had} to {asked}"
    )]
    Changed { pod: String, container: String, resource: String, had: usize, asked: usize },
    #[error("cannot allocate unregistered device {0}")]
    Unregistered(String),
    #[error("no healthy devices present; cannot allocate unhealthy devices {0}")]
    NoneHealthy(String),
    #[error("previously allocated devices are no longer healthy; cannot allocate unhealthy devices {0}")]
    NoLongerHealthy(String),
    #[error(
        "requested number of devices unavailable for {resource}. Requested: {requested}, Available: {available}"
    )]
    TooFew { resource: String, requested: usize, available: usize },
}

/// What is to be done for one container and resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// It has its devices: the cached answer serves, and the plugin is not asked again.
    Held,
    /// Devices of the pod's own init containers are enough.
    Reuse(BTreeSet<String>),
    /// Take `reused` and as many of `available` as are missing.
    Choose { reused: BTreeSet<String>, available: BTreeSet<String> },
}

/// Decides for `holder`, who asks for `count`; `reusable` are the devices of its pod's finished init containers.
/// `running`: the kubelet has just started and finds the container running, so that it has what it needs.
pub(crate) fn select(
    table: &DeviceTable,
    allocations: &Allocations,
    holder: &Holder,
    count: usize,
    reusable: &BTreeSet<String>,
    running: bool,
) -> Result<Selection, SelectError> {
    let resource = holder.resource.clone();
    let held = allocations.get(holder).map(Allocation::device_ids).unwrap_or_default();
    if !held.is_empty() && held.len() != count {
        return Err(SelectError::Changed {
            pod: holder.pod.to_string(),
            container: holder.container.clone(),
            resource,
            had: held.len(),
            asked: count,
        });
    }
    if running {
        return Ok(Selection::Held);
    }
    // Health comes before the count: this is what fails a pod that is re-admitted too early or after a loss.
    let Some(listed) = table.get(&resource).filter(|resource| resource.listed) else {
        return Err(SelectError::Unregistered(resource));
    };
    let healthy = listed.healthy();
    if healthy.is_empty() {
        return Err(SelectError::NoneHealthy(resource));
    }
    if !healthy.is_superset(&held) {
        return Err(SelectError::NoLongerHealthy(resource));
    }
    if held.len() == count {
        return Ok(Selection::Held);
    }
    let reused: BTreeSet<String> = reusable.iter().take(count).cloned().collect();
    if reused.len() == count {
        return Ok(Selection::Reuse(reused));
    }
    let available: BTreeSet<String> = healthy.difference(&allocations.in_use(&resource)).cloned().collect();
    let requested = count - reused.len();
    if available.len() < requested {
        return Err(SelectError::TooFew { resource, requested, available: available.len() });
    }
    Ok(Selection::Choose { reused, available })
}

/// Takes `count` devices: the reused ones, then what the plugin prefers, then the rest in order. The kubelet takes
/// the rest in no order at all; a test is better off with the same one every time.
pub(crate) fn take(
    reused: BTreeSet<String>,
    available: &BTreeSet<String>,
    preferred: &[String],
    count: usize,
) -> BTreeSet<String> {
    let mut taken = reused;
    let preferred = preferred.iter().filter(|id| available.contains(*id));
    for id in preferred.chain(available) {
        if taken.len() == count {
            break;
        }
        taken.insert(id.clone());
    }
    taken
}

#[cfg(test)]
mod tests {
    use doorbell_common::kubelet::deviceplugin::{Device, DevicePluginOptions};

    use super::*;
    use crate::{
        allocations::tests::{allocation, holder},
        devices::HEALTHY,
    };

    fn ids(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|&id| id.to_owned()).collect()
    }

    fn table(devices: &[(&str, &str)]) -> DeviceTable {
        let mut table = DeviceTable::default();
        table.connect("r", 1, DevicePluginOptions::default());
        let devices = devices.iter().map(|&(id, health)| Device {
            id: id.to_owned(),
            health: health.to_owned(),
            topology: None,
        });
        table.list("r", 1, devices.collect());
        table
    }

    #[test]
    fn unhealthy_and_held_devices_are_not_chosen() {
        let table = table(&[("a", HEALTHY), ("b", "Unhealthy"), ("c", HEALTHY)]);
        let mut allocations = Allocations::default();
        allocations.insert(holder("p", "c", "r"), allocation(&["a"]));
        let asked = |count| select(&table, &allocations, &holder("q", "c", "r"), count, &ids(&[]), false);
        assert_eq!(asked(1), Ok(Selection::Choose { reused: ids(&[]), available: ids(&["c"]) }));
        let too_few = SelectError::TooFew { resource: "r".to_owned(), requested: 2, available: 1 };
        assert_eq!(asked(2), Err(too_few));
    }

    #[test]
    fn the_three_refusals_of_a_readmission() {
        let mut allocations = Allocations::default();
        allocations.insert(holder("p", "c", "r"), allocation(&["a"]));
        let asked =
            |table: &DeviceTable| select(table, &allocations, &holder("p", "c", "r"), 1, &ids(&[]), false);
        assert_eq!(asked(&DeviceTable::default()), Err(SelectError::Unregistered("r".to_owned())));
        assert_eq!(asked(&table(&[("a", "Unhealthy")])), Err(SelectError::NoneHealthy("r".to_owned())));
        let others = table(&[("a", "Unhealthy"), ("b", HEALTHY)]);
        assert_eq!(asked(&others), Err(SelectError::NoLongerHealthy("r".to_owned())));
        assert_eq!(asked(&table(&[("a", HEALTHY)])), Ok(Selection::Held));
    }

    #[test]
    fn a_running_container_needs_no_registered_plugin() {
        let mut allocations = Allocations::default();
        allocations.insert(holder("p", "c", "r"), allocation(&["a"]));
        let table = DeviceTable::default();
        let selection = select(&table, &allocations, &holder("p", "c", "r"), 1, &ids(&[]), true);
        assert_eq!(selection, Ok(Selection::Held));
    }

    #[test]
    fn an_init_containers_devices_come_first() {
        let table = table(&[("a", HEALTHY), ("b", HEALTHY)]);
        let mut allocations = Allocations::default();
        allocations.insert(holder("p", "init", "r"), allocation(&["b"]));
        let asked = |count| select(&table, &allocations, &holder("p", "c", "r"), count, &ids(&["b"]), false);
        assert_eq!(asked(1), Ok(Selection::Reuse(ids(&["b"]))));
        assert_eq!(asked(2), Ok(Selection::Choose { reused: ids(&["b"]), available: ids(&["a"]) }));
    }

    #[test]
    fn preferred_devices_are_taken_before_the_others() {
        let preferred = ["z".to_owned(), "c".to_owned()];
        let taken = take(ids(&["r"]), &ids(&["a", "b", "c"]), &preferred, 3);
        assert_eq!(taken, ids(&["r", "c", "a"]));
    }
}
