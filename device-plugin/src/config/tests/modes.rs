//! What each access mode takes beside it, and what contradicts it.

use doorbell_common::subdevice::Access;

use super::super::*;
use super::refused;

/// A file with one pool: its access on line 4, selectors on line 5, everything else from line 6 on.
fn pool(access: &str, select: &str, rest: &str) -> String {
    let head = "apiVersion: doorbell.dev/v1\npools:\n- name: one\n";
    format!("{head}  access: {access}\n  select: {{{select}}}\n  {rest}\n")
}

fn parsed(access: &str, select: &str, rest: &str) -> Pool {
    let config = Config::parse("pools.yaml", &pool(access, select, rest)).unwrap();
    config.pools.into_iter().next().unwrap()
}

const VFS: &str = "pfNames: [ens1f0]";
const SFS: &str = "auxTypes: [sf]";
const MTTY: &str = "parents: [mtty]";
const SIMULATOR: &str = "parents: [vdpasim_net]";

#[test]
fn each_mode_has_its_parents() {
    for (access, select, says) in [
        ("mdev", VFS, "select: mdevs stand on the parents that select.parents names"),
        ("mdev", SFS, "select: mdevs stand on the parents that select.parents names"),
        ("vfio", SFS, "select.auxTypes: a sub-function is no vfio device"),
        ("mdev", "auxTypes: [sf], parents: [mtty]", "select.auxTypes: a sub-function is no mdev device"),
        ("vfio", SIMULATOR, "select.parents: simulators and mdev parents have no vfio devices"),
        ("netdev", SIMULATOR, "select.parents: simulators and mdev parents have no netdev devices"),
        (
            "vhost-vdpa",
            "parents: [vdpasim_net], vendors: [1af4]",
            "select.parents: beside it, only isolation and virtioTypes can select",
        ),
    ] {
        assert_eq!(refused(&pool(access, select, "")), format!("pools.yaml:5: pools[0].{says}"));
    }
}

#[test]
fn modes_take_what_stands_on_their_parents() {
    for (access, select) in [
        ("vfio", VFS),
        ("vhost-vdpa", VFS),
        ("virtio-vdpa", VFS),
        ("netdev", VFS),
        ("vhost-vdpa", SFS),
        ("virtio-vdpa", SFS),
        ("netdev", SFS),
        ("netdev", "auxTypes: [sf], parents: [mlx5_core.sf.4], numaNodes: [0]"),
        ("vhost-vdpa", SIMULATOR),
        ("virtio-vdpa", "parents: [vdpasim_net], isolation: [kernel-mediated], virtioTypes: [net]"),
        ("mdev", MTTY),
    ] {
        assert_eq!(parsed(access, select, "").access.to_string(), access);
    }
}

#[test]
fn what_is_prepared_fits_the_mode_and_what_is_selected() {
    let of_vdpa = "no vDPA device is made for this access mode";
    let of_mdevs = "mdevs are made of the type that it names, and nothing else has one";
    let of_several = "a VF or sub-function takes one";
    let of_vfs = "it is for VFs, and the pool selects none";
    for (access, select, prepare, field, says) in [
        ("vfio", VFS, "maxVqPairs: 2", "maxVqPairs", of_vdpa),
        ("netdev", VFS, "mtu: 1500", "mtu", of_vdpa),
        ("netdev", SFS, "mac: derived", "mac", of_vdpa),
        ("mdev", MTTY, "mdevType: mtty-1, features: '0x3'", "features", of_vdpa),
        ("mdev", MTTY, "perParent: 2", "mdevType", of_mdevs),
        ("vhost-vdpa", SIMULATOR, "mdevType: mtty-1", "mdevType", of_mdevs),
        ("vhost-vdpa", VFS, "perParent: 2", "perParent", of_several),
        ("vhost-vdpa", SFS, "perParent: 1", "perParent", of_several),
        ("netdev", "auxTypes: [sf], parents: [mlx5_core.sf.4]", "perParent: 2", "perParent", of_several),
        ("netdev", "auxTypes: [sf], pfNames: [ens1f0]", "numVfs: 4", "numVfs", of_vfs),
        ("vhost-vdpa", SFS, "driver: vp-vdpa", "driver", of_vfs),
        ("vhost-vdpa", SIMULATOR, "driver: vp-vdpa", "driver", of_vfs),
    ] {
        let message = refused(&pool(access, select, &format!("prepare: {{{prepare}}}")));
        assert_eq!(message, format!("pools.yaml:6: pools[0].prepare.{field}: {says}"));
    }
}

