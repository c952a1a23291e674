//! The two proofs that only an open VFIO group gives: the attach, and the trial mapping of the doorbell.
//!
//! Neither proof needs a DMA mapping, locked memory or a capability beyond uid 0. The group is single-open, so nobody's
//! device is disturbed: who holds it makes us fail with `Busy`.

mod error;
mod ioctl;
mod seen;

use std::fs::File;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use vfio_bindings::bindings::vfio::vfio_region_info;

use crate::doorbell::{Doorbell, Hull};
use crate::host::Host;
use crate::kernel::iommu::GroupId;
use crate::kernel::pci::PciAddress;
use crate::kernel::{process, vfio};
use crate::subdevice::Eligible;

pub use error::TrialError;

use seen::Seen;

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
    /// From opening the first node to the mapping in place.
    pub took: Duration,
}

/// Attaches the group to a translation and lets go of it: 4 to 9 ms, and no device is opened, so none is reset.
///
/// This is what shows isolated interrupts: without interrupt remapping `SET_IOMMU` fails with EPERM, while sysfs shows
/// the same as with it.
pub fn attach(host: &Host, group: GroupId) -> Result<(), TrialError> {
    attach_group(host, &vfio::group_node(group), vfio::CONTAINER, group).map(drop)
}

/// Opens the function as its consumer will, maps the doorbell's pages and closes again.
///
/// Opening and closing each reset the function, so the next consumer finds it fresh. A busy one is tried again for up
/// to two seconds: a killed holder's descriptors take a moment to go.
pub fn map_doorbell(host: &Host, device: &Eligible) -> Result<Mapped, TrialError> {
    if !host.is_real() {
        return Err(TrialError::NotReal);
    }
    let doorbell = &device.doorbell;
    let deadline = Instant::now() + BUSY_FOR;
    loop {
        let started = Instant::now();
        match open_and_map(host, device) {
            Err(error) if error.is_busy() && Instant::now() < deadline => std::thread::sleep(BUSY_PAUSE),
            Err(error) if error.is_busy() => return Err(held(host, device)),
            Err(error) => return Err(error),
            Ok(mapped_at) => {
                return Ok(Mapped { region: doorbell.bar, hull: doorbell.hull, took: mapped_at - started });
            }
        }
    }
}

fn held(host: &Host, device: &Eligible) -> TrialError {
    let node = vfio::group_node(device.isolation.group);
    let unseen = || "a process that is not seen from here".to_owned();
    let holder = process::holding(host, &node).map_or_else(unseen, |holder| holder.to_string());
    TrialError::Busy { node, holder }
}

/// One open: attach, the checks, the mapping. Returns when the mapping stood.
fn open_and_map(host: &Host, eligible: &Eligible) -> Result<Instant, TrialError> {
    let Eligible { address, ref doorbell, .. } = *eligible;
    let id = eligible.isolation.group;
    let [group, _container] = attach_group(host, &vfio::group_node(id), vfio::CONTAINER, id)?;
    let device = ioctl::device(&group, address);
    let device = device.map_err(refused("VFIO_GROUP_GET_DEVICE_FD", address))?;
    check_and_map(&device, address, doorbell)?;
    Ok(Instant::now())
}

/// A group in a container of its own, with a translation. None of its functions is open yet.
fn attach_group(host: &Host, node: &str, container: &str, id: GroupId) -> Result<[File; 2], TrialError> {
    let container = open(host, container)?;
    let group = open(host, node)?;
    if !ioctl::is_viable(&group).map_err(refused("VFIO_GROUP_GET_STATUS", node))? {
        return Err(TrialError::NotViable(id));
    }
    ioctl::set_container(&group, &container).map_err(refused("VFIO_GROUP_SET_CONTAINER", node))?;
    ioctl::set_iommu(&container).map_err(refused("VFIO_SET_IOMMU", node))?;
    Ok([group, container])
}

fn check_and_map(device: &File, address: PciAddress, doorbell: &Doorbell) -> Result<(), TrialError> {
    let Doorbell { bar: region, hull, .. } = *doorbell;
    let flags = ioctl::device_flags(device).map_err(refused("VFIO_DEVICE_GET_INFO", address))?;
    let region_info = ioctl::region_info(device, u32::from(region))
        .map_err(refused("VFIO_DEVICE_GET_REGION_INFO", address))?;
    let mappable = seen::mappable(&region_info.info, &region_info.capabilities);
    let vfio_region_info { size: region_size, flags: region_flags, offset, .. } = region_info.info;
    seen::judge(address, doorbell, &Seen { flags, region_size, region_flags, mappable })?;
    ioctl::map_and_drop(device, offset + hull.start, hull.length).map_err(|source| TrialError::Map {
        address,
        region,
        hull,
        source,
    })
}

fn open(host: &Host, node: &str) -> Result<File, TrialError> {
    File::options()
        .read(true)
        .write(true)
        .open(host.path(node))
        .map_err(|source| TrialError::Open { node: node.to_owned(), source })
}

fn refused(doing: &'static str, on: impl ToString) -> impl FnOnce(Errno) -> TrialError {
    move |source| TrialError::Refused { doing, on: on.to_string(), source }
}
