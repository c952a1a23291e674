//! Everything of this crate that the compiler cannot check: memory shared with the device, and the VFIO ioctls.
//!
//! Owns no policy and no virtio. [`DmaMemory`] is ordinary memory that the device reads and writes too, so it is
//! touched by bounds-checked volatile accesses only. [`DoorbellPage`] is the device's own page, and has no way to be
//! read. The ioctls follow the kernel's `include/uapi/linux/vfio.h` and `iommufd.h`; structures and constants are
//! vfio-bindings' for the one, and of this file for the three calls of the other. Those of vhost are the vhost crate's.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_void};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use vfio_bindings::bindings::vfio::{
    VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd,
    vfio_device_info, vfio_group_status, vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap,
    vfio_region_info,
};

/// `_IO(';', 100 + n)`: how the header numbers every VFIO ioctl, whatever its argument.
mod ioctl {
    use std::ffi::{c_char, c_int};

    use nix::request_code_none;
    use vfio_bindings::bindings::vfio::{
        VFIO_BASE, VFIO_TYPE, vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd, vfio_device_info,
        vfio_group_status, vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap, vfio_region_info,
    };

    use super::iommufd;

    nix::ioctl_none_bad!(get_api_version, request_code_none!(VFIO_TYPE, VFIO_BASE));
    nix::ioctl_write_int_bad!(set_iommu, request_code_none!(VFIO_TYPE, VFIO_BASE + 2));
    nix::ioctl_read_bad!(group_get_status, request_code_none!(VFIO_TYPE, VFIO_BASE + 3), vfio_group_status);
    nix::ioctl_write_ptr_bad!(group_set_container, request_code_none!(VFIO_TYPE, VFIO_BASE + 4), c_int);
    nix::ioctl_write_ptr_bad!(group_get_device_fd, request_code_none!(VFIO_TYPE, VFIO_BASE + 6), c_char);
    nix::ioctl_read_bad!(device_get_info, request_code_none!(VFIO_TYPE, VFIO_BASE + 7), vfio_device_info);
    nix::ioctl_read_bad!(region_get_info, request_code_none!(VFIO_TYPE, VFIO_BASE + 8), vfio_region_info);
    nix::ioctl_none_bad!(device_reset, request_code_none!(VFIO_TYPE, VFIO_BASE + 11));
    nix::ioctl_write_ptr_bad!(
        map_dma,
        request_code_none!(VFIO_TYPE, VFIO_BASE + 13),
        vfio_iommu_type1_dma_map
    );
    nix::ioctl_read_bad!(
        unmap_dma,
        request_code_none!(VFIO_TYPE, VFIO_BASE + 14),
        vfio_iommu_type1_dma_unmap
    );
    nix::ioctl_read_bad!(
        bind_iommufd,
        request_code_none!(VFIO_TYPE, VFIO_BASE + 18),
        vfio_device_bind_iommufd
    );
    nix::ioctl_read_bad!(
        attach_iommufd_pt,
        request_code_none!(VFIO_TYPE, VFIO_BASE + 19),
        vfio_device_attach_iommufd_pt
    );
    // `IOMMUFD_TYPE` is VFIO's ';', its numbers begin at 0x80.
    nix::ioctl_read_bad!(ioas_alloc, request_code_none!(VFIO_TYPE, 0x81), iommufd::IoasAlloc);
    nix::ioctl_write_ptr_bad!(ioas_map, request_code_none!(VFIO_TYPE, 0x85), iommufd::IoasMap);
    nix::ioctl_read_bad!(ioas_unmap, request_code_none!(VFIO_TYPE, 0x86), iommufd::IoasUnmap);
}

/// Structures of `linux/iommufd.h`; `size` is the structure's own.
mod iommufd {
    /// `IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE`.
    pub(super) const MAP_FIXED_READ_WRITE: u32 = 0b111;

    #[repr(C)]
    pub(super) struct IoasAlloc {
        pub(super) size: u32,
        pub(super) flags: u32,
        pub(super) out_ioas_id: u32,
    }

    #[repr(C)]
    pub(super) struct IoasMap {
        pub(super) size: u32,
        pub(super) flags: u32,
        pub(super) ioas_id: u32,
        pub(super) reserved: u32,
        pub(super) user_va: u64,
        pub(super) length: u64,
        pub(super) iova: u64,
    }

    #[repr(C)]
    pub(super) struct IoasUnmap {
        pub(super) size: u32,
        pub(super) ioas_id: u32,
        pub(super) iova: u64,
        pub(super) length: u64,
    }
}

