//! Processes, as /proc shows them: who has a node open.

use std::fmt;
use std::path::Path;

use crate::host::Host;

const PROC: &str = "/proc";

/// A process, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id in the pid namespace that /proc shows.
    pub pid: u32,
    /// Name of its program, 15 characters at most.
    pub name: String,
}

/// The first process found with a node open; `None` where none is seen, which may only mean that it is hidden.
#[must_use]
pub fn holding(host: &Host, node: &str) -> Option<Process> {
    // Who runs on a node is nobody's business who reads a capture of its devices.
    let host = &host.unrecorded();
    let pids = host.list(PROC).unwrap_or_default();
    let pid = pids.into_iter().filter_map(|name| name.parse().ok()).find(|pid| holds(host, *pid, node))?;
    let name = host.read_text(format!("{PROC}/{pid}/comm")).unwrap_or_default();
    Some(Process { pid, name })
}

fn holds(host: &Host, pid: u32, node: &str) -> bool {
    let folder = format!("{PROC}/{pid}/fd");
    let is_open = |fd: &String| {
        std::fs::read_link(host.path(format!("{folder}/{fd}"))).is_ok_and(|target| target == Path::new(node))
    };
    host.list(&folder).unwrap_or_default().iter().any(is_open)
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}