#[test]
fn a_driver_that_vfs_leave_for_another_selects_none_afterwards() {
    let says = "once bound to prepare.driver, no VF would be selected any more";
    for (access, default) in [("vfio", "vfio-pci"), ("vhost-vdpa", "vp-vdpa"), ("virtio-vdpa", "vp-vdpa")] {
        let message = refused(&pool(access, "drivers: [virtio-pci]", "prepare: {}"));
        assert_eq!(message, format!("pools.yaml:5: pools[0].select.drivers: {says}"));
        parsed(access, &format!("drivers: [virtio-pci, {default}]"), "prepare: {}");
    }
    // Nobody knows what the kernel chooses, and sub-functions are bound to nothing.
    parsed("netdev", "drivers: [virtio-pci]", "prepare: {}");
    parsed("vhost-vdpa", "auxTypes: [sf], drivers: [mlx5_core.sf]", "prepare: {}");
}

#[test]
fn who_gets_an_interface_is_always_wired_and_has_no_node() {
    let says = "the pod gets a network interface from the CNI, and no device node";
    for access in ["virtio-vdpa", "netdev"] {
        for (field, value) in [("requireCni", "false"), ("nodeMode", "'0666'"), ("nodeOwner", "{uid: 1}")] {
            let message = refused(&pool(access, VFS, &format!("{field}: {value}")));
            assert_eq!(message, format!("pools.yaml:6: pools[0].{field}: {says}"));
        }
        assert!(parsed(access, VFS, "").require_cni);
        assert!(parsed(access, VFS, "requireCni: true").require_cni);
    }
    assert!(!parsed("vhost-vdpa", VFS, "nodeMode: '0666'").require_cni);
}

#[test]
fn the_driver_of_a_mode_is_a_default() {
    let driver = |access, rest| parsed(access, VFS, rest).prepare.unwrap().driver_for(access_of(access));
    assert_eq!(driver("vfio", "prepare: {}").as_deref(), Some("vfio-pci"));
    assert_eq!(driver("vhost-vdpa", "prepare: {}").as_deref(), Some("vp-vdpa"));
    assert_eq!(driver("virtio-vdpa", "prepare: {}").as_deref(), Some("vp-vdpa"));
    assert_eq!(driver("netdev", "prepare: {}"), None);
    assert_eq!(driver("vhost-vdpa", "prepare: {driver: ifcvf}").as_deref(), Some("ifcvf"));
}

fn access_of(name: &str) -> Access {
    *Access::ALL.iter().find(|access| access.to_string() == name).unwrap()
}

#[test]
fn what_a_vdpa_device_is_made_with_is_parsed() {
    let Prepare { max_vq_pairs, mtu, mac, features, if_unsupported, .. } = parsed(
        "vhost-vdpa",
        VFS,
        "prepare: {maxVqPairs: 2, mtu: 9000, mac: derived, features: '0x300000020', ifUnsupported: refuse}",
    )
    .prepare
    .unwrap();
    assert_eq!((max_vq_pairs.unwrap().get(), mtu.unwrap().get()), (2, 9000));
    assert_eq!((mac, features.unwrap().0), (Some(MacPolicy::Derived), 0x3_0000_0020));
    assert_eq!(if_unsupported, IfUnsupported::Refuse);
    assert_eq!(
        parsed("vhost-vdpa", VFS, "prepare: {}").prepare.unwrap().if_unsupported,
        IfUnsupported::Ignore
    );
}

#[test]
fn values_that_prepare_does_not_know_are_named_with_their_line() {
    for (prepare, field, says) in [
        ("maxVqPairs: 0", "maxVqPairs", "invalid"),
        ("mtu: 65536", "mtu", "invalid"),
        ("mac: random", "mac", "unknown variant `random`, expected one of derived"),
        ("features: '300'", "features", "`300` are no feature bits"),
        ("features: '0x'", "features", "`0x` are no feature bits"),
        ("features: '0x10000000000000000'", "features", "`0x10000000000000000` are no feature bits"),
        ("ifUnsupported: warn", "ifUnsupported", "unknown variant `warn`, expected one of ignore, refuse"),
        ("perParent: 0", "perParent", "invalid"),
        ("mdevType: ../mtty-1", "mdevType", "`../mtty-1` is no mdev type"),
    ] {
        let message = refused(&pool("vhost-vdpa", SIMULATOR, &format!("prepare: {{{prepare}}}")));
        assert!(message.starts_with(&format!("pools.yaml:6: pools[0].prepare.{field}: {says}")), "{message}");
    }
    for (select, field, says) in [
        ("auxTypes: [eth]", "auxTypes[0]", "unknown variant `eth`, expected `sf`"),
        ("parents: [../mtty]", "parents[0]", "`../mtty` is no name of a parent device"),
    ] {
        let message = refused(&pool("vhost-vdpa", select, ""));
        assert!(message.starts_with(&format!("pools.yaml:5: pools[0].select.{field}: {says}")), "{message}");
    }
    let message = refused(&pool("vhost", VFS, ""));
    let says = "unknown variant `vhost`, expected one of vfio, vhost-vdpa, virtio-vdpa, netdev, mdev";
    assert_eq!(message, format!("pools.yaml:4: pools[0].access: {says}"));
}
