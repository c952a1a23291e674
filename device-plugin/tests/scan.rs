//! What `scan` says of a node's VFs, with one thing wrong at a time.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use std::fs;

use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::scan::{self, Row};

use node::{GOOD, Node, PAGE, Vf};

const CONFIG: &str =
    "apiVersion: doorbell.dev/v1\npools:\n- {name: fast, access: vfio, select: {pfNames: [ens1f0]}}\n";

fn rows(node: &Node) -> Vec<Row> {
    let config = Config::parse("pools.yaml", CONFIG).unwrap();
    scan::rows(&node.host(), Some(&config), PAGE).unwrap()
}

/// The one reason for which a node's first VF is not advertised.
fn reason(vf: Vf) -> String {
    let rows = rows(&Node::with(&[vf]));
    assert!(!rows[0].advertised);
    let [reason] = rows[0].reasons.as_slice() else { panic!("not one reason: {:?}", rows[0].reasons) };
    reason.clone()
}

#[test]
fn a_vf_that_passes_is_advertised() {
    let rows = rows(&Node::with(&[GOOD]));
    assert!(rows[0].advertised, "{:?}", rows[0].reasons);
    assert_eq!((rows[0].doorbell.as_str(), rows[0].isolation.as_str()), ("exclusive", "iommu-rid"));
    assert_eq!(rows[0].pool.as_deref(), Some("fast"));
}

#[test]
fn a_group_with_a_second_member_is_refused() {
    let rows = rows(&Node::with(&[GOOD, GOOD]));
    assert_eq!(rows[0].reasons, ["IOMMU group 7 is shared with 0000:01:00.2"]);
    assert_eq!(rows[1].reasons, ["IOMMU group 7 is shared with 0000:01:00.1"]);
    assert_eq!(rows[0].isolation, "none");
}

#[test]
fn a_notify_area_beside_other_registers_is_refused() {
    let reason = reason(Vf { notify_offset: 0x2800, notify_length: 0x800, ..GOOD });
    assert!(reason.starts_with("shared: the device configuration (BAR 4 0x2000..0x3000)"), "{reason}");
}

#[test]
fn a_notify_area_past_its_bar_is_refused() {
    let reason = reason(Vf { notify_length: 0x2000, ..GOOD });
    assert_eq!(reason, "the notify area (BAR 4 0x3000..0x5000) ends past its BAR of 0x4000 bytes");
}

#[test]
fn a_bad_multiplier_is_refused() {
    assert_eq!(
        reason(Vf { multiplier: 6, ..GOOD }),
        "notify_off_multiplier 0x6 is neither 0 nor an even power of two"
    );
}

#[test]
fn a_capability_list_that_loops_is_refused() {
    assert_eq!(reason(Vf { last_next: 0x50, ..GOOD }), "the capability list loops at 0x50");
}

#[test]
fn one_unreadable_vf_does_not_hide_the_others() {
    let node = Node::with(&[GOOD, Vf { group: 8, ..GOOD }]);
    fs::remove_file(node.root.path().join("sys/bus/pci/devices/0000:01:00.1/vendor")).unwrap();
    let rows = rows(&node);
    assert_eq!(rows.len(), 2);
    assert_eq!(
        rows[0].reasons,
        ["read /sys/bus/pci/devices/0000:01:00.1/vendor: No such file or directory (os error 2)"]
    );
    assert!(rows[1].advertised);
}

#[test]
fn the_table_has_each_reason_below_its_vf() {
    let table = scan::table(&rows(&Node::with(&[GOOD, GOOD])));
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[1].starts_with("0000:01:00.1  0000:01:00.0  0"), "{table}");
    assert_eq!(lines[2], "    IOMMU group 7 is shared with 0000:01:00.2");
}
