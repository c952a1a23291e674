//! Faults, for tests: a process that ends at a step as if it were killed, and bugs that are planted to see whether they
//! are found. Without the feature `faults` there is nothing of this.
//!
//! `DOORBELL_FAULT=kill:<n>` ends the process at the n-th point that it reaches: there is one before and one after each
//! change of a host ([`crate::host::Host`]) and each request to the kernel by netlink. `DOORBELL_PLANT=<bug>` plants one of
//! [`Bug`].

/// A bug that may be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// `lost-undo`: one step of an attachment is forgotten instead of taken back.
    LostUndo,
    /// `early-release`: a claim is removed before its steps are taken back.
    EarlyRelease,
    /// `missed-uevent`: that a driver let go of a device is not heard.
    MissedUevent,
}

#[cfg(not(feature = "faults"))]
mod at {
    use super::Bug;

    /// Nothing.
    #[inline]
    pub fn point() {}

    /// No.
    #[inline]
    #[must_use]
    pub fn planted(_: Bug) -> bool {
        false
    }
}

#[cfg(feature = "faults")]
mod at {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Bug;

    /// A step: here the process may end.
    pub fn point() {
        static LAST: OnceLock<Option<u64>> = OnceLock::new();
        static REACHED: AtomicU64 = AtomicU64::new(0);
        let last =
            LAST.get_or_init(|| std::env::var("DOORBELL_FAULT").ok()?.strip_prefix("kill:")?.parse().ok());
        let reached = REACHED.fetch_add(1, Ordering::Relaxed) + 1;
        if last.is_some_and(|last| last == reached) {
            // Nothing is dropped, so nothing is undone: to what is left behind it is SIGKILL.
            std::process::abort();
        }
    }

    /// Whether a bug is planted in this process.
    #[must_use]
    pub fn planted(bug: Bug) -> bool {
        static PLANTED: OnceLock<Option<String>> = OnceLock::new();
        let planted = PLANTED.get_or_init(|| std::env::var("DOORBELL_PLANT").ok());
        let name = match bug {
            Bug::LostUndo => "lost-undo",
            Bug::EarlyRelease => "early-release",
            Bug::MissedUevent => "missed-uevent",
        };
        planted.as_deref() == Some(name)
    }
}

#[cfg(feature = "faults")]
pub mod dice;

pub use at::{planted, point};
