//! Allocate and PreStartContainer: what a pod is given, and what is refused.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use std::fs;
use std::os::unix::fs::symlink;

use doorbell_common::kubelet::deviceplugin::{CdiDevice, ContainerAllocateResponse};
use doorbell_device_plugin::config::{Config, PoolName};
use doorbell_device_plugin::guard::Refusal;
use doorbell_device_plugin::{allocate, publish, scan};
use serde_json::{Value, json};

use node::{GOOD, Node, PAGE, Vf};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- {name: fast, access: vfio, select: {pfNames: ['ens1f0#0-1']}}
- {name: rest, access: vfio, select: {pfNames: [ens1f0]}}
";

fn node() -> Node {
    Node::with(&[GOOD, Vf { group: 8, ..GOOD }, Vf { group: 9, ..GOOD }])
}

fn ask(node: &Node, change: impl FnOnce(&Node), ids: &[&str]) -> Result<ContainerAllocateResponse, Refusal> {
    let inventory = node.inventory(CONFIG);
    let name: PoolName = "fast".parse().unwrap();
    publish::all(&node.host(), &inventory).unwrap();
    change(node);
    let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    allocate::answer(&node.host(), &inventory, &name, &ids)
}

#[test]
fn a_vf_that_two_pools_select_goes_to_the_first() {
    let inventory = node().inventory(CONFIG);
    let ids = |pool: &str| -> Vec<String> {
        inventory.pools[&pool.parse().unwrap()].devices.keys().map(ToString::to_string).collect()
    };
    assert_eq!(ids("fast"), ["0000:01:00.1", "0000:01:00.2"]);
    assert_eq!(ids("rest"), ["0000:01:00.3"]);
}

#[test]
fn a_container_gets_its_groups_and_descriptors_and_no_more() {
    let answer = ask(&node(), |_| {}, &["0000:01:00.1", "0000:01:00.2"]).unwrap();
    let devices: Vec<_> =
        answer.devices.iter().map(|node| (node.host_path.as_str(), node.permissions.as_str())).collect();
    assert_eq!(devices, [("/dev/vfio/7", "rw"), ("/dev/vfio/8", "rw"), ("/dev/vfio/vfio", "rw")]);
    assert!(answer.devices.iter().all(|node| node.container_path == node.host_path));
    let mounts: Vec<_> = answer
        .mounts
        .iter()
        .map(|mount| (mount.host_path.as_str(), mount.container_path.as_str(), mount.read_only))
        .collect();
    assert_eq!(
        mounts,
        [
            ("/run/doorbell/devices/0000:01:00.1", "/run/doorbell/fast/0000:01:00.1", true),
            ("/run/doorbell/devices/0000:01:00.2", "/run/doorbell/fast/0000:01:00.2", true),
        ]
    );
}

#[test]
fn the_environment_is_the_fields_own() {
    let envs = ask(&node(), |_| {}, &["0000:01:00.2", "0000:01:00.1"]).unwrap().envs;
    assert_eq!(envs["PCIDEVICE_DOORBELL_DEV_FAST"], "0000:01:00.2,0000:01:00.1");
    assert_eq!(envs["DOORBELL_DESCRIPTORS"], "/run/doorbell");
    let info: Value = serde_json::from_str(&envs["PCIDEVICE_DOORBELL_DEV_FAST_INFO"]).unwrap();
    let vfio = json!({ "mount": "/dev/vfio/vfio", "dev-mount": "/dev/vfio/7" });
    assert_eq!(info["0000:01:00.1"], json!({ "generic": { "deviceID": "0000:01:00.1" }, "vfio": vfio }));
}

#[test]
fn the_same_question_has_the_same_answer() {
    let node = node();
    let ask = || ask(&node, |_| {}, &["0000:01:00.1"]).unwrap();
    assert_eq!(ask(), ask());
}

/// What the CNI wrote for a sandbox stands while a container of that sandbox is allocated its device again.
#[test]
fn the_attachment_is_not_allocates_to_touch() {
    let node = node();
    let file = "run/doorbell/devices/0000:01:00.1/attachment.json";
    node.write(file, b"{}");
    ask(&node, |_| {}, &["0000:01:00.1"]).unwrap();
    ask(&node, |_| {}, &["0000:01:00.1"]).unwrap();
    assert_eq!(node.text(file), "{}");
}

fn ask_of(node: &Node, config: &str) -> ContainerAllocateResponse {
    let inventory = node.inventory(config);
    publish::all(&node.host(), &inventory).unwrap();
    let ids = ["0000:01:00.1".to_owned()];
    allocate::answer(&node.host(), &inventory, &"fast".parse().unwrap(), &ids).unwrap()
}

