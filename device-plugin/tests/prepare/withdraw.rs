//! What no pool wants any more is taken back, where it is ours and nobody's.

use std::fs;

use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::prepare::Settled;
use doorbell_device_plugin::{discovery, prepare};

use super::node::modes::{self, MDEV};
use super::node::standing::Vdpa;
use super::node::{GOOD, Node, PAGE, PF, Vf};
use super::{VF, claim, config, hold, no_pool, pool_of, pool_of_vfs, to_nobody, vf_on};

const FOUND_ON_NONE: &str = r#"{"driver":{"was":null}}"#;
const VFS: &str = r#"{"vfs":{"autoprobe":true}}"#;

impl Node {
    /// Files by which the kernel is told to bind functions.
    fn can_bind(&self) {
        self.write("sys/bus/pci/drivers_probe", b"");
        for driver in ["vfio-pci", "virtio-pci", "vp-vdpa"] {
            self.write(&format!("sys/bus/pci/drivers/{driver}/unbind"), b"");
        }
        for vf in self.host().list("/sys/bus/pci/devices").unwrap() {
            self.write(&format!("sys/bus/pci/devices/{vf}/driver_override"), b"");
        }
        self.write(&format!("sys/bus/pci/devices/{PF}/sriov_numvfs"), b"1\n");
        self.write(&format!("sys/bus/pci/devices/{PF}/sriov_drivers_autoprobe"), b"0\n");
    }

    fn has_record(&self, of: &str) -> bool {
        self.at(&format!("var/lib/doorbell/made/{of}.json")).exists()
    }

    fn told(&self, file: &str) -> String {
        self.text(file).trim().to_owned()
    }
}

/// Whether anything was changed.
fn withdraw(node: &Node, config: &Config) -> bool {
    let survey = discovery::survey(&node.host(), PAGE).unwrap();
    prepare::withdraw(&node.host(), config, &survey, &to_nobody(), &mut Settled::default())
}

/// A VF that was on no driver before it went to vfio-pci.
fn bound() -> Node {
    let node = vf_on(Some("vfio-pci"));
    node.can_bind();
    node.record(VF, FOUND_ON_NONE);
    node
}

/// Of whom vfio-pci was told to let go.
fn unbound(node: &Node) -> String {
    node.told("sys/bus/pci/drivers/vfio-pci/unbind")
}

#[test]
fn a_driver_that_no_pool_wants_is_given_back() {
    let node = bound();
    assert!(withdraw(&node, &no_pool()));
    assert_eq!((unbound(&node).as_str(), node.has_record(VF)), (VF, false));
}

#[test]
fn a_driver_that_a_pool_still_wants_stays() {
    let node = bound();
    assert!(!withdraw(&node, &pool_of_vfs("vfio", "")));
    assert_eq!((unbound(&node).as_str(), node.has_record(VF)), ("", true));
}

/// Whatever the kernel chose: at each start the interface would go and come.
#[test]
fn the_kernels_own_driver_stays_where_a_pool_wants_that() {
    let node = bound();
    node.drive(VF, Some("virtio-pci"));
    assert!(!withdraw(&node, &pool_of_vfs("netdev", "")));
    assert_eq!(node.told("sys/bus/pci/drivers/virtio-pci/unbind"), "");
    assert!(node.has_record(VF));
}

/// What it was found on is where it goes back to, once no pool has it.
#[test]
fn a_vf_that_another_mode_wants_keeps_its_record() {
    let node = bound();
    assert!(!withdraw(&node, &pool_of_vfs("vhost-vdpa", "")));
    assert!(node.has_record(VF));
}

#[test]
fn what_is_in_use_is_not_taken_back() {
    let claimed = bound();
    claim(&claimed, VF);
    let held = bound();
    hold(&held, "/dev/vfio/7");
    for node in [claimed, held] {
        withdraw(&node, &no_pool());
        assert_eq!((unbound(&node).as_str(), node.has_record(VF)), ("", true));
    }
}

