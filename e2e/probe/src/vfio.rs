//! The sub-device through VFIO: container and group, the function, its regions, and memory it may reach.
//!
//! Opens what the descriptor names and looks nowhere else: no sysfs. Follows the kernel's
//! `Documentation/driver-api/vfio.rst`; the ioctls themselves are in [`crate::memory`].

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use doorbell_common::formats::descriptor::Nodes;
use doorbell_common::kernel::pci::PciAddress;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_GROUP_FLAGS_VIABLE,
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_TYPE1v2_IOMMU,
};

use crate::memory::{self, DmaMemory, DoorbellPage};

/// Between two tries of a group that is still closing, which takes a holder's last reset: some 100 ms.
const BUSY_STEP: Duration = Duration::from_millis(20);
/// Where the device sees our memory. Any address does that no platform reserves; x86 keeps 0xfee0_0000 for its
/// interrupts and arm64 0x0800_0000, both of one MiB.
const IOVA: u64 = 0x1000_0000;

/// Opens a group's node. A node has one holder: while another one stands, or is still closing, the kernel says
/// EBUSY, which is waited for up to `patience`.
pub(crate) fn open_group(node: &str, patience: Duration) -> Result<File> {
    let deadline = Instant::now() + patience;
    loop {
        match open(node) {
            Err(error) if is(&error, Errno::EBUSY) && Instant::now() < deadline => sleep(BUSY_STEP),
            result => return result.with_context(|| format!("open the group {node}")),
        }
    }
}

/// A container with the group in it: DMA goes through the group's IOMMU domain.
#[derive(Debug)]
pub(crate) struct Container {
    file: File,
    group: File,
}

impl Container {
    /// Opens both nodes and joins them, with the type 1 (v2) IOMMU. Resets nothing yet.
    pub(crate) fn attach(nodes: &Nodes, patience: Duration) -> Result<Self> {
        let Nodes::Group { group: group_node, container: node } = nodes else {
            anyhow::bail!("{nodes} are not the nodes of a group");
        };
        let file = open(node).with_context(|| format!("open the container {node}"))?;
        let version =
            memory::api_version(&file).with_context(|| format!("ask {node} for its API version"))?;
        ensure!(
            u32::try_from(version).is_ok_and(|version| version == VFIO_API_VERSION),
            "{node} speaks version {version} of the VFIO API, not {VFIO_API_VERSION}"
        );
        let group = open_group(group_node, patience)?;
        let flags =
            memory::group_flags(&group).with_context(|| format!("ask for the status of {group_node}"))?;
        ensure!(
            flags & VFIO_GROUP_FLAGS_VIABLE != 0,
            "{group_node} is not viable (flags {flags:#x}): a member is on a driver other than VFIO's"
        );
        memory::set_container(&group, &file).with_context(|| format!("put {group_node} into {node}"))?;
        // The header's constant is a small positive number.
        memory::set_iommu(&file, VFIO_TYPE1v2_IOMMU as i32)
            .with_context(|| format!("set the type1v2 IOMMU on {node} with {group_node}"))?;
        Ok(Self { file, group })
    }

    /// Opens the function, which resets it.
    pub(crate) fn open(&self, address: PciAddress) -> Result<Function> {
        let file = memory::device(&self.group, &address.to_string())
            .with_context(|| format!("get the device {address} from its group"))?;
        let flags =
            memory::device_flags(&file).with_context(|| format!("ask {address} for its device info"))?;
        for (flag, what) in [
            (VFIO_DEVICE_FLAGS_PCI, "is no PCI device"),
            (VFIO_DEVICE_FLAGS_RESET, "cannot be reset, so that a next holder could find our state"),
        ] {
            ensure!(flags & flag != 0, "{address} {what} (flags {flags:#x})");
        }
        Ok(Function { file: Rc::new(file), address })
    }
}

/// Memory that the device reaches, from [`DmaArea::iova`]; until it is dropped.
#[derive(Debug)]
pub(crate) struct DmaArea {
    memory: DmaMemory,
    container: Rc<Container>,
}

impl DmaArea {
    /// Allocates `length` bytes (whole pages) and gives the device access to them.
    pub(crate) fn map(container: &Rc<Container>, length: NonZeroUsize) -> Result<Self> {
        let memory = DmaMemory::allocate(length).with_context(|| format!("allocate {length} bytes"))?;
        memory::map_dma(&container.file, &memory, IOVA)
            .map_err(|errno| anyhow!(errno).context(dma_refused(errno, length.get())))?;
        Ok(Self { memory, container: Rc::clone(container) })
    }

    /// The memory, as we see it.
    pub(crate) fn memory(&self) -> &DmaMemory {
        &self.memory
    }

