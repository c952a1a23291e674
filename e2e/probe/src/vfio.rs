//! The sub-device through VFIO: the function, its regions, and memory it may reach. How it is opened is in
//! [`crate::attach`], the ioctls themselves are in [`crate::memory`].

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use doorbell_common::kernel::pci::PciAddress;
use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_REGION_INFO_FLAG_MMAP,
};

use crate::attach::Space;
use crate::memlock;
use crate::memory::{self, DmaMemory, DoorbellPage};

/// Where the device sees our memory. Any address does that no platform reserves; x86 keeps 0xfee0_0000 for its
/// interrupts and arm64 0x0800_0000, both of one MiB.
const IOVA: u64 = 0x1000_0000;

/// Memory that the device reaches, from [`DmaArea::iova`]; until it is dropped.
#[derive(Debug)]
pub(crate) struct DmaArea {
    memory: DmaMemory,
    space: Rc<Space>,
}

impl DmaArea {
    /// Allocates at least `length` bytes, in whole pages, and gives the device access to them in one mapping.
    pub(crate) fn map(space: &Rc<Space>, length: NonZeroUsize) -> Result<Self> {
        let pages = u64::try_from(length.get())?.checked_next_multiple_of(page_size()?);
        let length = pages.and_then(|bytes| usize::try_from(bytes).ok()).and_then(NonZeroUsize::new);
        let length = length.context("a DMA area beyond the address space")?;
        let memory = DmaMemory::allocate(length).with_context(|| format!("allocate {length} bytes"))?;
        space.map(&memory, IOVA).map_err(|errno| anyhow!(errno).context(dma_refused(errno, length.get())))?;
        Ok(Self { memory, space: Rc::clone(space) })
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
        // A failure leaves the pages pinned until the address space closes, which is next.
        let _ = self.space.unmap(IOVA, self.memory.length());
    }
}

/// An open function.
#[derive(Debug)]
pub(crate) struct Function {
    file: Rc<File>,
    address: PciAddress,
}

impl Function {
    /// The function behind an open device file.
    pub(crate) fn new(file: File, address: PciAddress) -> Result<Self> {
        let flags =
            memory::device_flags(&file).with_context(|| format!("ask {address} for its device info"))?;
        for (flag, what) in [
            (VFIO_DEVICE_FLAGS_PCI, "is no PCI device"),
            (VFIO_DEVICE_FLAGS_RESET, "cannot be reset, so that a next holder could find our state"),
        ] {
            ensure!(flags & flag != 0, "{address} {what} (flags {flags:#x})");
        }
        Ok(Self { file: Rc::new(file), address })
    }

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

/// Bytes of a page.
pub(crate) fn page_size() -> Result<u64> {
    let size = sysconf(SysconfVar::PAGE_SIZE).context("ask for the page size")?;
    size.and_then(|size| u64::try_from(size).ok()).context("the system has no page size")
}

/// What was tried when the kernel refused to map memory. ENOMEM is nearly always the limit on locked memory.
fn dma_refused(errno: Errno, length: usize) -> String {
    let tried = format!("map {length} bytes for DMA at {IOVA:#x}");
    match memlock::limit() {
        Some(limit) if errno == Errno::ENOMEM => format!("{tried}, with RLIMIT_MEMLOCK at {limit} bytes"),
        _ => tried,
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
    fn only_a_full_memlock_is_named_with_its_limit() {
        let limited = memlock::limit().is_some();
        assert_eq!(dma_refused(Errno::ENOMEM, 4096).contains("RLIMIT_MEMLOCK"), limited);
        assert_eq!(dma_refused(Errno::EINVAL, 4096), "map 4096 bytes for DMA at 0x10000000");
    }
}
