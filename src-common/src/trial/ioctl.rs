//! The ioctls of VFIO, iommufd and vhost-vdpa, and one mapping that is made and dropped without a byte of it being touched.
//!
//! The only file of the product with `unsafe`; it judges nothing and names no path. Follows the kernel's
//! `include/uapi/linux/vfio.h`, `iommufd.h` and `vhost.h`; structures are vfio-bindings'. By hand and not by vfio-ioctls: that
//! crate serves devices' own nodes only together with KVM's crates, keeps its groups private, opens `/dev` whatever the
//! host's root is, and unwraps when it drops a device that vanished.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int};
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, FromRawFd};

use nix::Result;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use vfio_bindings::bindings::vfio::{
    VFIO_GROUP_FLAGS_VIABLE, VFIO_TYPE1v2_IOMMU, vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd,
    vfio_device_info, vfio_group_status, vfio_region_info,
};

use crate::kernel::pci::PciAddress;

/// Room for a region's capabilities: with one of 16 bytes an area, 252 mappable areas.
const CAPABILITIES: usize = 4096 - size_of::<vfio_region_info>();

/// Bytes of a vDPA device's configuration that are read; no type of virtio 1.3 has more.
const CONFIG_BYTES: usize = 256;

mod number {
    //! `_IO(';', n)`, whatever the argument is; iommufd shares VFIO's letter.
    use std::ffi::{c_char, c_int};

    use nix::{request_code_none, request_code_read};
    use vfio_bindings::bindings::vfio::{
        VFIO_BASE, VFIO_TYPE, vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd, vfio_device_info,
        vfio_group_status,
    };

    use super::{ConfigSpace, IoasAlloc, RegionInfo};

    nix::ioctl_write_int_bad!(set_iommu, request_code_none!(VFIO_TYPE, VFIO_BASE + 2));
    nix::ioctl_read_bad!(group_status, request_code_none!(VFIO_TYPE, VFIO_BASE + 3), vfio_group_status);
    nix::ioctl_write_ptr_bad!(group_set_container, request_code_none!(VFIO_TYPE, VFIO_BASE + 4), c_int);
    nix::ioctl_write_ptr_bad!(group_device, request_code_none!(VFIO_TYPE, VFIO_BASE + 6), c_char);
    nix::ioctl_read_bad!(device_info, request_code_none!(VFIO_TYPE, VFIO_BASE + 7), vfio_device_info);
    nix::ioctl_read_bad!(region_info, request_code_none!(VFIO_TYPE, VFIO_BASE + 8), RegionInfo);
    nix::ioctl_read_bad!(bind, request_code_none!(VFIO_TYPE, VFIO_BASE + 18), vfio_device_bind_iommufd);
    nix::ioctl_read_bad!(
        attach,
        request_code_none!(VFIO_TYPE, VFIO_BASE + 19),
        vfio_device_attach_iommufd_pt
    );
    nix::ioctl_read_bad!(ioas_alloc, request_code_none!(VFIO_TYPE, 0x81), IoasAlloc);

    // `include/uapi/linux/vhost.h`: VHOST_VIRTIO is 0xaf.
    const VHOST: u8 = 0xaf;
    nix::ioctl_read!(vhost_features, VHOST, 0x00, u64);
    nix::ioctl_read!(vdpa_device_id, VHOST, 0x70, u32);
    nix::ioctl_read_bad!(vdpa_config, request_code_read!(VHOST, 0x73, 8), ConfigSpace);
    nix::ioctl_read!(vdpa_config_size, VHOST, 0x79, u32);
    nix::ioctl_read!(vdpa_queues, VHOST, 0x80, u32);
}

/// `struct vhost_vdpa_config`, with room for the longest configuration that a device of virtio 1.3 has.
#[repr(C)]
pub(super) struct ConfigSpace {
    offset: u32,
    length: u32,
    bytes: [u8; CONFIG_BYTES],
}

/// A region with its capabilities behind it.
#[repr(C)]
pub(super) struct RegionInfo {
    pub(super) info: vfio_region_info,
    pub(super) capabilities: [u8; CAPABILITIES],
}

/// `struct iommu_ioas_alloc`, of which vfio-bindings has none.
#[repr(C)]
pub(super) struct IoasAlloc {
    size: u32,
    flags: u32,
    out_ioas_id: u32,
}

/// Whether every member of the group is on VFIO or on nothing.
pub(super) fn is_viable(group: &File) -> Result<bool> {
    let mut status = vfio_group_status { argsz: size_of_u32::<vfio_group_status>(), flags: 0 };
    // SAFETY: the kernel writes at most `argsz` bytes, which `status` has.
    unsafe { number::group_status(group.as_raw_fd(), &raw mut status) }?;
    Ok(status.flags & VFIO_GROUP_FLAGS_VIABLE != 0)
}

/// Puts a group into a container.
pub(super) fn set_container(group: &File, container: &File) -> Result<()> {
    let container = container.as_raw_fd();
    // SAFETY: the kernel reads one int, the descriptor, which is open as long as the file that it was taken from.
    unsafe { number::group_set_container(group.as_raw_fd(), &raw const container) }.map(drop)
}

/// Gives the container's groups a translation of type 1, version 2.
pub(super) fn set_iommu(container: &File) -> Result<()> {
    let type1v2 = c_int::try_from(VFIO_TYPE1v2_IOMMU).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the argument is a number, not a pointer.
    unsafe { number::set_iommu(container.as_raw_fd(), type1v2) }.map(drop)
}

