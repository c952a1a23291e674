//! The size of a page of memory: the grain of every mapping.

use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};

/// Bytes of a page on this machine, a power of two.
pub fn size() -> Result<u64, Errno> {
    let size = sysconf(SysconfVar::PAGE_SIZE)?;
    size.and_then(|size| u64::try_from(size).ok()).ok_or(Errno::ENOSYS)
}
