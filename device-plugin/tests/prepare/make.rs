//! What is put on record, and told to the kernel, when something is made.

use std::fs;

use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::prepare::Settled;
use doorbell_device_plugin::{discovery, prepare};
use serde_json::{Value, json};

use super::node::standing::Vdpa;
use super::node::{GOOD, Node, PAGE, PF};
use super::{VF, claim, pool_of, pool_of_vfs, to_nobody, vf_on};

fn carry_out(node: &Node, config: &Config) {
    let survey = discovery::survey(&node.host(), PAGE).unwrap();
    assert!(prepare::carry_out(&node.host(), config, &survey, &to_nobody(), &mut Settled::default()));
}

/// What is on record of a device.
fn steps(node: &Node, of: &str) -> Value {
    let file = node.at(&format!("var/lib/doorbell/made/{of}.json"));
    let Ok(text) = fs::read_to_string(file) else { return json!([]) };
    serde_json::from_str::<Value>(&text).unwrap()["steps"].clone()
}

fn told(node: &Node, file: &str) -> String {
    node.text(file).trim().to_owned()
}

const CREATE: &str = "sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-1/create";

#[test]
fn an_mdev_is_on_record_and_has_the_same_name_at_each_start() {
    let one = pool_of("mdev", "mtty", "mdevType: mtty-1");
    let made = || {
        let node = Node::with(&[GOOD]);
        node.has_mtty(&[]);
        carry_out(&node, &one);
        let uuid = told(&node, CREATE);
        assert_eq!(steps(&node, "mtty"), json!([{ "mdev": uuid }]));
        // As after a kill between the record and the kernel's answer.
        carry_out(&node, &one);
        assert_eq!(steps(&node, "mtty"), json!([{ "mdev": uuid }]));
        uuid
    };
    assert_eq!(made(), made());
}

#[test]
fn a_type_that_its_parent_does_not_have_makes_nothing() {
    let node = Node::with(&[GOOD]);
    node.has_mtty(&[]);
    carry_out(&node, &pool_of("mdev", "mtty", "mdevType: mtty-9"));
    assert_eq!(told(&node, CREATE), "");
}

/// No kernel is there to make it. Somebody else's of that name must not be taken for ours later.
#[test]
fn a_vdpa_device_that_is_not_made_is_not_on_record() {
    let node = vf_on(Some("vp-vdpa"));
    node.can_make_vdpa(&[("pci/0000:01:00.1", 1 << 1), ("vdpasim_net", 1 << 1)]);
    node.has_vdpa(&[]);
    node.write("sys/bus/vdpa/drivers_autoprobe", b"1\n");
    carry_out(&node, &pool_of_vfs("vhost-vdpa", ""));
    assert_eq!(steps(&node, VF), json!([]));
    carry_out(&node, &pool_of("vhost-vdpa", "vdpasim_net", "perParent: 2"));
    assert_eq!(steps(&node, "vdpasim_net"), json!([]));
    // The bus is told to leave new devices alone for that time only.
    assert_eq!(told(&node, "sys/bus/vdpa/drivers_autoprobe"), "1");
    assert_eq!(steps(&node, "vdpa-bus"), json!([]));
}

/// A VF with a vDPA device that somebody made and bound to nothing.
fn found() -> Node {
    let node = vf_on(Some("vp-vdpa"));
    node.can_make_vdpa(&[("pci/0000:01:00.1", 1 << 1)]);
    node.has_vdpa(&[Vdpa { name: "vdpa0", of: "pci/0000:01:00.1", driver: None, kind: 1, number: 0 }]);
    node.write("sys/devices/pci0000:00/0000:01:00.1/vdpa0/driver_override", b"");
    node.write("sys/bus/vdpa/drivers/vhost_vdpa/bind", b"");
    node
}

#[test]
fn a_vdpa_device_that_somebody_made_is_used_and_where_it_was_is_on_record() {
    let node = found();
    carry_out(&node, &pool_of_vfs("vhost-vdpa", ""));
    assert_eq!(told(&node, "sys/bus/vdpa/drivers/vhost_vdpa/bind"), "vdpa0");
    assert_eq!(steps(&node, VF), json!([{ "bus-driver": { "name": "vdpa0", "was": null } }]));
}

#[test]
fn a_vdpa_device_that_a_pod_has_stays_where_it_is() {
    let node = found();
    claim(&node, VF);
    carry_out(&node, &pool_of_vfs("vhost-vdpa", ""));
    assert_eq!(told(&node, "sys/bus/vdpa/drivers/vhost_vdpa/bind"), "");
    assert_eq!(steps(&node, VF), json!([]));
}

#[test]
fn a_driver_that_is_not_loaded_leaves_its_vf_where_it_is() {
    let node = vf_on(Some("virtio-pci"));
    node.write(&format!("sys/bus/pci/devices/{VF}/driver_override"), b"");
    // That by which the attach would be shown is there.
    for driver in ["virtio-pci", "vfio-pci"] {
        node.write(&format!("sys/bus/pci/drivers/{driver}/unbind"), b"");
    }
    node.write("sys/bus/pci/drivers_probe", b"");
    node.remove(&format!("var/lib/doorbell/attaches/{PF}"));
    for access in ["vhost-vdpa", "virtio-vdpa"] {
        carry_out(&node, &pool_of_vfs(access, ""));
        assert_eq!(told(&node, "sys/bus/pci/drivers/virtio-pci/unbind"), "");
        assert_eq!(steps(&node, VF), json!([]));
    }
}
