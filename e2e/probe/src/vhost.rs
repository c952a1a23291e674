//! A vDPA device behind its vhost node: opened and given memory. The ioctls are the vhost crate's, which follows the
//! kernel's `include/uapi/linux/vhost.h`; how the device is driven by them is in [`crate::virtio::vdpa`].

use std::fmt;
use std::fs::File;
use std::num::NonZeroUsize;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use vhost::VhostBackend;
use vhost::vdpa::VhostVdpa;
use vhost::vhost_kern::VhostKernFeatures;
use vhost::vhost_kern::vdpa::VhostKernVdpa;
use vhost::vhost_kern::vhost_binding::VHOST_BACKEND_F_IOTLB_MSG_V2;
use vm_memory::GuestMemoryMmap;

use crate::dma::page_size;
use crate::memory::{DmaMemory, DoorbellPage};

/// The messages by which memory is mapped.
const IOTLB_MESSAGES: u64 = 1 << VHOST_BACKEND_F_IOTLB_MSG_V2;
/// `ENOTSUPP`, which the kernel has for itself and does not mean to show.
const ENOTSUPP: i32 = 524;

/// The crate translates a guest's addresses by its memory, but not for vDPA, which takes those that are mapped: so
/// there is no guest, and none of its memory.
type Device = VhostKernVdpa<Rc<GuestMemoryMmap>>;

/// An open vhost node of a vDPA device.
pub(crate) struct Node {
    device: Device,
    file: File,
    path: String,
}

impl Node {
    /// Over the node's open file, which this process becomes the owner of.
    pub(crate) fn new(file: File, path: &str) -> Result<Self> {
        let shared = file.try_clone().with_context(|| format!("duplicate the file of {path}"))?;
        let device = Device::with(shared, Rc::new(GuestMemoryMmap::new()), 0);
        let mut this = Self { device, file, path: path.to_owned() };
        this.told("become the owner", this.device.set_owner())?;
        let offered = this.told("get the backend's features", this.device.get_backend_features())?;
        ensure!(
            offered & IOTLB_MESSAGES != 0,
            "the backend of {path} has features {offered:#x}, and no messages that map memory"
        );
        let accepted = this.device.set_backend_features(IOTLB_MESSAGES);
        this.told("set the backend's features", accepted)?;
        Ok(this)
    }

    /// What to ask of it; [`Node::told`] makes an error of ours of what it answers.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// The answer to what was asked of the device.
    pub(crate) fn told<T>(&self, asked: &str, answer: vhost::Result<T>) -> Result<T> {
        answer.map_err(|error| anyhow!(errno(&error)).context(format!("{asked} of {}", self.path)))
    }

    /// Virtio device type (virtio 1.3, section 5).
    pub(crate) fn virtio_type(&self) -> Result<u32> {
        self.told("get the device id", self.device.get_device_id())
    }

    /// Gives the device access to all of `memory` from `iova`.
    pub(crate) fn map(&self, memory: &DmaMemory, iova: u64) -> Result<(), Errno> {
        let length = memory.length() as u64;
        let range = self.device.get_iova_range().map_err(|error| errno(&error))?;
        let last = iova.checked_add(length - 1);
        // The kernel checks it too, but says EFAULT.
        if iova < range.first || last.is_none_or(|last| last > range.last) {
            return Err(Errno::ERANGE);
        }
        self.device.dma_map(iova, length, memory.as_ptr(), false).map_err(|error| errno(&error))
    }

    /// Takes the access to `length` bytes from `iova` back.
    pub(crate) fn unmap(&self, iova: u64, length: usize) -> Result<(), Errno> {
        self.device.dma_unmap(iova, length as u64).map_err(|error| errno(&error))
    }

    /// Maps the doorbell of a queue: one page, that is the queue's alone or rings others as well.
    pub(crate) fn map_doorbell(&self, queue: u16) -> Result<DoorbellPage> {
        let page = page_size()?;
        let offset = i64::try_from(u64::from(queue) * page)?;
        let length = usize::try_from(page).ok().and_then(NonZeroUsize::new).context("a page of no bytes")?;
        DoorbellPage::map(&self.file, offset, length).map_err(|error| {
            let why = match error.raw_os_error() {
                Some(ENOTSUPP) => ", which its driver has no page for",
                _ => "",
            };
            anyhow!(error).context(format!("map the doorbell of queue {queue} of {}{why}", self.path))
        })
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.path).finish()
    }
}

/// The error number alone: that it was an ioctl, the crate need not tell. What the crate refuses itself is EINVAL.
fn errno(error: &vhost::Error) -> Errno {
    match error {
        vhost::Error::IoctlError(error) | vhost::Error::IOError(error) | vhost::Error::VhostOpen(error) => {
            Errno::from_raw(error.raw_os_error().unwrap_or_default())
        }
        _ => Errno::EINVAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_its_number() {
        let busy = || std::io::Error::from(Errno::EBUSY);
        assert_eq!(errno(&vhost::Error::IoctlError(busy())), Errno::EBUSY);
        assert_eq!(errno(&vhost::Error::IOError(busy())), Errno::EBUSY);
        assert_eq!(errno(&vhost::Error::InvalidQueue), Errno::EINVAL);
    }

    #[test]
    fn a_file_that_is_no_node_is_told_from_one() {
        let error = Node::new(tempfile::tempfile().unwrap(), "/dev/some").unwrap_err();
        assert!(format!("{error:#}").starts_with("become the owner of /dev/some: ENOTTY"), "{error:#}");
    }
}
