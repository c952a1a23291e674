//! The two proofs that only an open VFIO group gives: the attach, and the trial mapping of the doorbell.
//!
//! This is the only file of the product with `unsafe`: the ioctls that vfio-ioctls keeps to itself, and one mapping
//! that is made and dropped without a byte of it being touched. Neither proof needs a DMA mapping, locked memory or a
//! capability beyond uid 0. The group is single-open, so nobody's device is disturbed: who holds it makes us fail
//! with `Busy`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_RESET, VFIO_GROUP_FLAGS_VIABLE, VFIO_REGION_INFO_FLAG_MMAP, VFIO_TYPE1v2_IOMMU,
    vfio_device_info, vfio_group_status,
};
use vfio_ioctls::{VfioContainer, VfioDevice, VfioError, VfioRegionInfoCap};

use crate::doorbell::{Doorbell, Hull};
use crate::host::Host;
use crate::kernel::iommu::GroupId;
use crate::kernel::pci::{self, PciAddress};
use crate::kernel::{process, vfio};
use crate::subdevice::Eligible;

/// After a holder was killed its device takes some 80 ms to be free again; beyond this the holder lives.
const BUSY_FOR: Duration = Duration::from_secs(2);
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What a trial mapping showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// BAR, which is also the VFIO region index.
    pub region: u8,
    /// The pages that were mapped.
    pub hull: Hull,
    /// From opening the group to the mapping in place.
    pub took: Duration,
}

/// Why a proof failed.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// Somebody has the group open.
    #[error("{node} is in use by {holder}")]
    Busy {
        /// The group's node.
        node: String,
        /// Process that has it open, as far as this process may see.
        holder: String,
    },
    /// A node can't be opened.
    #[error("open {node}")]
    Open {
        /// The node.
        node: String,
        /// Why.
        source: io::Error,
    },
    /// A member of the group is on a driver that does not share with VFIO.
    #[error("IOMMU group {0} is not viable: a member is bound to a host driver")]
    NotViable(GroupId),
    /// The kernel refused a step.
    #[error("{doing} on {on}{}", hint(*source))]
    Refused {
        /// The step.
        doing: &'static str,
        /// A group's node or a function.
        on: String,
        /// Why.
        source: Errno,
    },
    /// vfio-ioctls could not open the device.
    #[error("open {address} through VFIO")]
    Device {
        /// The function.
        address: PciAddress,
        /// Why.
        source: VfioError,
    },
    /// What one consumer did would stay for the next.
    #[error("{0} can't be reset (VFIO_DEVICE_FLAGS_RESET is not set)")]
    NoReset(PciAddress),
    /// The driver's idea of the BAR differs from what the verdict rests on.
    #[error("{address}: {what}")]
    Region {
        /// The function.
        address: PciAddress,
        /// What differs.
        what: String,
    },
    /// The mapping itself failed.
    #[error("map {:#x} bytes at {:#x} of region {region} of {address}", hull.length, hull.start)]
    Map {
        /// The function.
        address: PciAddress,
        /// VFIO region index.
        region: u8,
        /// The pages.
        hull: Hull,
        /// Why.
        source: Errno,
    },
    /// A captured tree has no devices to open.
    #[error("a captured tree has no device nodes to open")]
    NotReal,
}

mod ioctl {
    //! `include/uapi/linux/vfio.h`: VFIO_TYPE is ';', VFIO_BASE 100.
    use nix::libc::c_int;
    use vfio_bindings::bindings::vfio::{vfio_device_info, vfio_group_status};

    nix::ioctl_write_int_bad!(set_iommu, nix::request_code_none!(b';', 102));
    nix::ioctl_readwrite_bad!(group_status, nix::request_code_none!(b';', 103), vfio_group_status);
    nix::ioctl_write_ptr_bad!(group_set_container, nix::request_code_none!(b';', 104), c_int);
    nix::ioctl_readwrite_bad!(device_info, nix::request_code_none!(b';', 107), vfio_device_info);
}

