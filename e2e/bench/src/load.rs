//! The load: a node as sysfs shows it, made of plain files. Functions are folders below `/sys/devices` and links in
//! `/sys/bus/pci/devices`, as in the kernel's own tree, so that a path costs what it costs there.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Functions that one PF can have on its bus and on those after it: 256 a bus, the PF's own among them.
const FUNCTIONS_OF_A_BUS: usize = 256;
/// Below `/etc`, where the plugin looks unless it is told otherwise.
const CONFIG: &str = "etc/doorbell/config.yaml";

/// How much there is on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load {
    /// VFs, over all PFs.
    pub vfs: usize,
    /// PFs; each has as many VFs.
    pub pfs: usize,
    /// Pools; each has as many PFs.
    pub pools: usize,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} VFs ({} PFs) × {} pools", self.vfs, self.pfs, self.pools)
    }
}

/// A VF of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vf {
    /// Number of its PF.
    pub pf: usize,
    /// Its number there, from 0.
    pub index: usize,
    /// Its number on the node: that of its IOMMU group and of its VFIO device.
    pub number: usize,
}

impl Vf {
    /// As sysfs writes it. Each PF has a PCI domain of its own.
    #[must_use]
    pub fn address(self) -> String {
        let function = self.index + 1;
        let (bus, within) = (1 + function / FUNCTIONS_OF_A_BUS, function % FUNCTIONS_OF_A_BUS);
        format!("{:04x}:{bus:02x}:{:02x}.{}", self.pf, within / 8, within % 8)
    }

    /// Its folder, without the leading slash.
    #[must_use]
    pub fn folder(self) -> String {
        below_port(self.pf, &self.address())
    }
}

/// A PF's address.
#[must_use]
pub fn pf_address(pf: usize) -> String {
    format!("{pf:04x}:01:00.0")
}

fn resource_of(pool: usize) -> String {
    format!("doorbell.dev/pool{pool}")
}

fn below_port(pf: usize, address: &str) -> String {
    format!("sys/devices/pci{pf:04x}:00/{pf:04x}:00:01.0/{address}")
}

impl Load {
    /// Every VF, PF by PF.
    pub fn vfs(self) -> impl Iterator<Item = Vf> {
        let of_pf = self.vfs / self.pfs;
        (0..self.vfs).map(move |number| Vf { pf: number / of_pf, index: number % of_pf, number })
    }

    /// Resources of its pools.
    pub fn resources(self) -> impl Iterator<Item = String> {
        (0..self.pools).map(resource_of)
    }

    /// The resource that a VF is one of.
    #[must_use]
    pub fn resource(self, vf: Vf) -> String {
        resource_of(vf.pf * self.pools / self.pfs)
    }

    /// Makes the node below `root`, as it is in the boot of that id: its VFs on vfio-pci, their attach proven.
    pub fn make(self, root: &Path, boot: &str) -> io::Result<()> {
        let tree = Tree { root };
        tree.file(CONFIG, self.config().as_bytes())?;
        for node in ["dev/vfio/vfio", "dev/iommu"] {
            tree.file(node, b"")?;
        }
        tree.folder("sys/bus/pci/devices")?;
        tree.folder("sys/bus/pci/drivers/vfio-pci")?;
        for module in ["vfio_iommu_type1", "iommufd"] {
            tree.file(&format!("sys/module/{module}/parameters/allow_unsafe_interrupts"), b"N\n")?;
        }
        for pf in 0..self.pfs {
            let address = pf_address(pf);
            let folder = below_port(pf, &address);
            let count = format!("{}\n", self.vfs / self.pfs);
            for (name, text) in [
                ("vendor", "0x1af4\n"),
                ("device", "0x1041\n"),
                ("class", "0x020000\n"),
                ("numa_node", "0\n"),
                ("sriov_totalvfs", &count),
                ("sriov_numvfs", &count),
            ] {
                tree.file(&format!("{folder}/{name}"), text.as_bytes())?;
            }
            tree.folder(&format!("{folder}/net/ens{pf}f0"))?;
            tree.on_the_bus(pf, &address)?;
            tree.file(&format!("var/lib/doorbell/attaches/{address}"), boot.as_bytes())?;
        }
        self.vfs().try_for_each(|vf| tree.vf(vf))
    }

