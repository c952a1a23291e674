//! CHECK after an ADD, and after something was changed behind it, by this machine's kernel.

use doorbell_common::formats::cni::code;
use doorbell_common::kernel::link::LinkChange;
use serde_json::{Value, json};

use crate::add::tests::{ANSWER, Node, conf};
use crate::failure::NOT_AS_WIRED;
use crate::rig::{id, link};

use super::*;

/// A node whose pod is wired, and what CHECK gets.
fn wired() -> (Node, Value) {
    let node = Node::new(ANSWER);
    let mut conf = conf(json!({ "mac": "02:00:00:00:00:11", "mtu": 1400, "ipam": { "type": "pool" } }));
    let result = node.add(&conf).unwrap();
    // The kernel's part in sysfs: it is in the pod.
    node.rig.shows(&[]);
    conf["prevResult"] = result;
    (node, conf)
}

fn found(node: &Node, conf: &Value) -> String {
    let failure = node.call("CHECK", conf).unwrap_err();
    assert_eq!(failure.code, NOT_AS_WIRED, "{failure:?}");
    assert_eq!(failure.msg, format!("device {} is not as it was wired", id()));
    failure.details
}

fn set(node: &Node, change: &LinkChange) {
    let mut inside = node.rig.inside();
    let index = link(&mut inside, "net1").unwrap().index;
    doorbell_common::kernel::link::set(&mut inside, index, change).unwrap();
}

#[test]
fn what_stands_is_found_to_stand_and_the_ipam_plugin_is_asked_too() {
    let (node, conf) = wired();
    assert_eq!(node.call("CHECK", &conf).unwrap(), None);
    assert_eq!(node.ipam_calls(), "ADD\nCHECK\n");
}

#[test]
fn each_difference_has_its_name() {
    let (node, conf) = wired();
    set(&node, &LinkChange { mtu: Some(1300), ..Default::default() });
    assert_eq!(found(&node, &conf), "net1 has MTU 1300, and is to have 1400");
    set(&node, &LinkChange { mtu: Some(1400), up: Some(false), ..Default::default() });
    assert_eq!(found(&node, &conf), "net1 is down");
    let mac = "02:00:00:00:00:12".parse().ok();
    set(&node, &LinkChange { mac, ..Default::default() });
    set(&node, &LinkChange { up: Some(true), ..Default::default() });
    assert_eq!(found(&node, &conf), "net1 has address 02:00:00:00:00:12 and had address 02:00:00:00:00:11");
    let mac = "02:00:00:00:00:11".parse().ok();
    set(&node, &LinkChange { mac, ..Default::default() });
    assert_eq!(node.call("CHECK", &conf).unwrap(), None);

    let mut other = conf.clone();
    other["prevResult"]["interfaces"][0]["name"] = json!("eth7");
    assert_eq!(found(&node, &other), "prevResult has no interface net1");
    other["prevResult"]["interfaces"][0]["name"] = json!("net1");
    other["prevResult"]["interfaces"][0]["mac"] = json!("02:00:00:00:00:99");
    assert_eq!(found(&node, &other), "net1 has address 02:00:00:00:00:11, by prevResult 02:00:00:00:00:99");
}

#[test]
fn an_interface_or_a_file_that_is_gone_is_told() {
    let (node, conf) = wired();
    let attachment = format!("{}/{}", descriptor::folder(&id()), descriptor::ATTACHMENT_FILE);
    let text = node.rig.host.read(&attachment).unwrap();
    node.rig.host.remove(&attachment).unwrap();
    assert_eq!(found(&node, &conf), "its attachment.json is gone");
    node.rig.host.replace(&attachment, &text).unwrap();
    set(&node, &LinkChange { up: Some(false), ..Default::default() });
    set(&node, &LinkChange { name: "net2".parse().ok(), ..Default::default() });
    assert_eq!(found(&node, &conf), "there is no interface net1 in its sandbox");
}

#[test]
fn a_pod_whose_claim_is_gone_or_of_another_boot_is_not_wired() {
    let (node, conf) = wired();
    crate::rig::write(&node.rig.host, "/proc/sys/kernel/random/boot_id", "b2\n");
    assert_eq!(found(&node, &conf), "it was wired before the node was booted");
    claim::remove(&node.rig.host, &id()).unwrap();
    assert_eq!(found(&node, &conf), "no claim of this sandbox and interface is on it");
}

#[test]
fn without_the_result_of_the_add_nothing_can_be_checked() {
    let (node, mut conf) = wired();
    conf.as_object_mut().unwrap().remove("prevResult");
    assert_eq!(node.call("CHECK", &conf).unwrap_err().code, code::BAD_CONFIG);
}
