//! What `scan` says of a node's VFs: a captured tree, with one thing wrong at a time.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use doorbell_common::host::Host;
use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::scan::{self, Row};

const PF: &str = "0000:01:00.0";
const PAGE: u64 = 0x1000;
const CONFIG: &str =
    "apiVersion: doorbell.dev/v1\npools:\n- {name: fast, access: vfio, select: {pfNames: [ens1f0]}}\n";

/// A virtio VF on vfio-pci as the testbed shows it: common, ISR, device and notify structures in BAR 4.
struct Vf {
    notify_offset: u32,
    notify_length: u32,
    multiplier: u32,
    /// Pointer to the capability behind the last one.
    last_next: u8,
    /// Number of its IOMMU group.
    group: u32,
}

const GOOD: Vf = Vf { notify_offset: 0x3000, notify_length: 0x1000, multiplier: 4, last_next: 0, group: 7 };

impl Vf {
    fn config(&self) -> Vec<u8> {
        let mut bytes = vec![0; 256];
        bytes[..4].fill(0xff);
        bytes[0x06] = 0x10;
        bytes[0x34] = 0x40;
        let structures = [
            (1, 0, 0x1000),
            (3, 0x1000, 0x1000),
            (4, 0x2000, 0x1000),
            (2, self.notify_offset, self.notify_length),
        ];
        for (at, (kind, offset, length)) in (0x40..).step_by(0x10).zip(structures) {
            let next = if kind == 2 { self.last_next } else { u8::try_from(at + 0x10).unwrap() };
            bytes[at..at + 5].copy_from_slice(&[0x09, next, if kind == 2 { 20 } else { 16 }, kind, 4]);
            bytes[at + 8..at + 12].copy_from_slice(&u32::to_le_bytes(offset));
            bytes[at + 12..at + 16].copy_from_slice(&u32::to_le_bytes(length));
        }
        bytes[0x80..0x84].copy_from_slice(&self.multiplier.to_le_bytes());
        bytes
    }
}

/// A node with one PF, whose VFs' attach is proven.
struct Node {
    root: tempfile::TempDir,
}

impl Node {
    fn with(vfs: &[Vf]) -> Self {
        let node = Self { root: tempfile::tempdir().unwrap() };
        let devices = node.root.path().join("sys/bus/pci/devices");
        fs::create_dir_all(devices.join(PF).join("net/ens1f0")).unwrap();
        node.write(&format!("sys/bus/pci/devices/{PF}/sriov_totalvfs"), b"8\n");
        node.write(&format!("run/doorbell/attaches/{PF}"), b"");
        for (index, vf) in vfs.iter().enumerate() {
            let address = format!("0000:01:00.{}", index + 1);
            let folder = format!("sys/bus/pci/devices/{address}");
            for (file, text) in
                [("vendor", "0x1af4"), ("device", "0x1041"), ("class", "0x020000"), ("numa_node", "-1")]
            {
                node.write(&format!("{folder}/{file}"), format!("{text}\n").as_bytes());
            }
            let none = "0x0 0x0 0x0\n";
            let resource = format!("{}0xe000000000 0xe000003fff 0x14220c\n{none}", none.repeat(4));
            node.write(&format!("{folder}/resource"), resource.as_bytes());
            node.write(&format!("{folder}/config"), &vf.config());
            fs::create_dir_all(devices.join(&address).join("vfio-dev/vfio0")).unwrap();
            symlink("../../drivers/vfio-pci", devices.join(&address).join("driver")).unwrap();
            symlink(format!("../{PF}"), devices.join(&address).join("physfn")).unwrap();
            symlink(format!("../{address}"), devices.join(PF).join(format!("virtfn{index}"))).unwrap();
            let group = format!("sys/kernel/iommu_groups/{}", vf.group);
            symlink(node.root.path().join(&group), devices.join(&address).join("iommu_group")).unwrap();
            fs::create_dir_all(node.root.path().join(&group).join("devices").join(&address)).unwrap();
        }
        node
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path: PathBuf = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn scan(&self) -> Vec<Row> {
        let config = Config::parse("pools.yaml", CONFIG).unwrap();
        scan::rows(&Host::at(self.root.path()), Some(&config), PAGE).unwrap()
    }
}

/// The one reason for which a node's first VF is not advertised.
fn reason(vf: Vf) -> String {
    let rows = Node::with(&[vf]).scan();
    assert!(!rows[0].advertised);
    let [reason] = rows[0].reasons.as_slice() else { panic!("not one reason: {:?}", rows[0].reasons) };
    reason.clone()
}

#[test]
fn a_vf_that_passes_is_advertised() {
    let rows = Node::with(&[GOOD]).scan();
    assert!(rows[0].advertised, "{:?}", rows[0].reasons);
    assert_eq!((rows[0].doorbell.as_str(), rows[0].isolation.as_str()), ("exclusive", "iommu-rid"));
    assert_eq!(rows[0].pool.as_deref(), Some("fast"));
}

#[test]
fn a_group_with_a_second_member_is_refused() {
    let rows = Node::with(&[GOOD, GOOD]).scan();
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
    let rows = node.scan();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        rows[0].reasons,
        ["read /sys/bus/pci/devices/0000:01:00.1/vendor: No such file or directory (os error 2)"]
    );
    assert!(rows[1].advertised);
}

#[test]
fn the_table_has_each_reason_below_its_vf() {
    let table = scan::table(&Node::with(&[GOOD, GOOD]).scan());
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[1].starts_with("0000:01:00.1  0000:01:00.0  0"), "{table}");
    assert_eq!(lines[2], "    IOMMU group 7 is shared with 0000:01:00.2");
}
