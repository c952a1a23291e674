//! What a test turns and reads on PodResources while it serves: the quirks of other versions, a limit that is hit on
//! purpose, and how often it was asked. They outlive the kubelet's restarts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::kubelet::Kubelet;

/// Shared by the double and its PodResources server.
#[derive(Debug)]
pub(crate) struct Knobs {
    get_enabled: AtomicBool,
    list_terminated: AtomicBool,
    limited: AtomicU64,
    calls: AtomicU64,
}

impl Knobs {
    pub(crate) fn new(get_enabled: bool) -> Self {
        Self {
            get_enabled: AtomicBool::new(get_enabled),
            list_terminated: AtomicBool::default(),
            limited: AtomicU64::default(),
            calls: AtomicU64::default(),
        }
    }

    pub(crate) fn get_enabled(&self) -> bool {
        self.get_enabled.load(Ordering::Relaxed)
    }

    pub(crate) fn list_terminated(&self) -> bool {
        self.list_terminated.load(Ordering::Relaxed)
    }

    /// Notes a call; whether it is one of those to be refused.
    pub(crate) fn note_call(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.limited.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

impl Kubelet {
    /// Turns PodResources Get on or off, as the feature gate does.
    pub fn set_get_enabled(&self, enabled: bool) {
        self.knobs.get_enabled.store(enabled, Ordering::Relaxed);
    }

    /// Lists pods that ended too, removed ones included, with the devices that they had, before those that are
    /// there. Older kubelets list a pod that ended until the next allocation.
    pub fn set_list_terminated(&self, listed: bool) {
        self.knobs.list_terminated.store(listed, Ordering::Relaxed);
    }

    /// Refuses the next `count` calls of PodResources as its rate limit does.
    pub fn limit_next(&self, count: u64) {
        self.knobs.limited.store(count, Ordering::Relaxed);
    }

    /// How often PodResources was asked, by List and Get together; refused calls count.
    pub fn pod_resources_calls(&self) -> u64 {
        self.knobs.calls.load(Ordering::Relaxed)
    }
}
