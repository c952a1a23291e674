//! What is yet to be done to each parent, and what `scan` says of it.

use doorbell_common::kernel::vdpa::BusDriver;
use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::discovery;
use doorbell_device_plugin::prepare::{self, Change};
use doorbell_device_plugin::scan;

use super::node::modes::MDEV;
use super::node::standing::Vdpa;
use super::node::{GOOD, Node, PAGE, modes};
use super::{VF, claim, hold, pool_of, pool_of_vfs, vf_on};

/// The first change that is due on each parent that is planned for.
fn changes(node: &Node, config: &Config) -> Vec<Option<Change>> {
    let survey = discovery::survey(&node.host(), PAGE).unwrap();
    prepare::plans(config, &survey).values().map(|plan| plan.change(&survey)).collect()
}

fn change(node: &Node, config: &Config) -> Option<Change> {
    let [change] = <[_; 1]>::try_from(changes(node, config)).unwrap();
    change
}

fn bind(driver: &str) -> Option<Change> {
    Some(Change::Bind(Some(driver.to_owned())))
}

/// The last reason of a node's first row, which is what `run` would do.
fn promise(node: &Node, config: &Config) -> String {
    let rows = scan::rows(&node.host(), Some(config), PAGE).unwrap();
    rows[0].reasons.last().unwrap().clone()
}

fn vdpa(name: &'static str, of: &'static str, driver: Option<&'static str>) -> Vdpa {
    Vdpa { name, of, driver, kind: 1, number: 0 }
}

const OF_VF: &str = "pci/0000:01:00.1";

/// A VF that makes vDPA devices, with these.
fn vf_with(driver: &str, devices: &[Vdpa]) -> Node {
    let node = vf_on(Some(driver));
    node.can_make_vdpa(&[(OF_VF, 1 << 1)]);
    node.has_vdpa(devices);
    node
}

#[test]
fn a_vf_on_its_own_driver_goes_where_its_mode_needs_it() {
    let node = vf_on(Some("virtio-pci"));
    for (access, expected) in [
        ("vfio", bind("vfio-pci")),
        ("vhost-vdpa", bind("vp-vdpa")),
        ("virtio-vdpa", bind("vp-vdpa")),
        ("netdev", None),
    ] {
        assert_eq!(change(&node, &pool_of_vfs(access, "")), expected, "{access}");
    }
    assert_eq!(change(&node, &pool_of_vfs("vhost-vdpa", "driver: ifcvf")), bind("ifcvf"));
    assert_eq!(change(&node, &pool_of_vfs("netdev", "driver: other-pci")), bind("other-pci"));
}

#[test]
fn a_vf_for_pods_with_an_interface_goes_to_a_driver_that_makes_one() {
    let netdev = pool_of_vfs("netdev", "");
    for node in [vf_on(Some("vfio-pci")), vf_on(None), vf_with("vp-vdpa", &[])] {
        assert_eq!(change(&node, &netdev), Some(Change::Bind(None)));
    }
    assert_eq!(promise(&vf_on(None), &netdev), "`run` binds it to the driver that the kernel chooses first");
}

#[test]
fn a_vf_on_a_driver_that_serves_its_mode_stays_there() {
    assert_eq!(change(&vf_on(Some("vfio-pci")), &pool_of_vfs("vfio", "driver: mlx5_vfio_pci")), None);
    let on_ifcvf = vf_with("ifcvf", &[vdpa("a", OF_VF, Some("vhost_vdpa"))]);
    assert_eq!(change(&on_ifcvf, &pool_of_vfs("vhost-vdpa", "")), None);
}

#[test]
fn a_vdpa_device_is_made_where_none_is_and_bound_where_it_is_not() {
    for (access, wanted) in [("vhost-vdpa", BusDriver::VhostVdpa), ("virtio-vdpa", BusDriver::VirtioVdpa)] {
        let config = pool_of_vfs(access, "");
        let with = |driver| vf_with("vp-vdpa", &[vdpa("0000:01:00.1", OF_VF, driver)]);
        assert_eq!(change(&vf_with("vp-vdpa", &[]), &config), Some(Change::MakeVdpa(1)));
        assert_eq!(change(&with(None), &config), Some(Change::BindVdpa(wanted)));
        assert_eq!(change(&with(Some(wanted.name())), &config), None);
        let other = if wanted == BusDriver::VhostVdpa { "virtio_vdpa" } else { "vhost_vdpa" };
        assert_eq!(change(&with(Some(other)), &config), Some(Change::BindVdpa(wanted)));
    }
}

