//! Pools for Kata Containers: what their VMs are given, and how they ring.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use doorbell_common::formats::descriptor;
use doorbell_common::kubelet::deviceplugin::ContainerAllocateResponse;
use doorbell_device_plugin::{allocate, publish};
use serde_json::{Value, json};

use node::{GOOD, Node, Vf};

fn node() -> Node {
    Node::with(&[GOOD, Vf { group: 8, ..GOOD }, Vf { group: 9, ..GOOD }])
}

/// The answer for one container of a Kata pool, and the nodes in the pool's CDI specification.
fn for_kata(node: &Node, options: &str) -> (ContainerAllocateResponse, Vec<Value>) {
    let config = format!(
        "apiVersion: doorbell.dev/v1\n{options}\npools:\n- {{name: fast, access: vfio, runtime: kata, select: {{pfNames: [ens1f0]}}}}\n"
    );
    let inventory = node.inventory(&config);
    publish::all(&node.host(), &inventory).unwrap();
    let ids = ["0000:01:00.1", "0000:01:00.2"].map(str::to_owned);
    let answer = allocate::answer(&node.host(), &inventory, &"fast".parse().unwrap(), &ids).unwrap();
    let specification: Value = serde_json::from_str(&node.text("var/run/cdi/doorbell-fast.json")).unwrap();
    let devices = specification["devices"].as_array().unwrap();
    let nodes = devices.iter().map(|device| device["containerEdits"]["deviceNodes"].clone()).collect();
    (answer, nodes)
}

#[test]
fn kata_gets_one_node_a_device_and_what_it_translates() {
    let (answer, specified) = for_kata(&node(), "cdi: false");
    let devices: Vec<_> = answer.devices.iter().map(|node| node.host_path.as_str()).collect();
    assert_eq!(devices, ["/dev/vfio/7", "/dev/vfio/8"]);
    let mut variables: Vec<_> =
        answer.envs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    variables.sort_unstable();
    let expected = [
        ("DOORBELL_DESCRIPTORS", "/run/doorbell"),
        ("PCIDEVICE_DOORBELL_DEV_FAST", "0000:01:00.1,0000:01:00.2"),
    ];
    assert_eq!(variables, expected);
    let one = |path: &str| json!([{ "path": path, "permissions": "rw" }]);
    assert_eq!(specified, [one("/dev/vfio/7"), one("/dev/vfio/8"), one("/dev/vfio/9")]);
}

#[test]
fn kata_is_told_no_node_twice() {
    let (answer, specified) = for_kata(&node(), "cdi: true");
    assert!(answer.devices.is_empty() && specified.len() == 3, "{specified:?}");
    let names: Vec<_> = answer.cdi_devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["doorbell.dev/fast=0000:01:00.1", "doorbell.dev/fast=0000:01:00.2"]);
}

#[test]
fn kata_looks_devices_up_by_the_resource() {
    let config = "apiVersion: doorbell.dev/v1\ncdi: true\npools:\n- {name: fast, resource: intel.com/fast_A, access: vfio, runtime: kata, select: {pfNames: [ens1f0]}}\n";
    let node = node();
    let inventory = node.inventory(config);
    publish::all(&node.host(), &inventory).unwrap();
    let ids = ["0000:01:00.1".to_owned()];
    let answer = allocate::answer(&node.host(), &inventory, &"fast".parse().unwrap(), &ids).unwrap();
    assert_eq!(answer.cdi_devices[0].name, "intel.com/fast_A=0000:01:00.1");
    let specification: Value = serde_json::from_str(&node.text("var/run/cdi/doorbell-fast.json")).unwrap();
    assert_eq!(specification["kind"], "intel.com/fast_A");
}