#[test]
fn by_cdi_the_answer_names_the_device_and_no_node() {
    let answer = ask_of(&node(), &format!("{CONFIG}cdi: true\n"));
    assert_eq!(answer.cdi_devices, [CdiDevice { name: "doorbell.dev/fast=0000:01:00.1".to_owned() }]);
    assert_eq!(answer.envs.len(), 3, "{:?}", answer.envs);
    assert!(answer.devices.is_empty() && answer.mounts.is_empty() && answer.annotations.is_empty());
    assert!(!format!("{answer:?}").contains("/dev/"), "{answer:?}");
}

const IOMMUFD: &str = "\
apiVersion: doorbell.dev/v1
pools:
- {name: fast, access: vfio, select: {pfNames: [ens1f0]}, iommufd: true}
";

#[test]
fn an_iommufd_pool_hands_out_the_devices_own_node() {
    let answer = ask_of(&Node::with_cdevs(&[GOOD]), IOMMUFD);
    let devices: Vec<_> =
        answer.devices.iter().map(|node| (node.host_path.as_str(), node.permissions.as_str())).collect();
    assert_eq!(devices, [("/dev/iommu", "rw"), ("/dev/vfio/devices/vfio0", "rw")]);
    let info: Value = serde_json::from_str(&answer.envs["PCIDEVICE_DOORBELL_DEV_FAST_INFO"]).unwrap();
    let vfio = json!({ "mount": "/dev/iommu", "dev-mount": "/dev/vfio/devices/vfio0" });
    assert_eq!(info["0000:01:00.1"]["vfio"], vfio);
}

#[test]
fn an_iommufd_pool_has_no_device_on_a_kernel_without() {
    let node = node();
    assert!(node.inventory(IOMMUFD).pools[&"fast".parse().unwrap()].devices.is_empty());
    let config = Config::parse("pools.yaml", IOMMUFD).unwrap();
    assert_eq!(
        scan::rows(&node.host(), Some(&config), PAGE).unwrap()[0].reasons,
        ["no node of its own below /dev/vfio/devices (does the kernel have CONFIG_VFIO_DEVICE_CDEV?)"]
    );
}

#[test]
fn what_is_not_in_the_pool_is_unknown() {
    for id in ["0000:01:00.3", "0000:01:00.7", "", "../../etc"] {
        assert!(matches!(ask(&node(), |_| {}, &[id]), Err(Refusal::Unknown { .. })), "{id}");
    }
}

#[test]
fn nothing_and_one_device_twice_are_no_set() {
    for ids in [&[][..], &["0000:01:00.1", "0000:01:00.1"]] {
        assert!(matches!(ask(&node(), |_| {}, ids), Err(Refusal::NotASet(_))), "{ids:?}");
    }
}

#[test]
fn a_device_that_changed_is_refused_with_what_changed() {
    let changed = |change: fn(&Node)| ask(&node(), change, &["0000:01:00.1"]).unwrap_err().to_string();
    let vf = "sys/bus/pci/devices/0000:01:00.1";

    let other_driver = changed(|node| {
        let driver = node.root.path().join("sys/bus/pci/devices/0000:01:00.1/driver");
        fs::remove_file(&driver).unwrap();
        symlink("../../drivers/virtio-pci", &driver).unwrap();
    });
    assert!(other_driver.ends_with("it was on vfio-pci and is on virtio-pci"), "{other_driver}");

    let joined = changed(|node| {
        let member = "sys/kernel/iommu_groups/7/devices/0000:09:00.0";
        node.write("sys/bus/pci/devices/0000:09:00.0/class", b"0x020000\n");
        fs::create_dir_all(node.root.path().join(member)).unwrap();
    });
    assert!(joined.ends_with("IOMMU group 7 is shared with 0000:09:00.0"), "{joined}");

    let unsafe_interrupts =
        changed(|node| node.write("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", b"Y\n"));
    assert!(unsafe_interrupts.contains("allow_unsafe_interrupts"), "{unsafe_interrupts}");

    let no_node = changed(|node| fs::remove_file(node.root.path().join("dev/vfio/7")).unwrap());
    assert!(no_node.ends_with("/dev/vfio/7 is not there"), "{no_node}");

    let gone = ask(&node(), |node| fs::remove_dir_all(node.root.path().join(vf)).unwrap(), &["0000:01:00.1"]);
    assert!(matches!(gone, Err(Refusal::Changed { .. })));
}