/// Attaches the group to a translation and lets go of it: 4 to 9 ms, and no device is opened, so none is reset.
///
/// This is what shows isolated interrupts: without interrupt remapping `SET_IOMMU` fails with EPERM, while sysfs shows
/// the same as with it.
pub fn attach(host: &Host, group: GroupId) -> Result<(), TrialError> {
    let container = open(host, vfio::CONTAINER)?;
    let node = vfio::group_node(group);
    let group_file = open(host, &node)?;
    let failed = |doing| {
        let on = node.clone();
        move |source| TrialError::Refused { doing, on, source }
    };

    let mut status = vfio_group_status { argsz: size_of_u32::<vfio_group_status>(), flags: 0 };
    // SAFETY: the descriptor is an open VFIO group, and the kernel writes at most `argsz` bytes of `status`.
    unsafe { ioctl::group_status(group_file.as_raw_fd(), &raw mut status) }
        .map_err(failed("VFIO_GROUP_GET_STATUS"))?;
    if status.flags & VFIO_GROUP_FLAGS_VIABLE == 0 {
        return Err(TrialError::NotViable(group));
    }
    let container_fd = container.as_raw_fd();
    // SAFETY: the kernel reads one int, the container's descriptor, which stays open behind this call.
    unsafe { ioctl::group_set_container(group_file.as_raw_fd(), &raw const container_fd) }
        .map_err(failed("VFIO_GROUP_SET_CONTAINER"))?;
    let type1v2 = i32::try_from(VFIO_TYPE1v2_IOMMU).unwrap_or_default();
    // SAFETY: the argument is a number, not a pointer.
    unsafe { ioctl::set_iommu(container_fd, type1v2) }.map_err(failed("VFIO_SET_IOMMU"))?;
    Ok(())
}

/// Opens the function as its consumer will, maps the doorbell's pages and closes again.
///
/// Opening and closing each reset the function, so the next consumer finds it fresh. A busy group is tried again for
/// up to two seconds: a killed holder's descriptors take a moment to go.
pub fn map_doorbell(host: &Host, device: &Eligible) -> Result<Mapped, TrialError> {
    if !host.is_real() {
        return Err(TrialError::NotReal);
    }
    let Eligible { address, doorbell, .. } = *device;
    let node = vfio::group_node(device.isolation.group);
    let deadline = Instant::now() + BUSY_FOR;
    loop {
        let started = Instant::now();
        // vfio-ioctls unwraps when it drops a device that vanished meanwhile: that must not end an ADD half-done.
        let tried = catch_unwind(AssertUnwindSafe(|| open_and_map(host, address, &doorbell)));
        let tried = tried.unwrap_or_else(|_| {
            Err(TrialError::Region { address, what: "the device vanished while it was open".to_owned() })
        });
        match tried {
            Err(error) if error.is_busy() && Instant::now() < deadline => std::thread::sleep(BUSY_PAUSE),
            Err(error) if error.is_busy() => {
                let unseen = || "a process that is not seen from here".to_owned();
                let holder = process::holding(host, &node).map_or_else(unseen, |holder| holder.to_string());
                return Err(TrialError::Busy { node, holder });
            }
            Err(error) => return Err(error),
            Ok(mapped_at) => {
                return Ok(Mapped { region: doorbell.bar, hull: doorbell.hull, took: mapped_at - started });
            }
        }
    }
}