#[test]
fn a_guest_is_told_what_it_has_and_the_host_keeps_what_only_it_can_use() {
    let node = node();
    for_kata(&node, "cdi: true");
    let told = node.text("run/doorbell/devices/0000:01:00.1/device.json");
    assert!(!told.contains("/dev/"), "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["nodes"], json!({}));
    let guest = json!({ "pciIds": "1af4:1041", "pciAddressIn": "PCIDEVICE_DOORBELL_DEV_FAST" });
    assert_eq!(told["guest"], guest);

    let kept = descriptor::read_device(&node.host(), &"0000:01:00.1".parse().unwrap()).unwrap().unwrap();
    assert_eq!(kept.nodes.own(), Some("/dev/vfio/7"));
    assert_eq!((kept.iommu_group.map(|group| group.0), kept.guest), (Some(7), None));
}

#[test]
fn a_pool_that_is_for_vms_no_more_says_so_to_its_containers() {
    let node = node();
    for_kata(&node, "cdi: true");
    let config =
        "apiVersion: doorbell.dev/v1\npools: [{name: fast, access: vfio, select: {pfNames: [ens1f0]}}]\n";
    publish::all(&node.host(), &node.inventory(config)).unwrap();
    let told: Value =
        serde_json::from_str(&node.text("run/doorbell/devices/0000:01:00.1/device.json")).unwrap();
    assert_eq!(told["nodes"]["group"], "/dev/vfio/7");
    assert!(node.host().list("/run/doorbell/vms").unwrap().is_empty());
}

#[test]
fn nothing_is_handed_out_while_the_host_lacks_its_own_file() {
    let node = node();
    let config = "apiVersion: doorbell.dev/v1\npools: [{name: fast, access: vfio, runtime: kata, select: {pfNames: [ens1f0]}}]\n";
    let inventory = node.inventory(config);
    publish::all(&node.host(), &inventory).unwrap();
    node.remove("run/doorbell/vms/0000:01:00.1.json");
    let ids = ["0000:01:00.1".to_owned()];
    let refused = allocate::answer(&node.host(), &inventory, &"fast".parse().unwrap(), &ids).unwrap_err();
    let expected = "/run/doorbell/vms/0000:01:00.1.json is gone";
    assert!(refused.to_string().contains(expected), "{refused}");
}

/// A VF whose doorbell has the MSI-X table in its page.
const WITH_MSIX: Vf = Vf { notify_length: 0x800, msix_table: Some(0x3800), ..GOOD };

/// What becomes of the one VF in a pool with these fields: `device.json`, or what keeps it from being advertised;
/// nothing where it is not in the pool.
fn published(vf: Vf, fields: &str) -> Option<Result<Value, String>> {
    let node = Node::with(&[vf]);
    let config = format!("apiVersion: doorbell.dev/v1\npools:\n- {{name: fast, access: vfio, {fields}}}\n");
    let inventory = node.inventory(&config);
    publish::all(&node.host(), &inventory).unwrap();
    let pool = inventory.pools.values().next().unwrap();
    if let Some(why) = pool.refused.values().next() {
        return Some(Err(why.to_string()));
    }
    let id = pool.devices.keys().next()?;
    let described = node.text(&format!("run/doorbell/devices/{id}/device.json"));
    Some(Ok(serde_json::from_str(&described).unwrap()))
}

#[test]
fn a_doorbell_beside_the_msix_table_is_trapped_for_vms_and_for_nobody_else() {
    let device = published(WITH_MSIX, "runtime: kata, select: {pfNames: [ens1f0]}").unwrap().unwrap();
    let doorbell = &device["doorbell"];
    assert_eq!((&doorbell["verdict"], &doorbell["effective"]), (&json!("shared"), &json!("trapped")));
    assert!(
        doorbell["reason"].as_str().unwrap().starts_with("shared: the MSI-X table (BAR 4 0x3800.."),
        "{device}"
    );
    assert!(doorbell.get("region").is_none(), "{device}");

    let refused = published(WITH_MSIX, "select: {pfNames: [ens1f0]}").unwrap().unwrap_err();
    assert!(refused.starts_with("shared: the MSI-X table"), "{refused}");
    let exclusive = "runtime: kata, select: {pfNames: [ens1f0], doorbell: [exclusive]}";
    assert_eq!(published(WITH_MSIX, exclusive), None);
    let good = published(GOOD, exclusive).unwrap().unwrap();
    assert_eq!(good["doorbell"]["effective"], "direct");
}

#[test]
fn a_doorbell_beside_registers_is_refused_for_vms_too() {
    let both = Vf { notify_offset: 0x2800, notify_length: 0x1000, ..WITH_MSIX };
    let registers = Vf { notify_offset: 0x2800, notify_length: 0x800, ..GOOD };
    for beside in [both, registers] {
        let refused = published(beside, "runtime: kata, select: {pfNames: [ens1f0]}").unwrap().unwrap_err();
        assert!(refused.starts_with("shared: the device configuration"), "{refused}");
    }
}