    fn config(self) -> String {
        let mut text = String::from("apiVersion: doorbell.dev/v1\ncdi: true\npools:\n");
        let of_pool = self.pfs / self.pools;
        for pool in 0..self.pools {
            let pfs: Vec<String> =
                (pool * of_pool..(pool + 1) * of_pool).map(|pf| format!("'{}'", pf_address(pf))).collect();
            text += &format!(
                "- name: pool{pool}\n  access: vfio\n  select: {{rootDevices: [{}]}}\n",
                pfs.join(", ")
            );
        }
        text
    }
}

struct Tree<'a> {
    root: &'a Path,
}

impl Tree<'_> {
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn folder(&self, path: &str) -> io::Result<()> {
        fs::create_dir_all(self.at(path))
    }

    fn file(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let path = self.at(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, content)
    }

    fn link(&self, target: &str, path: &str) -> io::Result<()> {
        symlink(target, self.at(path))
    }

    fn on_the_bus(&self, pf: usize, address: &str) -> io::Result<()> {
        let folder = below_port(pf, address);
        let folder = folder.trim_start_matches("sys/");
        self.link(&format!("../../../{folder}"), &format!("sys/bus/pci/devices/{address}"))
    }

    fn vf(&self, vf: Vf) -> io::Result<()> {
        let Vf { pf, index, number } = vf;
        let (address, folder) = (vf.address(), vf.folder());
        self.file(&format!("{folder}/config"), &configuration_space())?;
        let texts = [
            ("vendor", "0x1af4\n".to_owned()),
            ("device", "0x1041\n".to_owned()),
            ("class", "0x020000\n".to_owned()),
            ("numa_node", "0\n".to_owned()),
            ("resource", resource(number)),
        ];
        for (name, text) in texts {
            self.file(&format!("{folder}/{name}"), text.as_bytes())?;
        }
        self.folder(&format!("{folder}/vfio-dev/vfio{number}"))?;
        self.link("../../../../bus/pci/drivers/vfio-pci", &format!("{folder}/driver"))?;
        self.link(&format!("../../../../kernel/iommu_groups/{number}"), &format!("{folder}/iommu_group"))?;
        self.link(&format!("../{}", pf_address(pf)), &format!("{folder}/physfn"))?;
        self.link(&format!("../{address}"), &format!("{}/virtfn{index}", below_port(pf, &pf_address(pf))))?;
        self.on_the_bus(pf, &address)?;
        let members = format!("sys/kernel/iommu_groups/{number}/devices");
        self.folder(&members)?;
        self.link(
            &format!("../../../../{}", folder.trim_start_matches("sys/")),
            &format!("{members}/{address}"),
        )?;
        self.file(&format!("dev/vfio/{number}"), b"")?;
        self.file(&format!("dev/vfio/devices/vfio{number}"), b"")
    }
}

/// BAR 4 alone, of four pages.
fn resource(number: usize) -> String {
    let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
    let start = 0xe0_0000_0000_u64 + number as u64 * 0x4000;
    let bar = format!("{start:#018x} {:#018x} 0x000000000014220c\n", start + 0x3fff);
    format!("{}{bar}{}", none.repeat(4), none.repeat(8))
}

/// Common, ISR, device and notify structures in BAR 4, a page each.
fn configuration_space() -> Vec<u8> {
    let mut bytes = vec![0; 256];
    bytes[..4].fill(0xff);
    bytes[0x06] = 0x10;
    bytes[0x34] = 0x40;
    let structures: [(u8, u32); 4] = [(1, 0), (3, 0x1000), (4, 0x2000), (2, 0x3000)];
    for (at, (kind, offset)) in (0x40_u8..).step_by(0x10).zip(structures) {
        let (next, length) = if kind == 2 { (0, 20) } else { (at + 0x10, 16) };
        let from = usize::from(at);
        bytes[from..from + 5].copy_from_slice(&[0x09, next, length, kind, 4]);
        bytes[from + 8..from + 12].copy_from_slice(&offset.to_le_bytes());
        bytes[from + 12..from + 16].copy_from_slice(&0x1000_u32.to_le_bytes());
    }
    bytes[0x80..0x84].copy_from_slice(&4_u32.to_le_bytes());
    bytes
}
