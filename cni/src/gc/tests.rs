//! GC of attachments that are no more, by this machine's kernel.

use doorbell_common::formats::cni::code;
use serde_json::{Value, json};

use crate::add::tests::{ANSWER, Node, conf};
use crate::rig::{id, link};

use super::*;

fn wired() -> Node {
    let node = Node::new(ANSWER);
    node.add(&conf(json!({ "ipam": { "type": "pool" } }))).unwrap();
    node.rig.shows(&[]);
    node
}

fn gc(node: &Node, network: &str, valid: &Value) -> Result<Option<Value>, Failure> {
    let conf = json!({
        "cniVersion": "1.1.0", "name": network, "type": "doorbell", "ipam": { "type": "pool" },
        "cni.dev/valid-attachments": valid
    });
    node.call("GC", &conf)
}

fn is_wired(node: &Node) -> bool {
    let claimed = node.rig.claim().is_some();
    assert_eq!(claimed, node.attachment().is_some());
    assert_eq!(claimed, link(&mut node.rig.inside(), "net1").is_some());
    assert_eq!(!claimed, link(&mut node.rig.links(), "d0").is_some());
    claimed
}

#[test]
fn what_is_valid_stays_and_what_is_not_goes_as_by_its_del() {
    let node = wired();
    assert_eq!(gc(&node, "fast", &json!([{ "containerID": "c1", "ifname": "net1" }])).unwrap(), None);
    assert!(is_wired(&node));
    // The same container's other interface, and another container's.
    let others =
        json!([{ "containerID": "c1", "ifname": "net2" }, { "containerID": "c2", "ifname": "net1" }]);
    assert_eq!(gc(&node, "fast", &others).unwrap(), None);
    assert!(!is_wired(&node));
    assert_eq!(node.ipam_calls(), "ADD\nGC\nGC\n");
}

#[test]
fn what_another_network_holds_is_its_own() {
    let node = wired();
    gc(&node, "slow", &json!([])).unwrap();
    assert!(is_wired(&node));
    gc(&node, "fast", &json!([])).unwrap();
    assert!(!is_wired(&node));
}

#[test]
fn without_a_list_nothing_is_given_back() {
    let node = wired();
    assert_eq!(gc(&node, "fast", &Value::Null).unwrap_err().code, code::BAD_CONFIG);
    assert_eq!(gc(&node, "fast", &json!([{ "containerID": "c1" }])).unwrap_err().code, code::DECODE);
    assert!(is_wired(&node));
}

#[test]
fn what_a_boot_before_left_goes_too() {
    let node = wired();
    crate::rig::write(&node.rig.host, "/proc/sys/kernel/random/boot_id", "b2\n");
    gc(&node, "fast", &json!([])).unwrap();
    assert!(node.rig.claim().is_none() && node.attachment().is_none());
    assert!(claim::ids(&node.rig.host).unwrap().is_empty());
    assert_ne!(id().as_str(), "");
}
