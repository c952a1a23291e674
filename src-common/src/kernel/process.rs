//! Processes, as /proc shows them: who has a node open.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;

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
    Some(Process { pid, name: name(host, pid) })
}

/// The first process found with each of the nodes open that are `asked` for, of those that are seen: one look through all
/// of /proc.
#[must_use]
pub fn holders(host: &Host, asked: impl Fn(&str) -> bool) -> BTreeMap<String, Process> {
    let host = &host.unrecorded();
    let mut held = BTreeMap::new();
    for pid in host.list(PROC).unwrap_or_default().into_iter().filter_map(|name| name.parse().ok()) {
        for node in open_files(host, pid).filter(|file| asked(file)) {
            held.entry(node).or_insert_with(|| Process { pid, name: name(host, pid) });
        }
    }
    held
}

/// Whether the kernel lets us see what other processes have open; it does not without CAP_SYS_PTRACE (proc_pid_fd(5)).
/// Asked of the first process, which may do more than we then could, by its link that is always there and as guarded.
#[must_use]
pub fn open_files_show(host: &Host) -> bool {
    let program = host.unrecorded().link_name(format!("{PROC}/1/exe"));
    !matches!(program, Err(error) if error.kind() == ErrorKind::PermissionDenied)
}

fn name(host: &Host, pid: u32) -> String {
    host.read_text(format!("{PROC}/{pid}/comm")).unwrap_or_default()
}

/// Paths of what the process has open, as far as it has paths and we may see them.
fn open_files(host: &Host, pid: u32) -> impl Iterator<Item = String> {
    let folder = format!("{PROC}/{pid}/fd");
    let files = host.list(&folder).unwrap_or_default().into_iter();
    files.filter_map(move |fd| {
        let target = std::fs::read_link(host.path(format!("{folder}/{fd}"))).ok()?;
        target.into_os_string().into_string().ok()
    })
}

fn holds(host: &Host, pid: u32, node: &str) -> bool {
    open_files(host, pid).any(|file| file == node)
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}