/// Memory that the device reads and writes while we do.
///
/// Offsets are the crate's own arithmetic, never the device's: one out of bounds is a bug, and panics.
#[derive(Debug)]
pub(crate) struct DmaMemory {
    base: NonNull<c_void>,
    length: NonZeroUsize,
}

impl DmaMemory {
    /// Zeroed memory of `length` bytes, page-aligned.
    ///
    /// Shared and of a file: the kernel passes over any other for a device that takes virtual addresses, as the vDPA
    /// simulators do (`vhost_vdpa_va_map`), and tells nobody.
    pub(crate) fn allocate(length: NonZeroUsize) -> io::Result<Self> {
        let file = File::from(memfd_create("dma", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(length.get() as u64)?;
        let (protection, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice, of a file that nobody else has.
        let base = unsafe { mmap(None, length, protection, flags, file, 0) }?;
        Ok(Self { base, length })
    }

    /// Its first byte, for whoever gives the device access.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.base.as_ptr().cast_const().cast()
    }

    /// Bytes of the area.
    pub(crate) fn length(&self) -> usize {
        self.length.get()
    }

    /// The little-endian `u16` at `offset`.
    pub(crate) fn read_u16(&self, offset: usize) -> u16 {
        u16::from_le(self.load(offset))
    }

    /// The little-endian `u32` at `offset`.
    pub(crate) fn read_u32(&self, offset: usize) -> u32 {
        u32::from_le(self.load(offset))
    }

    /// Stores `value` at `offset`, little-endian.
    pub(crate) fn write_u16(&self, offset: usize, value: u16) {
        self.store(offset, value.to_le());
    }

    /// Stores `value` at `offset`, little-endian.
    pub(crate) fn write_u32(&self, offset: usize, value: u32) {
        self.store(offset, value.to_le());
    }

    /// Stores `value` at `offset`, little-endian.
    pub(crate) fn write_u64(&self, offset: usize, value: u64) {
        self.store(offset, value.to_le());
    }

    /// Copies `length` bytes out, from `offset`.
    pub(crate) fn read_bytes(&self, offset: usize, length: usize) -> Vec<u8> {
        (offset..offset + length).map(|at| self.load(at)).collect()
    }

    /// Copies `bytes` in, to `offset`.
    pub(crate) fn write_bytes(&self, offset: usize, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            self.store(at, *byte);
        }
    }

    fn load<T: Copy>(&self, offset: usize) -> T {
        let at = self.pointer::<T>(offset);
        // SAFETY: `pointer` checked bounds and alignment; T is an integer, so any bytes the device left are a value;
        // volatile, since the device writes behind the compiler's back.
        unsafe { at.read_volatile() }
    }

    fn store<T: Copy>(&self, offset: usize, value: T) {
        let at = self.pointer::<T>(offset);
        // SAFETY: `pointer` checked bounds and alignment; no reference into the area is ever made, and the type is
        // not Sync, so that this thread and the device are the only writers.
        unsafe { at.write_volatile(value) }
    }

    fn pointer<T>(&self, offset: usize) -> *mut T {
        let end = offset.checked_add(size_of::<T>()).expect("offsets are below the area's length");
        assert!(end <= self.length.get(), "offset {offset} is outside the DMA area");
        assert!(offset.is_multiple_of(align_of::<T>()), "offset {offset} is not aligned");
        // SAFETY: in bounds of the one mapping that `base` starts, as just checked.
        unsafe { self.base.as_ptr().byte_add(offset) }.cast()
    }
}

impl Drop for DmaMemory {
    fn drop(&mut self) {
        // SAFETY: `base` and `length` are the mapping made in `allocate`; nothing points into it but self. A device
        // that still writes reaches the pinned pages, which the kernel keeps until they are unmapped from the IOMMU.
        let unmapped = unsafe { munmap(self.base, self.length.get()) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

/// The doorbell, mapped from the device's region: written, never read.
#[derive(Debug)]
pub(crate) struct DoorbellPage {
    base: NonNull<c_void>,
    length: NonZeroUsize,
}

impl DoorbellPage {
    /// Maps `length` bytes at `offset` of the device's file, both whole pages, shared and for writing only.
    pub(crate) fn map(device: &File, offset: i64, length: NonZeroUsize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; it is reached through `ring` alone.
        let base = unsafe { mmap(None, length, ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, device, offset) };
        // vhost refuses with an error number that the kernel keeps to itself, and `Errno` does not know.
        let base = base.map_err(|_| io::Error::last_os_error())?;
        Ok(Self { base, length })
    }

    /// One 16-bit little-endian write, `at` bytes into the mapping.
    pub(crate) fn ring(&self, at: usize, value: u16) {
        assert!(at.is_multiple_of(2) && at + 2 <= self.length.get(), "doorbell {at} is outside its page");
        // SAFETY: in bounds and aligned, as just checked; a device register takes one access of this very width,
        // which volatile keeps.
        unsafe { self.base.as_ptr().byte_add(at).cast::<u16>().write_volatile(value.to_le()) }
    }
}

impl Drop for DoorbellPage {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`; nothing points into it but self.
        let unmapped = unsafe { munmap(self.base, self.length.get()) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

/// `VFIO_GET_API_VERSION` of a container.
pub(crate) fn api_version(container: &File) -> Result<c_int, Errno> {
    // SAFETY: takes no argument.
    unsafe { ioctl::get_api_version(container.as_raw_fd()) }
}

/// `VFIO_GROUP_GET_STATUS`: the group's flags.
pub(crate) fn group_flags(group: &File) -> Result<u32, Errno> {
    let mut status = vfio_group_status { argsz: size_of_u32::<vfio_group_status>(), flags: 0 };
    // SAFETY: the kernel writes at most `argsz` bytes into a live structure of that size.
    unsafe { ioctl::group_get_status(group.as_raw_fd(), &raw mut status) }?;
    Ok(status.flags)
}

/// `VFIO_GROUP_SET_CONTAINER`.
pub(crate) fn set_container(group: &File, container: &File) -> Result<(), Errno> {
    let descriptor = container.as_raw_fd();
    // SAFETY: the kernel reads one int from a live one.
    unsafe { ioctl::group_set_container(group.as_raw_fd(), &raw const descriptor) }?;
    Ok(())
}

/// `VFIO_SET_IOMMU`: the container's IOMMU model, such as `VFIO_TYPE1v2_IOMMU`.
pub(crate) fn set_iommu(container: &File, model: c_int) -> Result<(), Errno> {
    // SAFETY: takes an integer.
    unsafe { ioctl::set_iommu(container.as_raw_fd(), model) }?;
    Ok(())
}

/// `VFIO_GROUP_GET_DEVICE_FD`: opens the group's device of that name, and by that resets it.
pub(crate) fn device(group: &File, name: &str) -> Result<File, Errno> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads a string that ends in NUL and outlives the call.
    let descriptor = unsafe { ioctl::group_get_device_fd(group.as_raw_fd(), name.as_ptr()) }?;
    // SAFETY: a new descriptor that the kernel just made for us, owned by nobody else.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

/// `VFIO_DEVICE_GET_INFO`, without the capabilities that may follow the structure.
pub(crate) fn device_info(device: &File) -> Result<vfio_device_info, Errno> {
    let mut info = vfio_device_info { argsz: size_of_u32::<vfio_device_info>(), ..Default::default() };
    // SAFETY: the kernel writes at most `argsz` bytes into a live structure of that size.
    unsafe { ioctl::device_get_info(device.as_raw_fd(), &raw mut info) }?;
    Ok(info)
}

/// `VFIO_DEVICE_RESET`.
pub(crate) fn reset(device: &File) -> Result<(), Errno> {
    // SAFETY: takes no argument.
    unsafe { ioctl::device_reset(device.as_raw_fd()) }?;
    Ok(())
}

/// `VFIO_DEVICE_GET_REGION_INFO`, without the capabilities that may follow the structure.
pub(crate) fn region_info(device: &File, index: u32) -> Result<vfio_region_info, Errno> {
    let mut info = vfio_region_info { argsz: size_of_u32::<vfio_region_info>(), index, ..Default::default() };
    // SAFETY: the kernel writes at most `argsz` bytes into a live structure of that size.
    unsafe { ioctl::region_get_info(device.as_raw_fd(), &raw mut info) }?;
    Ok(info)
}

/// `VFIO_IOMMU_MAP_DMA`: the device reaches all of `memory`, and nothing else, from `iova`.
pub(crate) fn map_dma(container: &File, memory: &DmaMemory, iova: u64) -> Result<(), Errno> {
    let map = vfio_iommu_type1_dma_map {
        argsz: size_of_u32::<vfio_iommu_type1_dma_map>(),
        flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        vaddr: memory.as_ptr() as u64,
        iova,
        size: memory.length() as u64,
    };
    // SAFETY: the kernel reads a live structure; the memory it names is a mapping of ours that only volatile
    // accesses touch, so the device may write it from now on. Its pages stay pinned until unmapped or closed.
    unsafe { ioctl::map_dma(container.as_raw_fd(), &raw const map) }?;
    Ok(())
}

/// `VFIO_IOMMU_UNMAP_DMA` of `length` bytes from `iova`.
pub(crate) fn unmap_dma(container: &File, iova: u64, length: usize) -> Result<(), Errno> {
    let mut unmap = vfio_iommu_type1_dma_unmap {
        argsz: size_of_u32::<vfio_iommu_type1_dma_unmap>(),
        iova,
        size: length as u64,
        ..Default::default()
    };
    // SAFETY: the kernel reads, and answers in, at most `argsz` bytes of a live structure of that size.
    unsafe { ioctl::unmap_dma(container.as_raw_fd(), &raw mut unmap) }?;
    Ok(())
}

/// `VFIO_DEVICE_BIND_IOMMUFD`: opens the device behind its own node, and by that resets it.
pub(crate) fn bind_iommufd(device: &File, iommu: &File) -> Result<(), Errno> {
    let mut bind = vfio_device_bind_iommufd {
        argsz: size_of_u32::<vfio_device_bind_iommufd>(),
        iommufd: iommu.as_raw_fd(),
        ..Default::default()
    };
    // SAFETY: the kernel reads, and answers in, at most `argsz` bytes of a live structure of that size.
    unsafe { ioctl::bind_iommufd(device.as_raw_fd(), &raw mut bind) }?;
    Ok(())
}

/// `IOMMU_IOAS_ALLOC`: the id of a new, empty address space.
pub(crate) fn alloc_ioas(iommu: &File) -> Result<u32, Errno> {
    let mut alloc =
        iommufd::IoasAlloc { size: size_of_u32::<iommufd::IoasAlloc>(), flags: 0, out_ioas_id: 0 };
    // SAFETY: the kernel reads, and answers in, at most `size` bytes of a live structure of that size.
    unsafe { ioctl::ioas_alloc(iommu.as_raw_fd(), &raw mut alloc) }?;
    Ok(alloc.out_ioas_id)
}

/// `VFIO_DEVICE_ATTACH_IOMMUFD_PT`: the device's DMA goes through the address space `ioas` from now on.
pub(crate) fn attach_ioas(device: &File, ioas: u32) -> Result<(), Errno> {
    let mut attach = vfio_device_attach_iommufd_pt {
        argsz: size_of_u32::<vfio_device_attach_iommufd_pt>(),
        pt_id: ioas,
        ..Default::default()
    };
    // SAFETY: the kernel reads, and answers in, at most `argsz` bytes of a live structure of that size.
    unsafe { ioctl::attach_iommufd_pt(device.as_raw_fd(), &raw mut attach) }?;
    Ok(())
}

/// `IOMMU_IOAS_MAP`: what [`map_dma`] is to a container.
pub(crate) fn map_ioas(iommu: &File, ioas: u32, memory: &DmaMemory, iova: u64) -> Result<(), Errno> {
    let map = iommufd::IoasMap {
        size: size_of_u32::<iommufd::IoasMap>(),
        flags: iommufd::MAP_FIXED_READ_WRITE,
        ioas_id: ioas,
        reserved: 0,
        user_va: memory.as_ptr() as u64,
        length: memory.length() as u64,
        iova,
    };
    // SAFETY: as for `map_dma`.
    unsafe { ioctl::ioas_map(iommu.as_raw_fd(), &raw const map) }?;
    Ok(())
}

/// `IOMMU_IOAS_UNMAP` of `length` bytes from `iova`.
pub(crate) fn unmap_ioas(iommu: &File, ioas: u32, iova: u64, length: usize) -> Result<(), Errno> {
    let mut unmap = iommufd::IoasUnmap {
        size: size_of_u32::<iommufd::IoasUnmap>(),
        ioas_id: ioas,
        iova,
        length: length as u64,
    };
    // SAFETY: the kernel reads, and answers in, at most `size` bytes of a live structure of that size.
    unsafe { ioctl::ioas_unmap(iommu.as_raw_fd(), &raw mut unmap) }?;
    Ok(())
}

/// Size of a structure for its `argsz`.
const fn size_of_u32<T>() -> u32 {
    size_of::<T>() as u32
}
