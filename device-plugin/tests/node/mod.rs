//! A node as sysfs shows it, made of plain files: one PF with virtio VFs on vfio-pci, each in a group of its own unless
//! said otherwise, their attach proven. Writing to it binds nothing; it is for what only reads.

// Each test program uses its part; helpers of tests are tests.
#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod broken;
pub(crate) mod modes;
pub(crate) mod standing;
pub(crate) mod sub_functions;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use doorbell_common::host::Host;
use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::inventory::Inventory;
use doorbell_device_plugin::look;
use doorbell_device_plugin::prepare::Allocated;

pub(crate) const PF: &str = "0000:01:00.0";
pub(crate) const PAGE: u64 = 0x1000;
/// A virtio VF on vfio-pci as the testbed shows it: common, ISR, device and notify structures in BAR 4.
pub(crate) struct Vf {
    pub(crate) notify_offset: u32,
    pub(crate) notify_length: u32,
    pub(crate) multiplier: u32,
    /// Pointer to the capability behind the last one.
    pub(crate) last_next: u8,
    /// Number of its IOMMU group.
    pub(crate) group: u32,
    /// Bytes of BAR 4.
    pub(crate) bar_length: u64,
    /// Where in BAR 4 an MSI-X table lies, if one does, with its pending bits behind it.
    pub(crate) msix_table: Option<u32>,
}

pub(crate) const GOOD: Vf = Vf {
    notify_offset: 0x3000,
    notify_length: 0x1000,
    multiplier: 4,
    last_next: 0,
    group: 7,
    bar_length: 0x4000,
    msix_table: None,
};

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
        if let Some(table) = self.msix_table {
            // The notify capability is the fourth: its pointer leads here.
            bytes[0x71] = 0x90;
            bytes[0x90..0x94].copy_from_slice(&[0x11, 0, 1, 0]);
            bytes[0x94..0x98].copy_from_slice(&(table | 4).to_le_bytes());
            bytes[0x98..0x9c].copy_from_slice(&((table + 0x100) | 4).to_le_bytes());
        }
        bytes
    }
}

/// A node with one PF, whose VFs' attach is proven.
pub(crate) struct Node {
    pub(crate) root: tempfile::TempDir,
}

impl Node {
    pub(crate) fn with(vfs: &[Vf]) -> Self {
        let node = Self { root: tempfile::tempdir().unwrap() };
        let devices = node.root.path().join("sys/bus/pci/devices");
        fs::create_dir_all(devices.join(PF).join("net/ens1f0")).unwrap();
        node.write(&format!("sys/bus/pci/devices/{PF}/sriov_totalvfs"), b"8\n");
        node.boot("b1");
        node.write("dev/vfio/vfio", b"");
        for (index, vf) in vfs.iter().enumerate() {
            let address = format!("0000:01:00.{}", index + 1);
            let folder = format!("sys/bus/pci/devices/{address}");
            for (file, text) in
                [("vendor", "0x1af4"), ("device", "0x1041"), ("class", "0x020000"), ("numa_node", "-1")]
            {
                node.write(&format!("{folder}/{file}"), format!("{text}\n").as_bytes());
            }
            let none = "0x0 0x0 0x0\n";
            let last = 0xe0_0000_0000 + vf.bar_length - 1;
            let resource = format!("{}0xe000000000 {last:#x} 0x14220c\n{none}", none.repeat(4));
            node.write(&format!("{folder}/resource"), resource.as_bytes());
            node.write(&format!("{folder}/config"), &vf.config());
            fs::create_dir_all(devices.join(&address).join(format!("vfio-dev/vfio{index}"))).unwrap();
            symlink("../../drivers/vfio-pci", devices.join(&address).join("driver")).unwrap();
            symlink(format!("../{PF}"), devices.join(&address).join("physfn")).unwrap();
            symlink(format!("../{address}"), devices.join(PF).join(format!("virtfn{index}"))).unwrap();
            node.join_group(&address, vf.group);
        }
        node
    }

    /// The same with a node of its own for each VF, as kernels with CONFIG_VFIO_DEVICE_CDEV have them.
    pub(crate) fn with_cdevs(vfs: &[Vf]) -> Self {
        let node = Self::with(vfs);
        node.write("dev/iommu", b"");
        for index in 0..vfs.len() {
            node.write(&format!("dev/vfio/devices/vfio{index}"), b"");
        }
        node
    }

    fn join_group(&self, address: &str, group: u32) {
        self.write(&format!("dev/vfio/{group}"), b"");
        let link = self.at(&format!("sys/bus/pci/devices/{address}/iommu_group"));
        symlink(format!("../../../../kernel/iommu_groups/{group}"), link).unwrap();
        fs::create_dir_all(self.at(&format!("sys/kernel/iommu_groups/{group}/devices/{address}"))).unwrap();
    }

    /// Another boot: /run is empty.
    pub(crate) fn reboot(&self, boot: &str) {
        for folder in ["run", "var/run"] {
            let _ = fs::remove_dir_all(self.at(folder));
        }
        self.boot(boot);
    }

    /// What tells this boot from others; in it too the PF's VFs were seen to attach.
    pub(crate) fn boot(&self, id: &str) {
        self.write(&format!("var/lib/doorbell/attaches/{PF}"), id.as_bytes());
        self.write("proc/sys/kernel/random/boot_id", format!("{id}\n").as_bytes());
    }

    /// Moves a VF from one group to another that has no member yet.
    pub(crate) fn renumber(&self, address: &str, from: u32, to: u32) {
        fs::remove_file(self.at(&format!("sys/bus/pci/devices/{address}/iommu_group"))).unwrap();
        fs::remove_dir_all(self.at(&format!("sys/kernel/iommu_groups/{from}"))).unwrap();
        fs::remove_file(self.at(&format!("dev/vfio/{from}"))).unwrap();
        self.join_group(address, to);
    }

    /// Rewrites a VF's configuration space.
    pub(crate) fn reconfigure(&self, address: &str, vf: &Vf) {
        self.write(&format!("sys/bus/pci/devices/{address}/config"), &vf.config());
    }

    /// Where the node has this path; it starts with no slash.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub(crate) fn remove(&self, path: &str) {
        fs::remove_file(self.at(path)).unwrap();
    }

    pub(crate) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn host(&self) -> Host {
        Host::at(self.root.path())
    }

    /// What the plugin would advertise.
    pub(crate) fn inventory(&self, config: &str) -> Inventory {
        self.inventory_with(config, PAGE)
    }

    /// The same on a kernel with pages of another size.
    pub(crate) fn inventory_with(&self, config: &str, page: u64) -> Inventory {
        let allocated = Allocated::To(BTreeMap::new());
        look::once(&self.host(), &Config::parse("pools.yaml", config).unwrap(), &allocated, page).unwrap()
    }
}
