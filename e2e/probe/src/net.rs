//! As much of a network stack as answers to an address: frames in, frames out, no state and no I/O.

pub(crate) mod arp;
pub(crate) mod ethernet;
pub(crate) mod icmp;
pub(crate) mod ipv4;
