//! The device table: which resources have registered, which devices each one lists, and whether its plugin stands.
//! Pure state, as the kubelet's device manager keeps it; the calls to plugins are in `plugin` and `registration`.

use std::collections::{BTreeMap, BTreeSet};

use doorbell_common::kubelet::deviceplugin::{Device, DevicePluginOptions};

/// What the device plugin API writes for a device that can be given out.
pub(crate) const HEALTHY: &str = "Healthy";
const UNHEALTHY: &str = "Unhealthy";

/// The API's bound on a device id.
const DEVICE_ID_MAX: usize = 63;

/// One device of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceView {
    /// May be given out.
    pub healthy: bool,
    /// The NUMA nodes that its plugin named.
    pub numa: Vec<i64>,
}

/// What stands behind a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Never seen, or gone for longer than the grace: the resource does not exist.
    Unknown,
    /// Known from the checkpoint only. The kubelet starts such a resource with no devices and a stopped endpoint
    /// without options, so that capacity stays zero until its plugin registers again.
    Restored,
    /// Registered, its stream open.
    Connected { serial: u64, options: DevicePluginOptions },
    /// Its stream ended: the devices linger, unhealthy, until the grace is over.
    Stopped { serial: u64, options: DevicePluginOptions },
}

/// One resource.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) endpoint: Endpoint,
    /// A list has come, or the checkpoint had one: before that the kubelet calls the resource unregistered.
    pub(crate) listed: bool,
    pub(crate) devices: BTreeMap<String, DeviceView>,
    pub(crate) registrations: u64,
    pub(crate) violations: Vec<String>,
}

impl Resource {
    fn new() -> Self {
        Self {
            endpoint: Endpoint::Unknown,
            listed: false,
            devices: BTreeMap::new(),
            registrations: 0,
            violations: Vec::new(),
        }
    }

    pub(crate) fn healthy(&self) -> BTreeSet<String> {
        self.devices.iter().filter(|(_, device)| device.healthy).map(|(id, _)| id.clone()).collect()
    }
}

/// Every resource that was ever seen.
#[derive(Debug, Default)]
pub(crate) struct DeviceTable {
    resources: BTreeMap<String, Resource>,
}

impl DeviceTable {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Resource)> {
        self.resources.iter()
    }

    pub(crate) fn get(&self, resource: &str) -> Option<&Resource> {
        self.resources.get(resource)
    }

    /// The kubelet went down: what it knew of plugins is lost, what the checkpoint named is there, empty.
    /// The counts of registrations stay, for the scenarios' sake.
    pub(crate) fn restart(&mut self, registered: impl IntoIterator<Item = String>) {
        for resource in self.resources.values_mut() {
            resource.endpoint = Endpoint::Unknown;
            resource.listed = false;
            resource.devices.clear();
        }
        for name in registered {
            let resource = self.resources.entry(name).or_insert_with(Resource::new);
            resource.endpoint = Endpoint::Restored;
            resource.listed = true;
        }
    }

    /// A plugin registered. The devices stay as they were until its first list.
    pub(crate) fn connect(&mut self, name: &str, serial: u64, options: DevicePluginOptions) {
        let resource = self.resources.entry(name.to_owned()).or_insert_with(Resource::new);
        resource.endpoint = Endpoint::Connected { serial, options };
        resource.registrations += 1;
    }

    /// A list came on the stream of registration `serial`: it replaces the one before. False where another
    /// registration has taken the resource over.
    pub(crate) fn list(&mut self, name: &str, serial: u64, devices: Vec<Device>) -> bool {
        let Some(resource) = self.resources.get_mut(name) else { return false };
        if !matches!(resource.endpoint, Endpoint::Connected { serial: current, .. } if current == serial) {
            return false;
        }
        resource.listed = true;
        resource.devices.clear();
        for device in devices {
            note_violations(resource, &device);
            let numa = device.topology.map(|topology| topology.nodes).unwrap_or_default();
            let numa = numa.into_iter().map(|node| node.id).collect();
            resource.devices.insert(device.id, DeviceView { healthy: device.health == HEALTHY, numa });
        }
        true
    }

    /// The stream of registration `serial` ended: its devices are unhealthy from now on.
    pub(crate) fn disconnect(&mut self, name: &str, serial: u64) -> bool {
        let Some(resource) = self.resources.get_mut(name) else { return false };
        match resource.endpoint {
            Endpoint::Connected { serial: current, options } if current == serial => {
                resource.endpoint = Endpoint::Stopped { serial, options };
            }
            _ => return false,
        }
        for device in resource.devices.values_mut() {
            device.healthy = false;
        }
        true
    }

    /// The grace is over: a resource that still stands as `stopped` did is gone, and its capacity with it.
    pub(crate) fn expire(&mut self, name: &str, stopped: Endpoint) -> bool {
        let Some(resource) = self.resources.get_mut(name) else { return false };
        if resource.endpoint != stopped {
            return false;
        }
        resource.endpoint = Endpoint::Unknown;
        resource.listed = false;
        resource.devices.clear();
        true
    }
}

