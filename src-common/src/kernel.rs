//! The kernel's objects, one kind a file: what sysfs, netlink and the device nodes say, without judgement.

pub mod auxiliary;
pub mod block;
pub mod boot;
mod device;
pub mod iommu;
pub mod link;
pub mod mac;
pub mod mdev;
pub mod memory;
pub(crate) mod name;
pub mod net;
pub mod netlink;
pub mod netns;
pub mod pci;
pub mod process;
pub mod sriov;
pub mod uevent;
pub mod vdpa;
pub mod vfio;
pub mod virtio;
pub mod virtio_pci;
