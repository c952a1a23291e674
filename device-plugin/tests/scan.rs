//! What `scan` says of a node's VFs, with one thing wrong at a time.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use std::fs;
use std::path::Path;

use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::scan::{self, Row};
use serde_json::json;

use node::{GOOD, Node, PAGE, Vf};

const CONFIG: &str =
    "apiVersion: doorbell.dev/v1\npools:\n- {name: fast, access: vfio, select: {pfNames: [ens1f0]}}\n";

fn rows(node: &Node) -> Vec<Row> {
    rows_of(node, CONFIG)
}

fn rows_of(node: &Node, config: &str) -> Vec<Row> {
    let config = Config::parse("pools.yaml", config).unwrap();
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
    node.remove("sys/bus/pci/devices/0000:01:00.1/vendor");
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
    assert!(lines[1].starts_with("0000:01:00.1  vf      0000:01:00.0  0"), "{table}");
    assert_eq!(lines[2], "    IOMMU group 7 is shared with 0000:01:00.2");
}

/// The first pool has the first VF alone, the two behind it have all.
const OVERLAPPING: &str = "\
apiVersion: doorbell.dev/v1
pools:
- {name: fast, access: vfio, select: {pfNames: ['ens1f0#0']}}
- {name: rest, access: vfio, select: {pfNames: [ens1f0]}}
- {name: last, access: vfio, select: {vendors: ['1af4']}}
";

#[test]
fn a_vf_names_the_later_pools_that_select_it_too() {
    let rows = rows_of(&Node::with(&[GOOD, Vf { group: 8, ..GOOD }]), OVERLAPPING);
    let told = |row: &Row| {
        let row = serde_json::to_value(row).unwrap();
        (row["pool"].clone(), row["alsoSelectedBy"].clone())
    };
    assert_eq!(told(&rows[0]), (json!("fast"), json!(["rest", "last"])));
    assert_eq!(told(&rows[1]), (json!("rest"), json!(["last"])));
    assert!(rows.iter().all(|row| row.advertised), "an overlap keeps no VF from its first pool");
}

#[test]
fn a_vf_of_one_pool_or_of_none_has_no_overlap() {
    let node = Node::with(&[GOOD]);
    let without_config = scan::rows(&node.host(), None, PAGE).unwrap();
    for rows in [rows(&node), without_config] {
        assert_eq!(serde_json::to_value(&rows[0]).unwrap()["alsoSelectedBy"], json!([]));
    }
}

#[test]
fn the_table_has_the_overlap_below_its_vf() {
    let table = scan::table(&rows_of(&Node::with(&[GOOD, GOOD]), OVERLAPPING));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[2], "    selected by rest, last too: the first pool in the config has it");
    assert_eq!(lines[3], "    IOMMU group 7 is shared with 0000:01:00.2");
}

#[test]
fn the_docs_name_every_field_of_a_row() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/explain.md");
    let docs = fs::read_to_string(docs).unwrap();
    let row = serde_json::to_value(&rows(&Node::with(&[GOOD]))[0]).unwrap();
    for field in row.as_object().unwrap().keys() {
        assert!(docs.contains(&format!("`{field}`")), "{field}");
    }
}
