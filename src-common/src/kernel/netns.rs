//! Network namespaces, by the file that stands for one: `/var/run/netns/<name>`, `/proc/<pid>/ns/net`.
//!
//! A thread is never moved to a namespace and back: what is done in one is done on a thread that is made for it and
//! ends there, so that no failure can leave a thread of the process behind in a pod's namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::host::Host;

/// A network namespace, kept alive as long as this is.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
}

/// Why a namespace is not to be had, or not to be entered.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// No file: its sandbox was removed, with all that was in it.
    #[error("there is no network namespace {}", .0.display())]
    Absent(PathBuf),
    /// The file stands, and nothing is mounted on it: the namespace was taken down, or has not been made.
    #[error("{} is a file, and no namespace (any more)", .0.display())]
    NoNamespace(PathBuf),
    /// The file could not be opened.
    #[error("open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system call said.
        source: io::Error,
    },
    /// The kernel does not let us in; EINVAL says that it is a namespace of another kind.
    #[error("enter network namespace {}", path.display())]
    Enter {
        /// The file.
        path: PathBuf,
        /// What the system call said.
        source: Errno,
    },
    /// No thread to enter it with.
    #[error("start a thread for network namespace {}", path.display())]
    Thread {
        /// The file.
        path: PathBuf,
        /// What the system call said.
        source: io::Error,
    },
}

impl Netns {
    /// Opens the namespace that `path` stands for.
    pub fn at(host: &Host, path: impl AsRef<Path>) -> Result<Self, NetnsError> {
        let path = path.as_ref().to_owned();
        let file = match File::open(host.path(&path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NetnsError::Absent(path)),
            Err(source) => return Err(NetnsError::Open { path, source }),
        };
        match fstatfs(&file).map(|found| found.filesystem_type()) {
            Ok(NSFS_MAGIC) => Ok(Self { file, path }),
            Ok(_) => Err(NetnsError::NoNamespace(path)),
            Err(errno) => Err(NetnsError::Open { path, source: errno.into() }),
        }
    }

    /// The file that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does `work` inside the namespace, on a thread of its own, and gives what it gave. A socket that is opened there
    /// stays in the namespace wherever it is used.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .map_err(|source| NetnsError::Enter { path: self.path.clone(), source })?;
            Ok(work())
        };
        thread::scope(|scope| {
            let started = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, inside);
            let thread = started.map_err(|source| NetnsError::Thread { path: self.path.clone(), source })?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// One that is new, with nothing in it but `lo`, and is gone with the value.
    #[cfg(test)]
    pub(crate) fn fresh() -> Self {
        let make = || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
            Self::at(&Host::real(), "/proc/thread-self/ns/net").unwrap()
        };
        thread::scope(|scope| scope.spawn(make).join().unwrap())
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::chain;

    /// Which namespace the calling thread is in.
    fn here() -> PathBuf {
        fs::read_link("/proc/thread-self/ns/net").unwrap()
    }

    #[test]
    fn what_is_run_inside_is_inside_and_the_caller_stays_where_it_is() {
        let before = here();
        let netns = Netns::fresh();
        let inside = netns.run(here).unwrap();
        assert_ne!(inside, before);
        assert_eq!(netns.run(here).unwrap(), inside);
        assert_eq!(here(), before);
    }

    #[test]
    fn a_panic_inside_is_the_callers_and_strands_nobody() {
        let before = here();
        let netns = Netns::fresh();
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            netns.run(|| std::panic::panic_any("inside")).unwrap();
        }));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"inside"));
        assert_eq!(here(), before);
    }

    #[test]
    fn a_namespace_is_found_below_the_hosts_root() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/net", root.path().join("pod")).unwrap();
        let netns = Netns::at(&Host::at(root.path()), "/pod").unwrap();
        assert_eq!(netns.run(here).unwrap(), here());
        assert_eq!(netns.path(), Path::new("/pod"));
    }

    #[test]
    fn a_file_that_is_no_namespace_is_told_from_none() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        // What `ip netns delete` leaves for a moment: the mount point without its mount.
        fs::write(root.path().join("pod"), "").unwrap();
        let error = Netns::at(&host, "/pod").unwrap_err();
        assert_eq!(error.to_string(), "/pod is a file, and no namespace (any more)");
        let error = Netns::at(&host, "/none").unwrap_err();
        assert_eq!(error.to_string(), "there is no network namespace /none");
    }

    #[test]
    fn a_namespace_of_another_kind_is_not_entered() {
        let error = Netns::at(&Host::real(), "/proc/self/ns/uts").unwrap().run(|| ()).unwrap_err();
        assert_eq!(chain(&error), format!("enter network namespace /proc/self/ns/uts: {}", Errno::EINVAL));
    }
}