/// Opens a function of an attached group, which resets it.
pub(super) fn device(group: &File, address: PciAddress) -> Result<File> {
    let name = CString::new(address.to_string()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads up to the NUL, which `name` ends with.
    let descriptor = unsafe { number::group_device(group.as_raw_fd(), name.as_ptr()) }?;
    // SAFETY: the kernel just opened this descriptor for us, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

/// Opens a function by its own node for an iommufd, which resets it.
pub(super) fn bind(device: &File, iommufd: &File) -> Result<()> {
    let mut bind = vfio_device_bind_iommufd {
        argsz: size_of_u32::<vfio_device_bind_iommufd>(),
        iommufd: iommufd.as_raw_fd(),
        ..Default::default()
    };
    // SAFETY: the kernel reads and writes at most `argsz` bytes, which `bind` has; with no flag set it follows no
    // pointer in it.
    unsafe { number::bind(device.as_raw_fd(), &raw mut bind) }.map(drop)
}

/// An empty address space in an iommufd.
pub(super) fn allocate_ioas(iommufd: &File) -> Result<u32> {
    let mut ioas = IoasAlloc { size: size_of_u32::<IoasAlloc>(), flags: 0, out_ioas_id: 0 };
    // SAFETY: the kernel reads and writes at most `size` bytes, which `ioas` has.
    unsafe { number::ioas_alloc(iommufd.as_raw_fd(), &raw mut ioas) }?;
    Ok(ioas.out_ioas_id)
}

/// Gives a bound function the translation of an address space.
pub(super) fn attach(device: &File, ioas: u32) -> Result<()> {
    let mut attach = vfio_device_attach_iommufd_pt {
        argsz: size_of_u32::<vfio_device_attach_iommufd_pt>(),
        pt_id: ioas,
        ..Default::default()
    };
    // SAFETY: the kernel reads and writes at most `argsz` bytes, which `attach` has.
    unsafe { number::attach(device.as_raw_fd(), &raw mut attach) }.map(drop)
}

/// The flags of an open function.
pub(super) fn device_flags(device: &File) -> Result<u32> {
    let mut info = vfio_device_info { argsz: size_of_u32::<vfio_device_info>(), ..Default::default() };
    // SAFETY: the kernel writes at most `argsz` bytes, which `info` has.
    unsafe { number::device_info(device.as_raw_fd(), &raw mut info) }?;
    Ok(info.flags)
}

/// A region of an open function. `E2BIG` where its capabilities take more room than any driver has used.
pub(super) fn region_info(device: &File, index: u32) -> Result<RegionInfo> {
    let argsz = size_of_u32::<RegionInfo>();
    let info = vfio_region_info { argsz, index, ..Default::default() };
    let mut region = RegionInfo { info, capabilities: [0; CAPABILITIES] };
    // SAFETY: the kernel writes at most `argsz` bytes, which `region` has, and any bytes are a value of it.
    unsafe { number::region_info(device.as_raw_fd(), &raw mut region) }?;
    // It then says how much it wants, and leaves all of them out.
    if region.info.argsz > argsz { Err(Errno::E2BIG) } else { Ok(region) }
}

/// Virtio device type of an open vDPA device.
pub(super) fn vdpa_device_id(device: &File) -> Result<u32> {
    let mut id = 0;
    // SAFETY: the kernel writes one u32.
    unsafe { number::vdpa_device_id(device.as_raw_fd(), &raw mut id) }?;
    Ok(id)
}

/// Queues of an open vDPA device.
pub(super) fn vdpa_queues(device: &File) -> Result<u32> {
    let mut count = 0;
    // SAFETY: the kernel writes one u32.
    unsafe { number::vdpa_queues(device.as_raw_fd(), &raw mut count) }?;
    Ok(count)
}

/// Virtio feature bits that an open vDPA device offers.
pub(super) fn vhost_features(device: &File) -> Result<u64> {
    let mut features = 0;
    // SAFETY: the kernel writes one u64.
    unsafe { number::vhost_features(device.as_raw_fd(), &raw mut features) }?;
    Ok(features)
}

/// The configuration space of an open vDPA device, its first 256 bytes if it has more.
pub(super) fn vdpa_config(device: &File) -> Result<Vec<u8>> {
    let mut size = 0;
    // SAFETY: the kernel writes one u32.
    unsafe { number::vdpa_config_size(device.as_raw_fd(), &raw mut size) }?;
    let length = usize::try_from(size).unwrap_or(CONFIG_BYTES).min(CONFIG_BYTES);
    if length == 0 {
        // The kernel refuses to read nothing.
        return Ok(Vec::new());
    }
    let mut config = ConfigSpace {
        offset: 0,
        length: u32::try_from(length).unwrap_or_default(),
        bytes: [0; CONFIG_BYTES],
    };
    // SAFETY: the kernel writes `length` bytes behind the two numbers, which `config` has.
    unsafe { number::vdpa_config(device.as_raw_fd(), &raw mut config) }?;
    Ok(config.bytes[..length].to_vec())
}

/// Maps pages of an open function as its consumer will, and drops the mapping.
pub(super) fn map_and_drop(device: &File, offset: u64, length: u64) -> Result<()> {
    let length = usize::try_from(length).ok().and_then(NonZeroUsize::new).ok_or(Errno::EOVERFLOW)?;
    let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing. It is never dereferenced: a read
    // could fault while memory decode is off, a write would ring.
    let page = unsafe { mmap(None, length, ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, device, offset) }?;
    // SAFETY: this is the mapping made above, whole, and nothing points into it.
    unsafe { munmap(page, length.get()) }
}

fn size_of_u32<T>() -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(u32::MAX)
}
