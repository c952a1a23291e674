//! A pool's own resource, several sets of selectors, and what pods get and are told besides.

use super::super::*;
use super::{GOOD, refused};

/// The second pool of the good config with one line more, on line 12.
fn with(line: &str) -> String {
    GOOD.replace("  runtime: runc", &format!("  {line}"))
}

#[test]
fn a_pool_can_have_the_name_of_a_resource_that_pods_know() {
    let config = Config::parse("pools.yaml", &with("resource: intel.com/sriov_net-A")).unwrap();
    let of = |index: usize| (config.resource(&config.pools[index]), config.variable(&config.pools[index]));
    assert_eq!(of(0), ("doorbell.dev/fast".to_owned(), "PCIDEVICE_DOORBELL_DEV_FAST".to_owned()));
    assert_eq!(of(1), ("intel.com/sriov_net-A".to_owned(), "PCIDEVICE_INTEL_COM_SRIOV_NET-A".to_owned()));
    for bad in [
        "slow",
        "intel/slow",
        "intel.com/",
        "intel.com/a.b",
        "intel.com/_a",
        "intel.com/a/b",
        "kubernetes.io/a",
    ] {
        let message = refused(&with(&format!("resource: {bad}")));
        assert!(message.starts_with("pools.yaml:12: pools[1].resource: `"), "{message}");
    }
}

#[test]
fn a_resource_stands_once() {
    let message = refused(&with("resource: doorbell.dev/fast"));
    assert_eq!(
        message,
        "pools.yaml:12: pools[1].resource: `doorbell.dev/fast` is the resource of pool `fast` already"
    );
    let text = GOOD.replace("- name: fast", "- name: fast\n  resource: doorbell.dev/slow");
    assert_eq!(
        refused(&text),
        "pools.yaml:11: pools[1].name: `doorbell.dev/slow` is the resource of pool `fast` already"
    );
}

#[test]
fn kata_looks_devices_up_by_a_name_that_cdi_takes() {
    for (name, good) in [("10G", false), ("g", false), ("fast_10G", true)] {
        let parsed =
            Config::parse("pools.yaml", &with(&format!("resource: acme.com/{name}\n  runtime: kata")));
        assert_eq!(parsed.is_ok(), good, "{name}: {parsed:?}");
    }
}

#[test]
fn each_set_of_selectors_is_checked_with_its_own_line() {
    let several = |second: &str| {
        format!(
            "apiVersion: doorbell.dev/v1\npools:\n- name: one\n  access: vfio\n  select:\n  - vendors: [1af4]\n  - {second}\n"
        )
    };
    let config = Config::parse("pools.yaml", &several("pfNames: [ens1f0]")).unwrap();
    assert_eq!(config.pools[0].select.iter().count(), 2);
    for (second, says) in [
        ("{}", "select[1]: no selector is given"),
        ("auxTypes: [sf]", "select[1].auxTypes: a sub-function is no vfio device"),
        ("vdpaDrivers: [vhost_vdpa]", "select[1].vdpaDrivers: no vfio device is on one of these"),
        ("vendors: [x]", "select[1].vendors[0]: `x` is no PCI id: expected four hex digits, such as 1af4"),
        (
            "classes: [network]",
            "select[1].classes[0]: `network` is no PCI base class: expected two hex digits, such as 02",
        ),
    ] {
        assert_eq!(refused(&several(second)), format!("pools.yaml:7: pools[0].{says}"));
    }
    let none = "apiVersion: doorbell.dev/v1\npools:\n- name: one\n  access: vfio\n  select: []\n";
    assert_eq!(refused(none), "pools.yaml:5: pools[0].select: no selector is given");
}

#[test]
fn vfs_are_made_where_each_set_names_a_pf() {
    let text = GOOD.replace(
        "  select:\n    pfNames: [ens1f0#0-3]\n    vendors: [1af4]\n",
        "  select: [{pfNames: [ens1f0]}, {vendors: [1af4]}]\n",
    );
    assert!(refused(&text).contains("prepare.numVfs: neither select.pfNames nor"), "{}", refused(&text));
}

#[test]
fn what_has_a_vdpa_device_already_is_not_prepared() {
    let pool = |more: &str| {
        format!(
            "apiVersion: doorbell.dev/v1\npools:\n- name: one\n  access: vhost-vdpa\n  select: {{vdpaDrivers: [vhost_vdpa]}}\n{more}"
        )
    };
    assert!(Config::parse("pools.yaml", &pool("")).is_ok());
    let message = refused(&pool("  prepare: {}\n"));
    assert!(
        message.starts_with("pools.yaml:5: pools[0].select.vdpaDrivers: it selects what has"),
        "{message}"
    );
}

#[test]
fn vhost_net_is_nothing_for_a_vm() {
    assert!(Config::parse("pools.yaml", &with("vhostNet: true")).unwrap().pools[1].vhost_net);
    let message = refused(&with("vhostNet: true\n  runtime: kata"));
    assert!(message.starts_with("pools.yaml:12: pools[1].vhostNet: Kata takes every node"), "{message}");
}

#[test]
fn what_is_told_of_one_device_goes_before_what_is_told_of_all() {
    let config =
        Config::parse("pools.yaml", &with("additionalInfo: {'*': {a: x, b: y}, '0000:01:00.5': {b: z}}"));
    let info = config.unwrap().pools[1].additional_info.clone();
    let about = |id: &str| info.about(&id.parse().unwrap()).into_iter().collect::<Vec<_>>();
    assert_eq!(about("0000:01:00.5"), [("a", "x"), ("b", "z")]);
    assert_eq!(about("0000:01:00.6"), [("a", "x"), ("b", "y")]);
    let message = refused(&with("additionalInfo: {'a/b': {a: x}}"));
    assert!(message.starts_with("pools.yaml:12: pools[1].additionalInfo"), "{message}");
}

#[test]
fn every_field_is_written() {
    let text = "\
apiVersion: doorbell.dev/v1
resourcePrefix: example.com
cdi: true
containerdConfig: /etc/c.toml
registration: watcher
pools:
- name: whole
  access: vfio
  resource: acme.com/10G
  select: {pfNames: ['ens1f0#0-3'], numaNodes: [1], virtioTypes: [net, 45], isolation: [iommu-rid], doorbell: [per-queue]}
  prepare: {numVfs: 4, driver: vfio-pci}
  iommufd: auto
  requireCni: true
  allocation: spread
  nodeMode: '0600'
  nodeOwner: {gid: 107}
  pfLinkDown: unhealthy
  excludeTopology: true
  vhostNet: true
  additionalInfo: {'*': {a: 'true'}}
- name: vm
  access: vfio
  runtime: kata
  kata: {runtime: go, danConf: /run/dans}
  select: [{pciAddresses: ['0000:01:00.5'], classes: ['02'], linkTypes: [ether]}, {rootDevices: ['0000:01:00.0#1,3-4'], devices: [10e1]}]
- name: made
  access: vhost-vdpa
  select: {parents: [vdpasim_net]}
  prepare: {maxVqPairs: 2, mtu: 1500, mac: derived, features: '0x300000000', ifUnsupported: refuse, perParent: 4}
- name: found
  access: virtio-vdpa
  select: {auxTypes: [sf], vdpaDrivers: [virtio_vdpa]}
- name: serial
  access: mdev
  select: {parents: [mtty]}
  prepare: {mdevType: mtty-1}
";
    let config = Config::parse("config.yaml", text).unwrap();
    assert_eq!(Config::parse("written.yaml", &config.to_yaml().unwrap()).unwrap(), config);
}
