//! vDPA devices: what stands on their bus, which driver it is bound to, and what that driver made of it.
//!
//! Follows the kernel's `Documentation/ABI/testing/sysfs-bus-vdpa` and `drivers/vdpa/vdpa.c`.

mod bind;
mod bus;
mod child;
mod name;

pub use bind::{BindError, BusDriver, autoprobe, bind, set_autoprobe, unbind};
pub use bus::{OnBus, children_of, find, list};
pub use child::{ChildError, node, virtio_child};
pub use name::{BadName, VdpaName};

#[cfg(test)]
mod fixture;
