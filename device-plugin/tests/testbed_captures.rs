//! Hosts that `capture` saw in the testbed, looked at again by `--root`: what real VFs, a real IOMMU and a real kernel
//! showed, without any of them.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use doorbell_common::check::Outcome;
use doorbell_device_plugin::captured::Root;
use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::explain::{self, Explanation};
use doorbell_device_plugin::scan;

/// Of the plugin that was running when the hosts were captured.
const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: per-device
  access: vfio
  select: {pfNames: ['0000:01:00.0#0']}
  prepare: {numVfs: 2}
- name: per-queue
  access: vfio
  iommufd: true
  select: {pfNames: ['0000:02:00.0']}
  prepare: {numVfs: 2}
- name: intel
  access: vfio
  select: {pfNames: ['0000:03:00.0']}
  prepare: {numVfs: 1}
";

fn config() -> Config {
    Config::parse("pools.yaml", CONFIG).unwrap()
}

fn captured(name: &str) -> Root {
    Root::at(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name)).unwrap()
}

fn table(root: &Root) -> String {
    scan::table(&scan::rows(&root.host, Some(&config()), root.page).unwrap())
}

fn explanation(root: &Root, address: &str) -> Explanation {
    explain::explain(&root.host, Some(&config()), &address.parse().unwrap(), root.page).unwrap()
}

fn failed(explanation: &Explanation) -> Vec<&str> {
    let failed = explanation.checks.iter().filter(|check| check.outcome == Outcome::Failed);
    failed.map(|check| check.name.as_str()).collect()
}

#[test]
fn the_testbed_is_scanned_as_it_was_there() {
    assert_eq!(
        table(&captured("testbed.capture")),
        "\
ID            PARENT  PF            NR  PCI        DRIVER    ACCESS  REGISTERS  MEDIATION  GROUP  ISOLATION  DOORBELL              RUNG    POOL        ADVERTISED
0000:01:00.1  vf      0000:01:00.0  0   1af4:1041  vfio-pci  vfio    exposed    none       12     iommu-rid  exclusive per device  direct  per-device  yes
0000:01:00.2  vf      0000:01:00.0  1   1af4:1041  -         vfio    exposed    none       13     iommu-rid  exclusive per device  -       -           no
    not on a VFIO driver but on no driver
    no pool selects it
0000:02:00.1  vf      0000:02:00.0  0   1af4:1041  vfio-pci  vfio    exposed    none       14     iommu-rid  exclusive per queue   direct  per-queue   yes
0000:02:00.2  vf      0000:02:00.0  1   1af4:1041  vfio-pci  vfio    exposed    none       15     iommu-rid  exclusive per queue   direct  per-queue   yes
0000:03:10.0  vf      0000:03:00.0  0   8086:10ca  -         vfio    exposed    none       16     unproven   none                  -       intel       no
    not on a VFIO driver but on no driver
    that IOMMU group 16 attaches is not shown yet: no pool has a VF of its PF on a VFIO driver
    no virtio function: vendor 8086 device 10ca
"
    );
}

#[test]
fn a_vf_of_the_testbed_passes_more_than_fifteen_checks() {
    for address in ["0000:01:00.1", "0000:02:00.1"] {
        let explanation = explanation(&captured("testbed.capture"), address);
        let passed = explanation.checks.iter().filter(|check| check.outcome == Outcome::Passed).count();
        assert!(explanation.advertised && passed >= 15, "{explanation:#?}");
    }
}

#[test]
fn without_interrupt_remapping_only_the_attach_fails() {
    let root = captured("no-interrupt-remapping.capture");
    let explanation = explanation(&root, "0000:01:00.1");
    assert_eq!(failed(&explanation), ["attach"]);
}

#[test]
fn without_an_iommu_there_is_no_group() {
    let root = captured("no-iommu.capture");
    assert_eq!(failed(&explanation(&root, "0000:01:00.1")), ["iommu-group", "vfio-driver"]);
}

/// A host with larger pages, and the same VFs: what the page of the notify area held alone, it now shares.
#[test]
fn on_larger_pages_the_same_doorbell_is_shared() {
    let mut root = captured("testbed.capture");
    root.page = 0x4000;
    let explanation = explanation(&root, "0000:01:00.1");
    assert_eq!(failed(&explanation), ["doorbell-pages"]);
    let check = explanation.checks.iter().find(|check| check.name == "doorbell-pages").unwrap();
    assert_eq!(
        check.found,
        "shared: the device configuration (BAR 4 0x2000..0x3000) meets the doorbell's pages 0x0..0x4000"
    );
}
