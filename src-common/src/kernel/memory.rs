//! Memory as a mapping meets it: the size of a page, and how much of it a process may lock.

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

/// Bytes of a page on this machine, a power of two.
pub fn page_size() -> Result<u64, Errno> {
    let size = sysconf(SysconfVar::PAGE_SIZE)?;
    size.and_then(|size| u64::try_from(size).ok()).ok_or(Errno::ENOSYS)
}

/// This process's RLIMIT_MEMLOCK in bytes; `None` where it is unlimited. What a runtime starts inherits it.
pub fn memlock_limit() -> Result<Option<u64>, Errno> {
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    Ok((soft != RLIM_INFINITY).then_some(soft))
}