/// One open: attach, FLAGS_RESET, region info, mapping. Returns when the mapping stood.
fn open_and_map(host: &Host, address: PciAddress, doorbell: &Doorbell) -> Result<Instant, TrialError> {
    let opened = |source| TrialError::Device { address, source };
    let container = VfioContainer::new(None).map_err(opened)?;
    let sysfs = host.path(pci::folder(address));
    let device = VfioDevice::new(&sysfs, Arc::new(container), false).map_err(opened)?;

    let mut info = vfio_device_info { argsz: size_of_u32::<vfio_device_info>(), ..Default::default() };
    // SAFETY: the descriptor is an open VFIO device, and the kernel writes at most `argsz` bytes of `info`.
    unsafe { ioctl::device_info(device.as_raw_fd(), &raw mut info) }.map_err(|source| {
        TrialError::Refused { doing: "VFIO_DEVICE_GET_INFO", on: address.to_string(), source }
    })?;
    if info.flags & VFIO_DEVICE_FLAGS_RESET == 0 {
        return Err(TrialError::NoReset(address));
    }
    covered(&device, address, doorbell)?;
    map_and_drop(&device, address, doorbell)?;
    Ok(Instant::now())
}

/// The region is the BAR that the verdict looked at, the driver lets it be mapped, and its holes are not the doorbell.
fn covered(device: &VfioDevice, address: PciAddress, doorbell: &Doorbell) -> Result<(), TrialError> {
    let region = u32::from(doorbell.bar);
    let differs = |what| Err(TrialError::Region { address, what });
    // vfio-ioctls leaves out a region that it could not read, and the later ones shift: their sizes then differ.
    let size = device.get_region_size(region);
    if size != doorbell.bar_length {
        return differs(format!(
            "VFIO region {region} has {size:#x} bytes, BAR {region} has {:#x}",
            doorbell.bar_length
        ));
    }
    if device.get_region_flags(region) & VFIO_REGION_INFO_FLAG_MMAP == 0 {
        return differs(format!("the driver does not let region {region} be mapped"));
    }
    let sparse = device.get_region_caps(region).into_iter().find_map(|capability| match capability {
        VfioRegionInfoCap::SparseMmap(sparse) => Some(sparse.areas),
        _ => None,
    });
    let hull = doorbell.hull;
    let inside =
        |start: u64, size: u64| start <= hull.start && hull.start + hull.length <= start.saturating_add(size);
    match sparse {
        Some(areas) if !areas.iter().any(|area| inside(area.offset, area.size)) => {
            differs(format!("the mappable areas of region {region} leave out the doorbell's pages"))
        }
        _ => Ok(()),
    }
}

fn map_and_drop(device: &VfioDevice, address: PciAddress, doorbell: &Doorbell) -> Result<(), TrialError> {
    let (region, hull) = (doorbell.bar, doorbell.hull);
    let failed = |source| TrialError::Map { address, region, hull, source };
    let length =
        usize::try_from(hull.length).ok().and_then(NonZeroUsize::new).ok_or(failed(Errno::EOVERFLOW))?;
    let offset = device.get_region_offset(u32::from(region)) + hull.start;
    let offset = i64::try_from(offset).map_err(|_| failed(Errno::EOVERFLOW))?;
    // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing. It is never dereferenced: a read
    // could fault while memory decode is off, a write would ring.
    let page = unsafe {
        mmap(None, length, ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, BorrowedDevice(device), offset)
    };
    // SAFETY: this is the mapping made above, whole, and nothing points into it.
    page.and_then(|page| unsafe { munmap(page, length.get()) }).map_err(failed)
}

/// vfio-ioctls gives the raw descriptor only; nix wants a borrowed one.
struct BorrowedDevice<'a>(&'a VfioDevice);

impl std::os::fd::AsFd for BorrowedDevice<'_> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        // SAFETY: the descriptor lives as long as the device that this borrows.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

impl TrialError {
    /// Whether somebody else has the group open.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Busy { .. } => true,
            Self::Open { source, .. } | Self::Device { source: VfioError::OpenGroup(source, _), .. } => {
                source.raw_os_error() == Some(Errno::EBUSY as i32)
            }
            _ => false,
        }
    }
}

fn open(host: &Host, node: &str) -> Result<File, TrialError> {
    File::options()
        .read(true)
        .write(true)
        .open(host.path(node))
        .map_err(|source| TrialError::Open { node: node.to_owned(), source })
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => " (is interrupt remapping on?)",
        _ => "",
    }
}

fn size_of_u32<T>() -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(u32::MAX)
}
