//! Network interfaces, by the device that they belong to.
//!
//! sysfs lists the interfaces of one network namespace, that of the process which mounted it. One that was moved into a
//! pod is out of sight, while its device and the folder that it was listed in stay.

use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

use crate::host::{self, Host};

/// What a network interface is on, by its number in `if_arp.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkType {
    /// `ARPHRD_ETHER`.
    Ether,
    /// `ARPHRD_INFINIBAND`.
    Infiniband,
}

/// Names of the interfaces below a device's folder that are in this network namespace, sorted. A PCI driver's hang
/// below the function; a virtio driver's one level deeper.
pub fn interfaces(host: &Host, device: &str) -> host::Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in folders(host, device)? {
        names.extend(host.list(folder)?);
    }
    names.sort();
    Ok(names)
}

/// Whether the device has interfaces at all, wherever they are now.
pub fn has_interface(host: &Host, device: &str) -> host::Result<bool> {
    Ok(folders(host, device)?.iter().any(|folder| host.exists(folder)))
}

/// The interface that this one is a part of: a bridge, a bond; `None` where it stands for itself.
pub fn master(host: &Host, interface: &str) -> host::Result<Option<String>> {
    host.link_name(format!("/sys/class/net/{interface}/master"))
}

/// What an interface is on; `None` for what is neither, and where it is gone.
pub fn link_type(host: &Host, interface: &str) -> host::Result<Option<LinkType>> {
    let number = host.read_text_if_any(format!("/sys/class/net/{interface}/type"))?;
    Ok(match number.as_deref() {
        Some("1") => Some(LinkType::Ether),
        Some("32") => Some(LinkType::Infiniband),
        _ => None,
    })
}

fn folders(host: &Host, device: &str) -> host::Result<Vec<String>> {
    let mut folders = vec![format!("{device}/net")];
    let children = host.list(device)?;
    let virtio = children.iter().filter(|name| name.starts_with("virtio"));
    folders.extend(virtio.map(|child| format!("{device}/{child}/net")));
    Ok(folders)
}

/// Whether an interface has a carrier; one that is down by order has none.
pub fn has_carrier(host: &Host, interface: &str) -> host::Result<bool> {
    match host.read_text(format!("/sys/class/net/{interface}/carrier")) {
        Ok(text) => Ok(text == "1"),
        // The kernel's answer for an interface that nobody has set up.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether an interface stands for a port of a switch in the device, that of a VF or a sub-function: its carrier is not
/// the wire's. The kernel names such ports `pf0vf3`, `c1pf0`, … and the wire's `p0` (`devlink_port.c`).
pub fn is_representor(host: &Host, interface: &str) -> host::Result<bool> {
    match host.read_text_if_any(format!("/sys/class/net/{interface}/phys_port_name")) {
        Ok(name) => Ok(name.is_some_and(|name| name.contains("pf"))),
        // Its driver has no names for ports.
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_up_by_its_carrier_and_a_vfs_port_is_not_the_wire() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        host.make_folder("/sys/class/net/p0").unwrap();
        host.replace("/sys/class/net/p0/carrier", b"1\n").unwrap();
        assert!(has_carrier(&host, "p0").unwrap());
        host.replace("/sys/class/net/p0/carrier", b"0\n").unwrap();
        assert!(!has_carrier(&host, "p0").unwrap());
        assert!(!is_representor(&host, "p0").unwrap());
        host.replace("/sys/class/net/p0/phys_port_name", b"pf0vf3\n").unwrap();
        assert!(is_representor(&host, "p0").unwrap());
        assert!(has_carrier(&host, "p1").is_err());
    }
}
