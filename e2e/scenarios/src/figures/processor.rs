//! One processor for this thread and all that it starts: strace and what it traces wake each other up at each call, and in
//! an emulated machine to wake another processor is up to the host, which may have none to spare. Untraced programs gain
//! nothing by it.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// This thread.
const SELF: Pid = Pid::from_raw(0);
const FIRST: usize = 0;

/// While this is there, only the first processor is used.
pub(super) struct OneProcessor {
    before: CpuSet,
}

impl OneProcessor {
    pub(super) fn begin() -> Result<Self> {
        let before = sched_getaffinity(SELF).context("ask for this thread's processors")?;
        let mut one = CpuSet::new();
        one.set(FIRST).context("name a processor")?;
        sched_setaffinity(SELF, &one).context("keep this thread on one processor")?;
        Ok(Self { before })
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        // What was allowed before is allowed.
        let _ = sched_setaffinity(SELF, &self.before);
    }
}
