//! Selectors, each alone: which of three VFs a pool takes.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use node::{GOOD, Node, PF, Vf};

/// VFs 1 and 2 are on NUMA node 0, 3 on none. 1 has ACPI index 101. 2 is a block device, 3 gives each queue a page.
fn node() -> Node {
    let node = Node::with(&[
        GOOD,
        Vf { group: 8, ..GOOD },
        Vf { group: 9, multiplier: 0x1000, notify_length: 0x1000, ..GOOD },
    ]);
    let write = |vf: u8, file: &str, text: &str| {
        node.write(&format!("sys/bus/pci/devices/0000:01:00.{vf}/{file}"), text.as_bytes());
    };
    write(1, "numa_node", "0\n");
    write(2, "numa_node", "0\n");
    write(1, "acpi_index", "101\n");
    write(2, "device", "0x1042\n");
    node
}

/// Numbers of the VFs in the pools, in the order of the pools.
fn pools(node: &Node, selects: &[&str]) -> Vec<Vec<String>> {
    let names = ["first", "second"];
    let mut config = "apiVersion: doorbell.dev/v1\npools:\n".to_owned();
    for (name, select) in names.iter().zip(selects) {
        let select = if select.starts_with('[') { (*select).to_owned() } else { format!("{{{select}}}") };
        config += &format!("- {{name: {name}, access: vfio, select: {select}}}\n");
    }
    let inventory = node.inventory(&config);
    let number = |id: &str| id.rsplit('.').next().unwrap().to_owned();
    let numbers = |name: &str| {
        let pool = &inventory.pools[&name.parse().unwrap()];
        pool.devices.keys().map(|id| number(id.as_str())).collect()
    };
    names.iter().take(selects.len()).map(|name| numbers(name)).collect()
}

fn selected(select: &str) -> String {
    pools(&node(), &[select]).concat().concat()
}

#[test]
fn a_root_device_is_a_pf_by_address_with_numbers_of_vfs() {
    assert_eq!(selected("rootDevices: ['0000:01:00.0']"), "123");
    assert_eq!(selected("rootDevices: ['0000:01:00.0#0,2']"), "13");
    assert_eq!(selected("rootDevices: ['0000:02:00.0']"), "");
}

#[test]
fn an_acpi_index_is_a_number_or_its_text() {
    assert_eq!(selected("acpiIndexes: [7, 101]"), "1");
    assert_eq!(selected("acpiIndexes: ['101']"), "1");
    assert_eq!(selected("acpiIndexes: [102]"), "");
}

#[test]
fn a_vf_without_a_numa_node_is_on_none() {
    assert_eq!(selected("numaNodes: [0]"), "12");
    assert_eq!(selected("numaNodes: [1, 2]"), "");
}

#[test]
fn a_virtio_type_is_a_name_or_a_number() {
    assert_eq!(selected("virtioTypes: [net]"), "13");
    assert_eq!(selected("virtioTypes: [block, 26]"), "2");
    assert_eq!(selected("virtioTypes: [2]"), "2");
}

#[test]
fn a_class_is_the_first_byte_of_its_code() {
    let node = node();
    node.write("sys/bus/pci/devices/0000:01:00.2/class", b"0x010000\n");
    assert_eq!(pools(&node, &["classes: ['02']", "classes: ['01', '12']"]), [vec!["1", "3"], vec!["2"]]);
}

#[test]
fn a_link_is_of_the_vf_or_where_it_has_none_of_its_pf() {
    let node = node();
    std::fs::create_dir_all(node.at("sys/bus/pci/devices/0000:01:00.1/net/ib0")).unwrap();
    node.write("sys/class/net/ib0/type", b"32\n");
    node.write("sys/class/net/ens1f0/type", b"1\n");
    assert_eq!(pools(&node, &["linkTypes: [ether]", "linkTypes: [infiniband]"]), [vec!["2", "3"], vec!["1"]]);
}

#[test]
fn a_doorbell_is_selected_by_what_a_page_of_it_rings() {
    assert_eq!(selected("doorbell: [exclusive]"), "123");
    assert_eq!(selected("doorbell: [per-device]"), "12");
    assert_eq!(selected("doorbell: [per-queue]"), "3");
}

#[test]
fn a_refused_verdict_matches_nothing() {
    let node = Node::with(&[GOOD, GOOD, Vf { group: 8, multiplier: 6, ..GOOD }]);
    assert_eq!(pools(&node, &["isolation: [iommu-rid]"]), [Vec::<String>::new()]);
    assert_eq!(pools(&node, &["doorbell: [exclusive, per-device, per-queue]"]), [Vec::<String>::new()]);
    assert_eq!(selected("isolation: [iommu-rid]"), "123");
}

#[test]
fn each_selector_that_is_given_has_to_match() {
    assert_eq!(selected(&format!("rootDevices: ['{PF}'], pfNames: ['ens1f0#1-2'], numaNodes: [0]")), "2");
}

#[test]
fn of_several_sets_of_selectors_one_has_to_match() {
    assert_eq!(selected("[{virtioTypes: [block]}, {acpiIndexes: [101], numaNodes: [0]}]"), "12");
}

#[test]
fn a_vf_that_two_new_selectors_take_goes_to_the_first_pool() {
    let selects = ["virtioTypes: [block]", "rootDevices: ['0000:01:00.0'], doorbell: [exclusive]"];
    assert_eq!(pools(&node(), &selects), [vec!["2"], vec!["1", "3"]]);
}
