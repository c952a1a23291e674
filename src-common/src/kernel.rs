//! The kernel's objects, one kind a file: what sysfs, netlink and the device nodes say, without judgement.

pub mod boot;
pub mod iommu;
pub mod link;
pub mod mac;
pub mod memory;
pub mod netlink;
pub mod netns;
pub mod pci;
pub mod process;
pub mod sriov;
pub mod vfio;
pub mod virtio_pci;
