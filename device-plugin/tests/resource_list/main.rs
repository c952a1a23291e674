//! Configs of sriov-network-device-plugin, taken as they are: what they select and what their pods get is what its
//! documentation says, or is refused by its path.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

#[path = "../node/mod.rs"]
mod node;

mod pods;
mod refused;
mod selected;
mod written;

use std::collections::BTreeMap;

use doorbell_device_plugin::config::{Config, Loaded};
use doorbell_device_plugin::scan;

use node::{GOOD, Node, PAGE, Vf};

/// A resource with these fields beside its name.
fn resource(name: &str, fields: &str) -> String {
    format!(r#"{{"resourceName": "{name}", {fields}}}"#)
}

fn list(resources: &[String]) -> String {
    format!(r#"{{"resourceList": [{}]}}"#, resources.join(", "))
}

/// One resource with one set of selectors.
fn one(device_type: &str, selectors: &str) -> String {
    list(&[resource("one", &format!(r#""deviceType": "{device_type}", "selectors": [{{{selectors}}}]"#))])
}

fn parsed(text: &str) -> Config {
    Config::parse("config.json", text).unwrap()
}

/// What is noted of a list: fields and messages.
fn notes(text: &str) -> Vec<(String, String)> {
    let notes = Loaded::parse("config.json", text).unwrap().notes;
    notes.into_iter().map(|note| (note.field, note.message)).collect()
}

/// Six VFs below `ens1f0`: 1 and 2 on vfio-pci, 3 and 4 with a vDPA device for vhost and for the kernel, 5 on the kernel's
/// own driver, 6 a processing accelerator on vfio-pci. 2 is a block device, 4 has ACPI index 101.
fn host() -> Node {
    let vf = |group| Vf { group, ..GOOD };
    let node = Node::with(&[vf(7), vf(8), vf(9), vf(10), vf(11), vf(12)]);
    let write = |vf: u8, file: &str, text: &str| {
        node.write(&format!("sys/bus/pci/devices/0000:01:00.{vf}/{file}"), text.as_bytes());
    };
    write(2, "class", "0x010000\n");
    write(2, "device", "0x1042\n");
    write(4, "acpi_index", "101\n");
    write(6, "class", "0x120000\n");
    for vf in 1..=6 {
        write(vf, "numa_node", "1\n");
    }
    node.write("sys/class/net/ens1f0/type", b"1\n");
    for vf in [3, 4] {
        node.drive(&format!("0000:01:00.{vf}"), Some("vp-vdpa"));
    }
    node.drive("0000:01:00.5", Some("virtio-pci"));
    node.can_make_vdpa(&[("pci/0000:01:00.3", 1 << 1), ("pci/0000:01:00.4", 1 << 1)]);
    let vdpa =
        |name, of, driver, number| node::standing::Vdpa { name, of, driver: Some(driver), kind: 1, number };
    node.has_vdpa(&[
        vdpa("0000:01:00.3", "pci/0000:01:00.3", "vhost_vdpa", 0),
        vdpa("0000:01:00.4", "pci/0000:01:00.4", "virtio_vdpa", 4),
    ]);
    node
}

/// Numbers of the VFs that each resource selects, by the names of the pools.
fn selected(node: &Node, text: &str) -> BTreeMap<String, String> {
    let rows = scan::rows(&node.host(), Some(&parsed(text)), PAGE).unwrap();
    let mut selected: BTreeMap<String, String> = BTreeMap::new();
    for row in rows {
        if let Some(pool) = row.pool {
            selected.entry(pool).or_default().push_str(row.id.rsplit('.').next().unwrap());
        }
    }
    selected
}