/// Notes where a list breaks a documented rule. The kubelet accepts such lists, so the double does too.
fn note_violations(resource: &mut Resource, device: &Device) {
    let mut note = |violation: String| {
        if !resource.violations.contains(&violation) {
            resource.violations.push(violation);
        }
    };
    if device.id.is_empty() || device.id.len() > DEVICE_ID_MAX {
        note(format!("the id {:?} has {} characters", device.id, device.id.len()));
    }
    if resource.devices.contains_key(&device.id) {
        note(format!("the id {:?} is listed twice", device.id));
    }
    if device.health != HEALTHY && device.health != UNHEALTHY {
        note(format!("the health {:?} of {:?} is no health", device.health, device.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, health: &str) -> Device {
        Device { id: id.to_owned(), health: health.to_owned(), topology: None }
    }

    fn table() -> DeviceTable {
        let mut table = DeviceTable::default();
        table.connect("r", 1, DevicePluginOptions::default());
        table.list("r", 1, vec![device("a", HEALTHY), device("b", UNHEALTHY)]);
        table
    }

    #[test]
    fn a_list_replaces_the_one_before() {
        let mut table = table();
        assert_eq!(table.get("r").unwrap().healthy(), BTreeSet::from(["a".to_owned()]));
        assert!(table.list("r", 1, vec![device("c", HEALTHY)]));
        assert_eq!(table.get("r").unwrap().devices.keys().collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn a_replaced_registration_has_no_say() {
        let mut table = table();
        table.connect("r", 2, DevicePluginOptions::default());
        assert!(!table.list("r", 1, vec![]));
        assert!(!table.disconnect("r", 1));
        assert_eq!(table.get("r").unwrap().devices.len(), 2);
        assert_eq!(table.get("r").unwrap().registrations, 2);
    }

    #[test]
    fn devices_of_a_gone_plugin_linger_unhealthy_and_then_vanish() {
        let mut table = table();
        assert!(table.disconnect("r", 1));
        assert!(table.get("r").unwrap().healthy().is_empty());
        assert_eq!(table.get("r").unwrap().devices.len(), 2);
        let stopped = table.get("r").unwrap().endpoint;
        assert!(table.expire("r", stopped));
        assert!(table.get("r").unwrap().devices.is_empty());
    }

    #[test]
    fn a_grace_that_a_new_registration_overtook_expires_nothing() {
        let mut table = table();
        table.disconnect("r", 1);
        let stopped = table.get("r").unwrap().endpoint;
        table.connect("r", 2, DevicePluginOptions::default());
        assert!(!table.expire("r", stopped));
    }

    #[test]
    fn a_restart_keeps_the_checkpoints_resources_empty() {
        let mut table = table();
        table.restart(["r".to_owned()]);
        let resource = table.get("r").unwrap();
        assert!(resource.listed && resource.devices.is_empty());
        assert_eq!(resource.endpoint, Endpoint::Restored);
    }

    #[test]
    fn lists_that_break_the_documented_rules_are_noted() {
        let mut table = table();
        table.list("r", 1, vec![device(&"x".repeat(64), HEALTHY), device("a", "Fine"), device("a", HEALTHY)]);
        assert_eq!(table.get("r").unwrap().violations.len(), 3);
    }
}
