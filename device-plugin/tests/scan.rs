//! What `scan` says of a node's VFs, with one thing wrong at a time.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use std::fs;
use std::path::Path;

use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::scan::{self, Row};
use serde_json::json;

use node::standing::Vdpa;
use node::{GOOD, Node, PAGE, Vf, modes};

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
fn a_sub_device_of_each_mode_is_a_row() {
    assert_eq!(
        scan::table(&rows_of(&modes::node(), modes::CONFIG)),
        "\
ID                                         PARENT       PF            NR  PCI        DRIVER      ACCESS       REGISTERS  MEDIATION      GROUP  ISOLATION        DOORBELL              RUNG     POOL      ADVERTISED
0000:01:00.1                               vf           0000:01:00.0  0   1af4:1041  vfio-pci    vfio         exposed    none           7      iommu-rid        exclusive per device  direct   whole     yes
0000:01:00.2                               vf           0000:01:00.0  1   1af4:1041  vp-vdpa     vhost-vdpa   mediated   parent-driver  8      iommu-rid        exclusive per device  eventfd  rings     yes
0000:01:00.3                               vf           0000:01:00.0  2   1af4:1041  vp-vdpa     vhost-vdpa   mediated   parent-driver  9      iommu-rid        exclusive per queue   direct   rings     yes
0000:01:00.4                               vf           0000:01:00.0  3   1af4:1041  vp-vdpa     virtio-vdpa  none       parent-driver  10     kernel-mediated  exclusive per device  kernel   kernel    yes
0000:01:00.5                               vf           0000:01:00.0  4   1af4:1041  virtio-pci  netdev       none       parent-driver  11     kernel-mediated  exclusive per device  kernel   plain     yes
mtty-83b8f4f2-509f-382f-3c1e-e6bfe0fa1001  mtty         -             -   -          mtty        mdev         mediated   parent-driver  40     software         none                  none     mediated  yes
vdpasim_blk-0                              vdpasim_blk  -             -   -          -           vhost-vdpa   mediated   parent-driver  -      software         none                  eventfd  soft      yes
vdpasim_net-0                              vdpasim_net  -             -   -          -           vhost-vdpa   mediated   parent-driver  -      software         none                  eventfd  soft      yes
vdpasim_net-others                         vdpasim_net  -             -   -          -           vhost-vdpa   mediated   parent-driver  -      software         none                  eventfd  soft      yes
"
    );
}

#[test]
fn in_no_pool_a_sub_device_is_driven_as_it_stands() {
    let rows = scan::rows(&modes::node().host(), None, PAGE).unwrap();
    let driven: Vec<String> = rows.iter().map(|row| row.access.to_string()).collect();
    let expected = [
        "vfio",
        "vhost-vdpa",
        "vhost-vdpa",
        "virtio-vdpa",
        "vfio",
        "mdev",
        "vhost-vdpa",
        "vhost-vdpa",
        "vhost-vdpa",
    ];
    assert_eq!(driven, expected);
    assert!(rows.iter().all(|row| !row.advertised && row.reasons.last().unwrap() == "no pool selects it"));
}

#[test]
fn a_parent_that_is_not_named_is_in_no_pool() {
    let every = CONFIG
        .replace("access: vfio", "access: vhost-vdpa")
        .replace("pfNames: [ens1f0]", "virtioTypes: [net]");
    let rows = rows_of(&modes::node(), &every);
    let of_software = rows.iter().filter(|row| row.isolation == "software");
    let pools: Vec<Option<&str>> = of_software.map(|row| row.pool.as_deref()).collect();
    assert_eq!(pools, [None; 4]);
}

#[test]
fn a_parent_on_which_nothing_stands_is_a_row_of_its_own() {
    let node = Node::with(&[]);
    node.can_make_vdpa(&[("vdpasim_net", 1 << 1)]);
    let soft = "apiVersion: doorbell.dev/v1\npools:\n- {name: soft, access: vhost-vdpa, select: {parents: [vdpasim_net]}, prepare: {perParent: 3}}\n";
    let rows = rows_of(&node, soft);
    assert_eq!(rows[0].id, "vdpasim_net");
    assert_eq!(rows[0].reasons, ["nothing stands on it", "`run` makes 3 vDPA devices on it first"]);
}

#[test]
fn a_vf_with_two_vdpa_devices_is_refused() {
    let node = Node::with(&[GOOD]);
    node.drive("0000:01:00.1", Some("vp-vdpa"));
    node.can_make_vdpa(&[("pci/0000:01:00.1", 1 << 1)]);
    let device = |name| Vdpa { name, of: "pci/0000:01:00.1", driver: Some("vhost_vdpa"), kind: 1, number: 0 };
    node.has_vdpa(&[device("a"), Vdpa { number: 1, ..device("b") }]);
    let rows = rows_of(&node, &CONFIG.replace("access: vfio", "access: vhost-vdpa"));
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].reasons, ["2 vDPA devices share its one set of rings: a, b"]);
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
