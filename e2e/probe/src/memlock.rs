//! The limit on locked memory (RLIMIT_MEMLOCK), which the kernel counts DMA mappings against.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

/// The soft limit in bytes, which is the one that counts; `None` where there is none.
pub(crate) fn limit() -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).expect("every Linux has RLIMIT_MEMLOCK");
    (soft != RLIM_INFINITY).then_some(soft)
}
