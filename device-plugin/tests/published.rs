//! What is written of the advertised devices: when it is written, when it goes, and what stands in it.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use std::fs;
use std::os::unix::fs::MetadataExt;

use doorbell_device_plugin::publish;
use serde_json::{Value, json};

use node::{GOOD, Node, PAGE, Vf};

const ONE_POOL: &str = "\
apiVersion: doorbell.dev/v1
cdi: true
pools:
- {name: fast, access: vfio, select: {pfNames: ['ens1f0#0']}}
";
const REST: &str = "- {name: rest, access: vfio, select: {pfNames: ['ens1f0#1']}}\n";
const INFO: &str = "var/run/k8s.cni.cncf.io/devinfo/dp";

fn node() -> Node {
    Node::with(&[GOOD, Vf { group: 8, ..GOOD }])
}

fn two_pools() -> String {
    format!("{ONE_POOL}{REST}")
}

fn publish(node: &Node, config: &str) {
    publish::all(&node.host(), &node.inventory(config)).unwrap();
}

fn json_of(node: &Node, path: &str) -> Value {
    serde_json::from_str(&node.text(path)).unwrap()
}

fn names(node: &Node, folder: &str) -> Vec<String> {
    node.host().list(format!("/{folder}")).unwrap()
}

#[test]
fn a_pool_that_loses_all_devices_loses_its_specification() {
    let node = node();
    publish(&node, &two_pools());
    assert_eq!(names(&node, "var/run/cdi"), ["doorbell-fast.json", "doorbell-rest.json"]);
    node.reconfigure("0000:01:00.2", &Vf { multiplier: 6, ..GOOD });
    publish(&node, &two_pools());
    assert_eq!(names(&node, "var/run/cdi"), ["doorbell-fast.json"]);
}

#[test]
fn a_pool_that_leaves_the_config_loses_its_specification() {
    let node = node();
    publish(&node, &two_pools());
    publish(&node, ONE_POOL);
    assert_eq!(names(&node, "var/run/cdi"), ["doorbell-fast.json"]);
}

#[test]
fn where_the_runtime_takes_no_cdi_no_specification_stays() {
    let node = node();
    publish(&node, ONE_POOL);
    publish(&node, &ONE_POOL.replace("cdi: true", "cdi: false"));
    assert!(names(&node, "var/run/cdi").is_empty());
}

#[test]
fn a_specification_of_another_stays() {
    let node = node();
    node.write("var/run/cdi/vendor-gpu.json", b"{}");
    publish(&node, ONE_POOL);
    assert_eq!(names(&node, "var/run/cdi"), ["doorbell-fast.json", "vendor-gpu.json"]);
}

#[test]
fn what_is_right_already_is_not_written() {
    let node = node();
    let files = [
        "run/doorbell/devices/0000:01:00.1/device.json",
        "var/run/cdi/doorbell-fast.json",
        "var/run/k8s.cni.cncf.io/devinfo/dp/doorbell.dev-fast-0000:01:00.1-device.json",
    ];
    // A file that is written is another one: it is replaced whole.
    let inodes = || files.map(|file| fs::metadata(node.at(file)).unwrap().ino());
    publish(&node, ONE_POOL);
    let before = inodes();
    publish(&node, ONE_POOL);
    assert_eq!(inodes(), before);
}

#[test]
fn what_was_tampered_with_is_written_again() {
    let node = node();
    let file = "run/doorbell/devices/0000:01:00.1/device.json";
    publish(&node, ONE_POOL);
    let before = node.text(file);
    node.write(file, b"{}");
    publish(&node, ONE_POOL);
    assert_eq!(node.text(file), before);
}

#[test]
fn device_info_of_what_is_no_longer_advertised_goes() {
    let node = node();
    publish(&node, &two_pools());
    publish(&node, ONE_POOL);
    assert_eq!(names(&node, INFO), ["doorbell.dev-fast-0000:01:00.1-device.json"]);
}

#[test]
fn device_info_of_other_resources_stays() {
    let node = node();
    let others =
        ["doorbell.example.com-fast-0000:01:00.1-device.json", "intel.com-sriov-0000:01:00.1-device.json"];
    for other in others {
        node.write(&format!("{INFO}/{other}"), b"{}");
    }
    publish(&node, ONE_POOL);
    let names = names(&node, INFO);
    assert!(others.iter().all(|other| names.iter().any(|name| name == other)), "{names:?}");
}

#[test]
fn mode_and_owner_of_a_pool_stand_in_its_specification() {
    let node = node();
    let owned = ONE_POOL.replace("}}", "}, nodeMode: '0660', nodeOwner: {uid: 107, gid: 36}}");
    publish(&node, &owned);
    let specification = json_of(&node, "var/run/cdi/doorbell-fast.json");
    let node =
        |path: &str| json!({ "path": path, "permissions": "rw", "fileMode": 0o660, "uid": 107, "gid": 36 });
    assert_eq!(
        specification["devices"][0]["containerEdits"]["deviceNodes"],
        json!([node("/dev/vfio/7"), node("/dev/vfio/vfio")])
    );
}

#[test]
fn a_descriptor_says_how_large_pages_are() {
    let pages = |vf: Vf, page: u64| {
        let node = Node::with(&[vf]);
        publish::all(&node.host(), &node.inventory_with(ONE_POOL, page)).unwrap();
        json_of(&node, "run/doorbell/devices/0000:01:00.1/device.json")["memory"]["pageSize"].clone()
    };
    assert_eq!(pages(GOOD, PAGE), json!(4096));
    let roomy = Vf { notify_offset: 0x1_0000, bar_length: 0x2_0000, ..GOOD };
    assert_eq!(pages(roomy, 0x1_0000), json!(65536));
}
