//! vDPA devices: what stands on their bus and which driver it is bound to, by sysfs; what they can be made of, making
//! and removing them, by netlink.
//!
//! Follows the kernel's `Documentation/ABI/testing/sysfs-bus-vdpa` and `drivers/vdpa/vdpa.c`.

mod bind;
mod bus;
mod child;
mod config;
mod exchange;
mod managed;
mod management;
mod message;
mod name;
mod netlink;

pub use bind::{BindError, BusDriver, autoprobe, bind, set_autoprobe, unbind};
pub use bus::{OnBus, children_of, find, list};
pub use child::{ChildError, is_node, node, virtio_child};
pub use config::{BlockConfig, ClassConfig, Config, NetworkConfig};
pub use managed::{NewDevice, VdpaDevice};
pub use management::{BadHandle, ManagementDevice, ManagementHandle};
pub use name::{BadName, VdpaName};
pub use netlink::{VdpaError, config, create, delete, devices, management_devices, set_mac};

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod golden;
