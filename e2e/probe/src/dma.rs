//! Memory that the device reaches: the address space that its DMA goes through, and what is mapped there.

use std::fs::File;
use std::num::NonZeroUsize;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};

use crate::memlock;
use crate::memory::{self, DmaMemory};
use crate::vhost::Node;

/// Where the device sees our memory. Any address does that no platform reserves; x86 keeps 0xfee0_0000 for its
/// interrupts and arm64 0x0800_0000, both of one MiB.
const IOVA: u64 = 0x1000_0000;

/// An address space that a device's DMA goes through.
#[derive(Debug)]
pub(crate) enum Space {
    /// A type 1 (v2) container.
    Container(File),
    /// One of an iommufd's.
    Ioas {
        /// The iommufd.
        iommu: File,
        /// The address space's id in it.
        id: u32,
    },
    /// The one of a vDPA device, behind its node.
    Vhost(Rc<Node>),
}

impl Space {
    /// Gives the device access to all of `memory` from `iova`.
    fn map(&self, memory: &DmaMemory, iova: u64) -> Result<(), Errno> {
        match self {
            Self::Container(container) => memory::map_dma(container, memory, iova),
            Self::Ioas { iommu, id } => memory::map_ioas(iommu, *id, memory, iova),
            Self::Vhost(node) => node.map(memory, iova),
        }
    }

    /// Takes the access to `length` bytes from `iova` back.
    fn unmap(&self, iova: u64, length: usize) -> Result<(), Errno> {
        match self {
            Self::Container(container) => memory::unmap_dma(container, iova, length),
            Self::Ioas { iommu, id } => memory::unmap_ioas(iommu, *id, iova, length),
            Self::Vhost(node) => node.unmap(iova, length),
        }
    }
}

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
        space.map(&memory, IOVA).map_err(|errno| anyhow!(errno).context(refused(errno, length.get())))?;
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

/// Bytes of a page.
pub(crate) fn page_size() -> Result<u64> {
    let size = sysconf(SysconfVar::PAGE_SIZE).context("ask for the page size")?;
    size.and_then(|size| u64::try_from(size).ok()).context("the system has no page size")
}

/// What was tried when the kernel refused to map memory, with the limit on locked memory where it is nearly always that.
/// VFIO then says ENOMEM; vhost says EFAULT, as it does to all that a device does not take (`vhost_chr_write_iter`).
fn refused(errno: Errno, length: usize) -> String {
    let tried = format!("map {length} bytes for DMA at {IOVA:#x}");
    match memlock::limit() {
        Some(limit) if matches!(errno, Errno::ENOMEM | Errno::EFAULT) => {
            format!("{tried}, with RLIMIT_MEMLOCK at {limit} bytes")
        }
        _ => tried,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_memlock_is_named_with_its_limit() {
        let limited = memlock::limit().is_some();
        assert_eq!(refused(Errno::ENOMEM, 4096).contains("RLIMIT_MEMLOCK"), limited);
        assert_eq!(refused(Errno::EFAULT, 4096).contains("RLIMIT_MEMLOCK"), limited);
        assert_eq!(refused(Errno::EINVAL, 4096), "map 4096 bytes for DMA at 0x10000000");
    }
}
