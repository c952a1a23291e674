//! The consumer in the container: drives an allocated virtio-net device with nothing but the nodes that the container
//! was given, and proves that the doorbell rings. Devices of other kinds it opens, and tells what they are.
//!
//! [`run()`] finds the descriptor, opens the device through VFIO or by its vhost node, brings virtio up with rings in its
//! own memory, rings the doorbell as the descriptor says, and answers and sends pings as raw frames. It shares no code
//! with what wrote the descriptor, so that it is a second opinion on all of it.
//!
//! The library exists for its [`report`]: who starts the binary reads the same types that it writes, and tells times as it
//! does, by their [`spread`]. [`floor`] is beside the point of all that: what a CNI ADD is measured against.

mod ask;
mod attach;
mod bench;
mod capability;
mod descriptor;
mod disk;
mod dma;
mod doorbell;
pub mod floor;
mod line;
mod memlock;
mod memory;
mod net;
mod nic;
mod options;
mod queue;
pub mod report;
mod run;
mod session;
pub mod spread;
mod station;
mod stop;
mod vfio;
mod vhost;
mod virtio;

pub use options::{Bench, Command, Options};
pub use run::run;
