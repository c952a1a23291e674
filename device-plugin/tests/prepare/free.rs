//! What keeps a parent, and what stands on it, from being changed.

use std::collections::BTreeMap;
use std::fs;

use doorbell_common::allocation::{self, Allocation, By};
use doorbell_common::subdevice::{Child, Parent};
use doorbell_device_plugin::prepare::{Allocated, free};

use super::node::modes::{self, MDEV};
use super::node::{GOOD, Node};
use super::{VF, claim, hold, to_nobody, vf_on};

fn vf(address: &str) -> Parent {
    Parent::Vf(address.parse().unwrap())
}

fn parent(node: &Node, address: &str, allocated: &Allocated) -> Result<(), String> {
    free::parent(&node.host(), &vf(address), allocated)
}

fn to_pod(id: &str) -> Allocated {
    Allocated::To(BTreeMap::from([(id.to_owned(), "default/a".to_owned())]))
}

fn refused(reason: &str) -> Result<(), String> {
    Err(reason.to_owned())
}

#[test]
fn what_nobody_has_may_be_changed() {
    for address in modes::IDS.iter().filter(|id| id.starts_with("0000:")) {
        assert_eq!(parent(&modes::node(), address, &to_nobody()), Ok(()), "{address}");
    }
}

#[test]
fn what_a_pod_has_claimed_is_not_changed() {
    for address in ["0000:01:00.1", "0000:01:00.2", "0000:01:00.4", "0000:01:00.5"] {
        let node = modes::node();
        claim(&node, address);
        assert_eq!(parent(&node, address, &to_nobody()), refused("a pod has claimed it"));
    }
}

#[test]
fn who_holds_a_node_of_it_is_named() {
    for (address, held) in [
        ("0000:01:00.1", "/dev/vfio/7"),
        ("0000:01:00.2", "/dev/vhost-vdpa-0"),
        ("0000:01:00.3", "/dev/vhost-vdpa-1"),
    ] {
        let node = modes::node();
        hold(&node, held);
        let reason = format!("{held} is in use by process 42 (qemu)");
        assert_eq!(parent(&node, address, &to_nobody()), refused(&reason));
    }
}

#[test]
fn a_vf_is_held_by_its_own_node_too() {
    let node = Node::with_cdevs(&[GOOD]);
    hold(&node, "/dev/vfio/devices/vfio0");
    let reason = "/dev/vfio/devices/vfio0 is in use by process 42 (qemu)";
    assert_eq!(parent(&node, VF, &to_nobody()), refused(reason));
}

#[test]
fn who_holds_an_mdev_is_named_and_keeps_no_other() {
    let node = modes::node();
    hold(&node, "/dev/vfio/40");
    let mtty = Parent::Device("mtty".parse().unwrap());
    let child = Child::Mdev(MDEV.parse().unwrap());
    assert_eq!(
        free::child(&node.host(), &mtty, &child, &to_nobody()),
        refused("/dev/vfio/40 is in use by process 42 (qemu)")
    );
    let other = Child::Mdev("83b8f4f2-509f-382f-3c1e-e6bfe0fa1002".parse().unwrap());
    assert_eq!(free::child(&node.host(), &mtty, &other, &to_nobody()), Ok(()));
}

#[test]
fn what_the_kubelet_has_given_away_is_not_changed() {
    let node = modes::node();
    let reason = "the kubelet has given it to pod default/a";
    for address in ["0000:01:00.1", "0000:01:00.2"] {
        assert_eq!(parent(&node, address, &to_pod(address)), refused(reason));
    }
}

/// After a restart of the node the kubelet still counts devices as given that were on a driver then.
#[test]
fn what_has_no_node_nobody_can_have_got() {
    assert_eq!(parent(&vf_on(None), VF, &to_pod(VF)), Ok(()));
}

#[test]
fn of_a_kubelet_that_does_not_answer_only_what_was_never_given_is_free() {
    let unknown = Allocated::Unknown("no answer within 5 s".to_owned());
    let node = vf_on(Some("vfio-pci"));
    assert_eq!(parent(&node, VF, &unknown), Ok(()));
    let record = Allocation::new(VF.parse().unwrap(), "doorbell.dev/fast".to_owned(), By::Cdi);
    allocation::keep(&node.host(), &record).unwrap();
    assert_eq!(
        parent(&node, VF, &unknown),
        refused("a pod may have it: the kubelet does not say (no answer within 5 s)")
    );
}

#[test]
fn an_interface_that_is_out_of_sight_is_in_use() {
    let node = modes::node();
    let elsewhere = refused("its network interface is in another network namespace");
    fs::remove_dir(node.at("sys/bus/pci/devices/0000:01:00.5/virtio5/net/eth5")).unwrap();
    assert_eq!(parent(&node, "0000:01:00.5", &to_nobody()), elsewhere);
}