#[test]
fn as_many_are_made_as_are_missing_whoever_made_the_others() {
    let node = modes::node();
    let simulated = |count| pool_of("vhost-vdpa", "vdpasim_net", &format!("perParent: {count}"));
    assert_eq!(change(&node, &simulated(2)), None);
    assert_eq!(change(&node, &simulated(5)), Some(Change::MakeVdpa(3)));
    let mediated = |count| pool_of("mdev", "mtty", &format!("mdevType: mtty-1, perParent: {count}"));
    assert_eq!(change(&node, &mediated(1)), None);
    assert_eq!(change(&node, &mediated(3)), Some(Change::MakeMdevs(2)));
}

#[test]
fn what_would_be_refused_afterwards_is_not_touched() {
    let shared = Node::with(&[GOOD, GOOD]);
    assert_eq!(changes(&shared, &pool_of_vfs("vfio", "")), []);
    assert_eq!(changes(&shared, &pool_of_vfs("vhost-vdpa", "")), []);
    // Who has an interface only reaches no neighbour.
    assert_eq!(changes(&shared, &pool_of_vfs("virtio-vdpa", "")), [bind("vp-vdpa"), bind("vp-vdpa")]);
}

#[test]
fn a_pool_without_prepare_changes_nothing() {
    assert_eq!(changes(&modes::node(), &Config::parse("pools.yaml", modes::CONFIG).unwrap()), []);
}

#[test]
fn scan_says_what_run_would_do() {
    let node = vf_on(Some("virtio-pci"));
    assert_eq!(promise(&node, &pool_of_vfs("vfio", "")), "`run` binds it to vfio-pci first");
    let made = vf_with("vp-vdpa", &[]);
    assert_eq!(promise(&made, &pool_of_vfs("vhost-vdpa", "")), "`run` makes a vDPA device on it first");
    let unbound = vf_with("vp-vdpa", &[vdpa("a", OF_VF, None)]);
    assert_eq!(
        promise(&unbound, &pool_of_vfs("virtio-vdpa", "")),
        "`run` binds its vDPA device to virtio_vdpa first"
    );
}

#[test]
fn scan_says_what_keeps_run_from_it() {
    let node = vf_on(Some("vfio-pci"));
    hold(&node, "/dev/vfio/7");
    assert_eq!(
        promise(&node, &pool_of_vfs("vhost-vdpa", "")),
        "`run` does not bind it to vp-vdpa: /dev/vfio/7 is in use by process 42 (qemu)"
    );
    let node = vf_with("vp-vdpa", &[vdpa("0000:01:00.1", OF_VF, Some("vhost_vdpa"))]);
    hold(&node, "/dev/vhost-vdpa-0");
    assert_eq!(
        promise(&node, &pool_of_vfs("virtio-vdpa", "")),
        "`run` does not bind its vDPA device to virtio_vdpa: /dev/vhost-vdpa-0 is in use by process 42 (qemu)"
    );
}

/// The kernel would remove it with the driver of the VF.
#[test]
fn a_vf_on_which_somebody_made_a_vdpa_device_is_not_bound_elsewhere() {
    let node = vf_with("vp-vdpa", &[vdpa("vdpa0", OF_VF, Some("vhost_vdpa"))]);
    let promised = promise(&node, &pool_of_vfs("vfio", ""));
    assert_eq!(
        promised,
        "`run` does not bind it to vfio-pci: somebody else made vDPA device vdpa0 on it, which would go"
    );
    node.record(VF, r#"{"driver":{"was":null}},{"vdpa":"vdpa0"}"#);
    assert_eq!(promise(&node, &pool_of_vfs("vfio", "")), "`run` binds it to vfio-pci first");
}

/// More are made beside it: it is not touched.
#[test]
fn a_claimed_mdev_keeps_no_other_from_being_made() {
    let node = modes::node();
    claim(&node, &format!("mtty-{MDEV}"));
    let config = pool_of("mdev", "mtty", "mdevType: mtty-1, perParent: 2");
    let rows = scan::rows(&node.host(), Some(&config), PAGE).unwrap();
    let row = rows.iter().find(|row| row.id.starts_with("mtty-")).unwrap();
    assert_eq!(row.reasons, ["`run` makes an mdev on it first"]);
}
