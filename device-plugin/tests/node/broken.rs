//! Nodes whose first VF is not advertised, each for one reason.

use std::fs;
use std::os::unix::fs::symlink;

use super::{GOOD, Node, PF, Vf};

/// One thing wrong.
pub(crate) struct Broken {
    /// The check that fails.
    pub(crate) check: &'static str,
    /// The node.
    pub(crate) node: Node,
}

/// A node for each thing that can be wrong with a VF.
pub(crate) fn nodes() -> Vec<Broken> {
    let layout = |check, vf| Broken { check, node: Node::with(&[vf]) };
    let changed = |check, change: &dyn Fn(&Node)| {
        let node = Node::with(&[GOOD]);
        change(&node);
        Broken { check, node }
    };
    let vf = |file: &str| format!("sys/bus/pci/devices/0000:01:00.1/{file}");
    vec![
        layout("doorbell-pages", Vf { notify_offset: 0x2800, notify_length: 0x800, ..GOOD }),
        layout("structures-in-bars", Vf { notify_length: 0x2000, ..GOOD }),
        layout("notify-multiplier", Vf { multiplier: 6, ..GOOD }),
        layout("notify-size", Vf { notify_length: 1, ..GOOD }),
        layout("capability-list", Vf { last_next: 0x50, ..GOOD }),
        Broken { check: "group-members", node: Node::with(&[GOOD, GOOD]) },
        changed("virtio-type", &|node| node.write(&vf("device"), b"0x1234\n")),
        changed("config-space", &|node| node.remove(&vf("config"))),
        changed("bar-on-a-page", &|node| {
            let none = "0x0 0x0 0x0\n".repeat(4);
            node.write(&vf("resource"), format!("{none}0xe000000800 0xe0000047ff 0x14220c\n").as_bytes());
        }),
        changed("iommu-group", &|node| node.remove(&vf("iommu_group"))),
        changed("iommu-mode", &|node| node.write("dev/vfio/noiommu-7", b"")),
        changed("pf-driver", &|node| {
            fs::create_dir_all(node.at(&format!("sys/bus/pci/devices/{PF}/vfio-dev/vfio9"))).unwrap();
        }),
        changed("safe-interrupts", &|node| {
            node.write("sys/module/iommufd/parameters/allow_unsafe_interrupts", b"Y\n");
        }),
        changed("attach", &|node| node.remove(&format!("var/lib/doorbell/attaches/{PF}"))),
        changed("vfio-driver", &|node| {
            fs::remove_dir_all(node.at(&vf("vfio-dev"))).unwrap();
            node.remove(&vf("driver"));
            symlink("../../drivers/virtio-pci", node.at(&vf("driver"))).unwrap();
        }),
        changed("nodes", &|node| node.remove("dev/vfio/7")),
    ]
}
