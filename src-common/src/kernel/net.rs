//! Network interfaces, by the device that they belong to.
//!
//! sysfs lists the interfaces of one network namespace, that of the process which mounted it. One that was moved into a
//! pod is out of sight, while its device and the folder that it was listed in stay.

use crate::host::{self, Host};

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

fn folders(host: &Host, device: &str) -> host::Result<Vec<String>> {
    let mut folders = vec![format!("{device}/net")];
    let children = host.list(device)?;
    let virtio = children.iter().filter(|name| name.starts_with("virtio"));
    folders.extend(virtio.map(|child| format!("{device}/{child}/net")));
    Ok(folders)
}