    /// The memory's first byte, as the device sees it.
    pub(crate) fn iova(&self) -> u64 {
        IOVA
    }
}

impl Drop for DmaArea {
    fn drop(&mut self) {
        // A failure leaves the pages pinned until the container closes, which is next.
        let _ = memory::unmap_dma(&self.container.file, IOVA, self.memory.length());
    }
}

/// An open function.
#[derive(Debug)]
pub(crate) struct Function {
    file: Rc<File>,
    address: PciAddress,
}

impl Function {
    /// A region by VFIO's index: 0 to 5 are the BARs, 7 the config space.
    pub(crate) fn region(&self, index: u32) -> Result<Region> {
        let info = memory::region_info(&self.file, index)
            .with_context(|| format!("ask {} for region {index}", self.address))?;
        Ok(Region {
            file: Rc::clone(&self.file),
            index,
            start: info.offset,
            size: info.size,
            mappable: info.flags & VFIO_REGION_INFO_FLAG_MMAP != 0,
        })
    }
}

/// A region of the function: a window of its file. One access is one system call, of the register's width.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    file: Rc<File>,
    index: u32,
    start: u64,
    size: u64,
    mappable: bool,
}

impl Region {
    /// A region over a plain file, for the tests of what drives one.
    #[cfg(test)]
    pub(crate) fn over(file: File, size: u64) -> Self {
        Self { file: Rc::new(file), index: 0, start: 0, size, mappable: false }
    }

    /// Whether the region may be mapped; an I/O BAR never is.
    pub(crate) fn mappable(&self) -> bool {
        self.mappable
    }

    /// Reads `N` bytes at `offset`.
    pub(crate) fn read<const N: usize>(&self, offset: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.check(offset, N as u64)?;
        self.file
            .read_exact_at(&mut bytes, self.start + offset)
            .with_context(|| format!("read {N} bytes at {offset:#x} of region {}", self.index))?;
        Ok(bytes)
    }

    /// Writes `bytes` at `offset`.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.check(offset, bytes.len() as u64)?;
        self.file
            .write_all_at(bytes, self.start + offset)
            .with_context(|| format!("write {} bytes at {offset:#x} of region {}", bytes.len(), self.index))
    }

    /// Maps `length` bytes at `offset`, both whole pages, as a doorbell.
    pub(crate) fn map_doorbell(&self, offset: u64, length: NonZeroUsize) -> Result<DoorbellPage> {
        self.check(offset, length.get() as u64)?;
        if !self.mappable {
            bail!("region {} offers no mapping", self.index);
        }
        let start = i64::try_from(self.start + offset).context("a file offset beyond 63 bits")?;
        DoorbellPage::map(&self.file, start, length)
            .with_context(|| format!("map {length} bytes at {offset:#x} of region {}", self.index))
    }

    fn check(&self, offset: u64, length: u64) -> Result<()> {
        ensure!(
            offset.checked_add(length).is_some_and(|end| end <= self.size),
            "{length} bytes at {offset:#x} are outside region {} of {} bytes",
            self.index,
            self.size
        );
        Ok(())
    }
}

fn open(node: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(node)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

/// What was tried when the kernel refused to map memory. ENOMEM is nearly always the limit on locked memory.
fn dma_refused(errno: Errno, length: usize) -> String {
    let tried = format!("map {length} bytes for DMA at {IOVA:#x}");
    if errno != Errno::ENOMEM {
        return tried;
    }
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, hard)) => format!("{tried}, with RLIMIT_MEMLOCK at {soft} of {hard} bytes"),
        Err(_) => format!("{tried}, with an unknown RLIMIT_MEMLOCK"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_access_leaves_its_region() {
        let region = Region::over(tempfile::tempfile().unwrap(), 16);
        region.write(12, &[1, 2, 3, 4]).unwrap();
        assert_eq!(region.read(12).unwrap(), [1, 2, 3, 4]);
        let error = region.write(14, &[0; 4]).unwrap_err().to_string();
        assert_eq!(error, "4 bytes at 0xe are outside region 0 of 16 bytes");
        assert!(region.read::<1>(u64::MAX).is_err());
    }

    #[test]
    fn a_full_memlock_is_named_with_its_limit() {
        assert!(dma_refused(Errno::ENOMEM, 4096).contains("RLIMIT_MEMLOCK"));
        assert_eq!(dma_refused(Errno::EINVAL, 4096), "map 4096 bytes for DMA at 0x10000000");
    }

    #[test]
    fn a_missing_node_is_named() {
        let error = open_group("/nonexistent/7", Duration::ZERO).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "open the group /nonexistent/7: No such file or directory (os error 2)"
        );
    }
}
