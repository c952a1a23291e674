//! A node with a sub-device of each access mode.

use std::fs;

use super::standing::Vdpa;
use super::{GOOD, Node, Vf};

pub(crate) const MDEV: &str = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";

/// A pool for each of them, by what stands there.
pub(crate) const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
cdi: true
pools:
- {name: whole, access: vfio, select: {pfNames: ['ens1f0#0']}}
- {name: rings, access: vhost-vdpa, select: {pfNames: ['ens1f0#1-2']}}
- {name: kernel, access: virtio-vdpa, select: {pfNames: ['ens1f0#3']}}
- {name: plain, access: netdev, select: {pfNames: ['ens1f0#4']}}
- {name: soft, access: vhost-vdpa, select: {parents: [vdpasim_net, vdpasim_blk]}}
- {name: mediated, access: mdev, select: {parents: [mtty]}}
";

/// Ids of all sub-devices, in the order of their parents.
pub(crate) const IDS: [&str; 9] = [
    "0000:01:00.1",
    "0000:01:00.2",
    "0000:01:00.3",
    "0000:01:00.4",
    "0000:01:00.5",
    "mtty-83b8f4f2-509f-382f-3c1e-e6bfe0fa1001",
    "vdpasim_blk-0",
    "vdpasim_net-0",
    "vdpasim_net-others",
];

/// VFs 1 to 5: on vfio-pci, with a vDPA device for whoever opens it (whose doorbell can't be mapped, and can), with one
/// that the kernel drives, and on the kernel's own driver. Two simulators, one of which has two devices, and an mdev.
pub(crate) fn node() -> Node {
    let node = Node::with(&[
        GOOD,
        Vf { group: 8, ..GOOD },
        Vf { group: 9, multiplier: 0x1000, ..GOOD },
        Vf { group: 10, ..GOOD },
        Vf { group: 11, ..GOOD },
    ]);
    for address in ["0000:01:00.2", "0000:01:00.3", "0000:01:00.4"] {
        node.drive(address, Some("vp-vdpa"));
    }
    node.drive("0000:01:00.5", Some("virtio-pci"));
    fs::create_dir_all(node.at("sys/bus/pci/devices/0000:01:00.5/virtio5/net/eth5")).unwrap();
    node.can_make_vdpa(&[
        ("pci/0000:01:00.2", 1 << 1),
        ("pci/0000:01:00.3", 1 << 1),
        ("pci/0000:01:00.4", 1 << 1),
        ("vdpasim_net", 1 << 1),
        ("vdpasim_blk", 1 << 2),
    ]);
    let vhost = |name, of, kind, number| Vdpa { name, of, driver: Some("vhost_vdpa"), kind, number };
    node.has_vdpa(&[
        vhost("0000:01:00.2", "pci/0000:01:00.2", 1, 0),
        vhost("0000:01:00.3", "pci/0000:01:00.3", 1, 1),
        Vdpa { driver: Some("virtio_vdpa"), ..vhost("0000:01:00.4", "pci/0000:01:00.4", 1, 4) },
        vhost("vdpasim_net-0", "vdpasim_net", 1, 2),
        vhost("others", "vdpasim_net", 1, 3),
        vhost("vdpasim_blk-0", "vdpasim_blk", 2, 5),
    ]);
    node.has_mtty(&[MDEV]);
    node
}
