//! The sub-device through VFIO: the function and its regions. How it is opened is in [`crate::attach`], the ioctls
//! themselves are in [`crate::memory`].

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::errno::Errno;
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_REGION_INFO_FLAG_MMAP,
};

use crate::memory::{self, DoorbellPage};

/// An open function.
#[derive(Debug)]
pub(crate) struct Function {
    file: Arc<File>,
    name: String,
    flags: u32,
    regions: u32,
    interrupts: u32,
}

impl Function {
    /// The function, an mdev's too, behind an open device file. It is named in errors as VFIO knows it.
    pub(crate) fn new(file: File, name: &str) -> Result<Self> {
        let info = memory::device_info(&file).with_context(|| format!("ask {name} for its device info"))?;
        Ok(Self {
            file: Arc::new(file),
            name: name.to_owned(),
            flags: info.flags,
            regions: info.num_regions,
            interrupts: info.num_irqs,
        })
    }

    /// Refuses what is not to be driven.
    pub(crate) fn check(&self) -> Result<()> {
        for (flag, what) in [
            (VFIO_DEVICE_FLAGS_PCI, "is no PCI device"),
            (VFIO_DEVICE_FLAGS_RESET, "cannot be reset, so that a next holder could find our state"),
        ] {
            ensure!(self.flags & flag != 0, "{} {what} (flags {:#x})", self.name, self.flags);
        }
        Ok(())
    }

    /// Resets it; `false` where it can't be reset. An mdev may take a reset that its flags do not tell of.
    pub(crate) fn reset(&self) -> Result<bool> {
        match memory::reset(&self.file) {
            Ok(()) => Ok(true),
            Err(Errno::EINVAL | Errno::ENOTTY) => Ok(false),
            Err(errno) => Err(anyhow!(errno).context(format!("reset {}", self.name))),
        }
    }

    /// A region by VFIO's index: 0 to 5 are the BARs, 7 the config space.
    pub(crate) fn region(&self, index: u32) -> Result<Region> {
        let info = memory::region_info(&self.file, index)
            .with_context(|| format!("ask {} for region {index}", self.name))?;
        Ok(Region {
            file: Arc::clone(&self.file),
            index,
            start: info.offset,
            size: info.size,
            mappable: info.flags & VFIO_REGION_INFO_FLAG_MMAP != 0,
        })
    }

    /// `VFIO_DEVICE_FLAGS_*`.
    pub(crate) fn flags(&self) -> u32 {
        self.flags
    }

    /// How many regions there are, empty ones included.
    pub(crate) fn regions(&self) -> u32 {
        self.regions
    }

    /// How many kinds of interrupts there are.
    pub(crate) fn interrupts(&self) -> u32 {
        self.interrupts
    }
}

/// A region of the function: a window of its file. One access is one system call, of the register's width.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    file: Arc<File>,
    index: u32,
    start: u64,
    size: u64,
    mappable: bool,
}

impl Region {
    /// A region over a plain file, for the tests of what drives one.
    #[cfg(test)]
    pub(crate) fn over(file: File, size: u64) -> Self {
        Self { file: Arc::new(file), index: 0, start: 0, size, mappable: true }
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
}
