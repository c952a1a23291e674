//! Whether a node can be opened, which it can't while somebody keeps others out.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use doorbell_common::host::Host;
use doorbell_common::kernel::{block, vdpa, vfio};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use super::{Question, ask, is_denied};

/// What opening a node came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Opening {
    Opened,
    /// The kernel's errno.
    Failed(i32),
    /// Not a node that is opened for anybody.
    Refused(String),
}

/// Opens a node and closes it, by ourselves or by the prover where we may open none. A VFIO node or one of vhost-vdpa is
/// opened by one at a time; the latter resets its device, which is nobody's then. A disk is opened without being taken.
pub fn open(host: &Host, node: &str) -> io::Result<()> {
    match here(host, node) {
        Err(error) if is_denied(&error) => by_prover(host, node, &error),
        opened => opened,
    }
}

fn by_prover(host: &Host, node: &str, denied: &io::Error) -> io::Result<()> {
    match ask::ask(host, &Question::Open(node.to_owned())) {
        Ok(Opening::Opened) => Ok(()),
        Ok(Opening::Failed(errno)) => Err(io::Error::from_raw_os_error(errno)),
        Ok(Opening::Refused(reason)) | Err(reason) => Err(io::Error::other(format!("{denied}; {reason}"))),
    }
}

fn here(host: &Host, node: &str) -> io::Result<()> {
    let mut options = File::options();
    if is_disk(host, node) {
        // The kernel gives a disk to one at a time who asks for that, as file systems do; O_EXCL asks without taking it.
        options.read(true).custom_flags(OFlag::O_EXCL.bits());
    } else {
        options.read(true).write(true);
    }
    options.open(host.path(node)).map(drop)
}

/// The prover's side: of the nodes of a node's machine, some act when they are opened (a watchdog bites, a tape rewinds).
pub(super) fn for_another(host: &Host, node: &str) -> Opening {
    if !(vfio::is_node(node) || vdpa::is_node(node) || is_disk(host, node)) {
        return Opening::Refused(format!("{node:?} is no node of VFIO, vhost-vdpa or a disk"));
    }
    match here(host, node) {
        Ok(()) => Opening::Opened,
        Err(error) => Opening::Failed(error.raw_os_error().unwrap_or(Errno::EIO as i32)),
    }
}

fn is_disk(host: &Host, node: &str) -> bool {
    node.strip_prefix("/dev/").is_some_and(|name| block::is_disk(host, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_are_no_devices_are_refused() {
        let tree = tempfile::tempdir().unwrap();
        let host = Host::at(tree.path());
        for node in [
            "/dev/watchdog",
            "/dev/vfio/vfio",
            "/dev/vfio/../watchdog",
            "/dev/vfio/devices/../../mem",
            "/dev/vhost-vdpa-0/../mem",
            "/dev/vhost-vdpa-",
            "/dev/..",
            "/dev/",
            "/etc/passwd",
            "",
        ] {
            assert!(matches!(for_another(&host, node), Opening::Refused(_)), "{node}");
        }
    }

    #[test]
    fn a_node_that_is_not_there_says_so() {
        let tree = tempfile::tempdir().unwrap();
        let host = Host::at(tree.path());
        host.make_folder("/sys/class/block/vda").unwrap();
        for node in
            ["/dev/vfio/7", "/dev/vfio/noiommu-7", "/dev/vfio/devices/vfio3", "/dev/vhost-vdpa-2", "/dev/vda"]
        {
            assert_eq!(for_another(&host, node), Opening::Failed(Errno::ENOENT as i32), "{node}");
        }
    }
}