#[test]
fn what_is_not_on_record_is_not_taken_back() {
    let node = bound();
    fs::remove_file(node.at(&format!("var/lib/doorbell/made/{VF}.json"))).unwrap();
    assert!(!withdraw(&node, &no_pool()));
    assert_eq!(unbound(&node), "");
}

#[test]
fn a_record_of_another_boot_is_dropped_and_says_nothing() {
    let node = bound();
    node.boot("b2");
    assert!(!withdraw(&node, &no_pool()));
    assert_eq!((unbound(&node).as_str(), node.has_record(VF)), ("", false));
}

#[test]
fn a_record_of_what_is_gone_is_dropped() {
    let node = bound();
    node.record("0000:01:00.7", FOUND_ON_NONE);
    node.record("vdpasim_net", r#"{"vdpa":"vdpasim_net-0"}"#);
    withdraw(&node, &pool_of_vfs("vfio", ""));
    assert!(!node.has_record("0000:01:00.7") && !node.has_record("vdpasim_net"));
}

#[test]
fn a_record_of_what_is_only_out_of_sight_stays() {
    let node = bound();
    node.remove(&format!("sys/bus/pci/devices/{VF}/vendor"));
    withdraw(&node, &no_pool());
    assert!(node.has_record(VF), "a VF that can't be read");

    let node = modes::node();
    // As where the kernel does not answer: no simulator is known then, and its devices are on the bus all the same.
    fs::remove_dir_all(node.at("netlink")).unwrap();
    node.record("vdpasim_net", r#"{"vdpa":"vdpasim_net-0"}"#);
    withdraw(&node, &no_pool());
    assert!(node.has_record("vdpasim_net"), "a simulator that netlink does not list");
}

#[test]
fn the_driver_of_a_vf_goes_not_from_below_somebody_elses_device() {
    let node = bound();
    node.drive(VF, Some("vp-vdpa"));
    node.has_vdpa(&[Vdpa { name: "vdpa0", of: "pci/0000:01:00.1", driver: None, kind: 1, number: 0 }]);
    withdraw(&node, &no_pool());
    assert_eq!(node.told("sys/bus/pci/drivers/vp-vdpa/unbind"), "");
    assert!(node.has_record(VF));
}

#[test]
fn vfs_that_no_pool_wants_are_removed_once_all_are_free() {
    let node = bound();
    // As the kernel leaves it once it is given back.
    node.drive(VF, None);
    node.record(PF, VFS);
    assert!(withdraw(&node, &no_pool()));
    let of_pf = |file: &str| node.told(&format!("sys/bus/pci/devices/{PF}/{file}"));
    assert_eq!((of_pf("sriov_numvfs").as_str(), of_pf("sriov_drivers_autoprobe").as_str()), ("0", "1"));
    assert!(!node.has_record(PF) && !node.has_record(VF));
}

#[test]
fn a_vf_that_somebody_has_put_on_a_driver_keeps_all_vfs_of_its_pf() {
    let node = Node::with(&[GOOD]);
    node.can_bind();
    node.drive(VF, Some("virtio-pci"));
    node.record(PF, VFS);
    withdraw(&node, &no_pool());
    assert_eq!(node.told(&format!("sys/bus/pci/devices/{PF}/sriov_numvfs")), "1");
    assert!(node.has_record(PF));
}

#[test]
fn one_vf_in_use_keeps_all_vfs_of_its_pf() {
    let node = Node::with(&[GOOD, Vf { group: 8, ..GOOD }]);
    node.can_bind();
    node.record(PF, VFS);
    hold(&node, "/dev/vfio/8");
    withdraw(&node, &no_pool());
    assert_eq!(node.told(&format!("sys/bus/pci/devices/{PF}/sriov_numvfs")), "1");
    assert!(node.has_record(PF));
}

#[test]
fn vfs_that_a_pool_asks_for_stay() {
    let node = bound();
    node.record(PF, VFS);
    assert!(!withdraw(&node, &pool_of_vfs("vfio", "numVfs: 1")));
    assert_eq!(node.told(&format!("sys/bus/pci/devices/{PF}/sriov_numvfs")), "1");
}

#[test]
fn what_a_pool_takes_as_it_is_found_stays() {
    let node = bound();
    node.record(PF, VFS);
    let as_found = config("- {name: one, access: vfio, select: {pfNames: [ens1f0]}}\n");
    assert!(!withdraw(&node, &as_found));
    assert_eq!(unbound(&node), "");
    assert!(node.has_record(VF) && node.has_record(PF));
}

#[test]
fn a_vf_of_any_pool_keeps_all_vfs_of_its_pf() {
    let node = Node::with(&[GOOD, Vf { group: 8, ..GOOD }]);
    node.can_bind();
    node.record(PF, VFS);
    node.record(VF, FOUND_ON_NONE);
    let other = config("- {name: one, access: vfio, select: {pfNames: ['ens1f0#1']}}\n");
    assert!(withdraw(&node, &other));
    assert_eq!(unbound(&node), VF);
    assert_eq!(node.told(&format!("sys/bus/pci/devices/{PF}/sriov_numvfs")), "1");
    assert!(node.has_record(PF));
}

/// The kernel's file by which an mdev is removed.
fn removed(node: &Node, uuid: &str) -> String {
    node.told(&format!("sys/devices/virtual/mtty/mtty/{uuid}/remove"))
}

const OTHER: &str = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002";

#[test]
fn mdevs_of_ours_are_removed_and_no_others() {
    let node = Node::with(&[GOOD]);
    node.has_mtty(&[MDEV, OTHER]);
    node.record("mtty", &format!(r#"{{"mdev":"{MDEV}"}}"#));
    assert!(withdraw(&node, &no_pool()));
    assert_eq!((removed(&node, MDEV).as_str(), removed(&node, OTHER).as_str()), ("1", ""));
    assert!(!node.has_record("mtty"));
}

#[test]
fn an_mdev_that_the_pool_would_not_make_today_is_removed() {
    let node = Node::with(&[GOOD]);
    node.has_mtty(&[MDEV]);
    node.record("mtty", &format!(r#"{{"mdev":"{MDEV}"}}"#));
    assert!(withdraw(&node, &pool_of("mdev", "mtty", "mdevType: mtty-1")));
    assert_eq!(removed(&node, MDEV), "1");
}

/// A PCI function that makes mdevs is called by its address, as VFs are.
#[test]
fn mdevs_of_a_pci_function_are_removed_too() {
    let node = Node::with(&[GOOD]);
    let (gpu, folder) = ("0000:00:02.0", "sys/devices/pci0000:00/0000:00:02.0");
    node.link(&format!("../../devices/pci0000:00/{gpu}"), &format!("sys/class/mdev_bus/{gpu}"));
    let target = format!("../../../devices/pci0000:00/{gpu}/{MDEV}");
    node.link(&target, &format!("sys/bus/mdev/devices/{MDEV}"));
    node.write(&format!("{folder}/{MDEV}/remove"), b"");
    node.record(gpu, &format!(r#"{{"mdev":"{MDEV}"}}"#));
    assert!(withdraw(&node, &no_pool()));
    assert_eq!(node.told(&format!("{folder}/{MDEV}/remove")), "1");
}

#[test]
fn somebody_elses_vdpa_device_goes_back_to_the_driver_that_it_was_on() {
    let node = modes::node();
    node.write("sys/bus/vdpa/drivers/vhost_vdpa/unbind", b"");
    node.record("0000:01:00.2", r#"{"bus-driver":{"name":"0000:01:00.2","was":null}}"#);
    assert!(withdraw(&node, &no_pool()));
    assert_eq!(node.told("sys/bus/vdpa/drivers/vhost_vdpa/unbind"), "0000:01:00.2");
    assert!(!node.has_record("0000:01:00.2"));
}

/// As after a kill, while devices were made.
#[test]
fn the_bus_binds_new_devices_again() {
    let node = modes::node();
    node.write("sys/bus/vdpa/drivers_autoprobe", b"0\n");
    node.record("vdpa-bus", r#""bus-autoprobe""#);
    assert!(withdraw(&node, &no_pool()));
    assert_eq!(node.told("sys/bus/vdpa/drivers_autoprobe"), "1");
    assert!(!node.has_record("vdpa-bus"));
}
