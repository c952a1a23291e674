//! Our CDI specifications, loaded and injected by the reference implementation as a container runtime does it.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use container_device_interface::device::Device;
use container_device_interface::spec::{self, Spec};
use container_device_interface::version;
use doorbell_device_plugin::publish;
use serde_json::{Value, json};

use node::{GOOD, Node, Vf};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
cdi: true
pools:
- {name: fast, access: vfio, select: {pfNames: [ens1f0]}}
";

const FILE: &str = "var/run/cdi/doorbell-fast.json";

/// A node whose specification is written, and what stands in it.
fn published(vfs: &[Vf]) -> (Node, Value) {
    let node = Node::with(vfs);
    publish::all(&node.host(), &node.inventory(CONFIG)).unwrap();
    let written = serde_json::from_str(&node.text(FILE)).unwrap();
    (node, written)
}

/// As a runtime loads it: parsed, held against the schema, validated.
fn load(node: &Node) -> Spec {
    spec::read_spec(&node.at(FILE), 0).unwrap()
}

/// A container, once it is given the one device. Nodes are looked up on the machine, so one that every machine has stands
/// for each of them there.
fn injected() -> Value {
    let (node, mut written) = published(&[GOOD]);
    for node in written["devices"][0]["containerEdits"]["deviceNodes"].as_array_mut().unwrap() {
        node["hostPath"] = json!("/dev/null");
    }
    node.write(FILE, written.to_string().as_bytes());
    let mut device = load(&node).get_device("0000:01:00.1").unwrap().clone();
    let process = json!({ "cwd": "/", "user": { "uid": 0, "gid": 0 }, "env": ["A=b"] });
    let proc = json!({ "destination": "/proc" });
    let container = json!({ "ociVersion": "1.0.2", "process": process, "mounts": [proc] });
    let mut container = serde_json::from_value(container).unwrap();
    device.apply_edits(&mut container).unwrap();
    serde_json::to_value(container).unwrap()
}

#[test]
fn a_specification_loads_with_a_device_for_each_vf() {
    let (node, _) = published(&[GOOD, Vf { group: 8, ..GOOD }]);
    let names: Vec<String> = load(&node).get_devices().values().map(Device::get_qualified_name).collect();
    assert_eq!(names, ["doorbell.dev/fast=0000:01:00.1", "doorbell.dev/fast=0000:01:00.2"]);
}

#[test]
fn the_version_is_the_oldest_that_has_what_is_said() {
    let (node, written) = published(&[GOOD]);
    let oldest = version::minimum_required_version(&load(&node).cdi_spec).unwrap();
    assert_eq!(written["cdiVersion"], oldest.to_string());
}

#[test]
fn a_container_gets_the_two_nodes() {
    let container = injected();
    let devices = container["linux"]["devices"].as_array().unwrap();
    let paths: Vec<&Value> = devices.iter().map(|node| &node["path"]).collect();
    assert_eq!(paths, ["/dev/vfio/7", "/dev/vfio/vfio"]);
}

#[test]
fn a_container_may_read_and_write_its_nodes_and_make_none() {
    let container = injected();
    let access: Vec<&Value> = container["linux"]["resources"]["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| &rule["access"])
        .collect();
    assert!(!access.is_empty() && access.iter().all(|access| *access == "rw"), "{access:?}");
}

#[test]
fn a_container_gets_its_descriptor_read_only() {
    let mount = json!({
        "destination": "/run/doorbell/fast/0000:01:00.1",
        "source": "/run/doorbell/devices/0000:01:00.1",
        "options": ["ro", "rbind", "nosuid", "nodev"],
    });
    assert_eq!(injected()["mounts"], json!([{ "destination": "/proc" }, mount]));
}

#[test]
fn a_container_gets_the_one_variable() {
    assert_eq!(injected()["process"]["env"], json!(["A=b", "DOORBELL_DESCRIPTORS=/run/doorbell"]));
}
