//! Which boot this is: what was true of processes, nodes and interrupts in another says nothing now.

use crate::host::{self, Host};

/// A random number that the kernel draws at each boot.
pub const ID: &str = "/proc/sys/kernel/random/boot_id";

/// The id of this boot.
pub fn id(host: &Host) -> host::Result<String> {
    host.read_text(ID)
}
