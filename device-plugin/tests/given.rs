//! The command `given`, of a container with a device and of one without.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use std::fs;

use doorbell_device_plugin::{given, publish};
use node::{GOOD, Node};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- {name: fast, access: vfio, select: {pfNames: ['ens1f0#0']}}
";
const VF: &str = "0000:01:00.1";
const FOLDER: &str = "/run/container";

/// What the plugin publishes, where a container would see it.
fn container() -> Node {
    let node = Node::with(&[GOOD]);
    publish::all(&node.host(), &node.inventory(CONFIG)).unwrap();
    let of_device = node.at(&format!("run/container/fast/{VF}"));
    fs::create_dir_all(&of_device).unwrap();
    let described = node.at(&format!("run/doorbell/devices/{VF}/device.json"));
    fs::copy(described, of_device.join("device.json")).unwrap();
    node
}

#[test]
fn each_node_of_each_device_is_opened() {
    let node = container();
    let shown = given::given(&node.host(), Some(FOLDER)).unwrap();
    assert!(shown.ok, "{}", shown.text);
    let lines: Vec<&str> = shown.text.lines().collect();
    assert_eq!(lines[0], "doorbell.dev/fast 0000:01:00.1: vfio, isolated by iommu-rid, doorbell direct");
    assert_eq!(lines[1..], ["  /dev/vfio/7 opens", "  /dev/vfio/vfio opens"]);
}

#[test]
fn a_node_that_does_not_open_is_named_with_the_kernels_word() {
    let node = container();
    fs::remove_file(node.at("dev/vfio/7")).unwrap();
    let shown = given::given(&node.host(), Some(FOLDER)).unwrap();
    assert!(!shown.ok && shown.text.contains("/dev/vfio/7 does not open: No such file"), "{}", shown.text);
}

#[test]
fn a_container_without_a_device_is_told_so() {
    let node = Node::with(&[GOOD]);
    let said = |folder| format!("{:#}", given::given(&node.host(), folder).unwrap_err());
    assert_eq!(said(None), "DOORBELL_DESCRIPTORS is not set: this container was given no device");
    fs::create_dir_all(node.at("run/container")).unwrap();
    assert_eq!(said(Some(FOLDER)), "/run/container describes no device");
}
