//! What a bus driver makes of a vDPA device: the node that a container opens, or the virtio device of this host.

use crate::host::{self, Host, HostError};
use crate::kernel::device;
use crate::kernel::pci::PciAddress;

use super::{BusDriver, OnBus, VdpaName, find};

/// Why a device has not what was looked for.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// There is no such device.
    #[error("no vDPA device {0}")]
    Gone(VdpaName),
    /// It is not on the driver that makes this.
    #[error("vDPA device {name} is not on {wanted} but on {now}")]
    OnAnother {
        /// The device.
        name: VdpaName,
        /// The driver that makes what was looked for.
        wanted: BusDriver,
        /// What it is on.
        now: String,
    },
    /// It is on that driver, which shows nothing.
    #[error("{driver} has made nothing of vDPA device {name}")]
    Childless {
        /// The device.
        name: VdpaName,
        /// Its driver.
        driver: BusDriver,
    },
    /// The driver made a node that is not in /dev.
    #[error("{0} is not there")]
    Absent(String),
    /// Virtio devices of several vDPA devices lie side by side, and sysfs says of none whose it is.
    #[error("which one of {} in {folder} is that of vDPA device {name} can't be told", children.join(", "))]
    Several {
        /// The device.
        name: VdpaName,
        /// Where they lie.
        folder: String,
        /// The virtio devices there.
        children: Vec<String>,
    },
    /// sysfs could not be read.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// The node by which a device on vhost_vdpa is driven: `/dev/vhost-vdpa-0`. Its number shifts when devices are bound in
/// another order. It is not opened: that resets the device.
pub fn node(host: &Host, name: &VdpaName) -> Result<String, ChildError> {
    let device = on(host, name, BusDriver::VhostVdpa)?;
    let children = numbered(host, &device.folder, "vhost-vdpa-")?;
    let child = children.first().ok_or_else(|| childless(name, BusDriver::VhostVdpa))?;
    let node = format!("/dev/{child}");
    if host.exists(&node) { Ok(node) } else { Err(ChildError::Absent(node)) }
}

/// Whether a path is such a node.
#[must_use]
pub fn is_node(path: &str) -> bool {
    let number = path.strip_prefix("/dev/vhost-vdpa-");
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Folder of the virtio device that virtio_vdpa made of a device: `/sys/devices/…/0000:01:00.1/virtio5`. A netdev of it
/// shows below `net/` there.
///
/// It hangs off the device that does the DMA (`virtio_vdpa_probe`): for a VF that is the VF, for a sub-function the PCI
/// function that has it, for a simulator (and with kernels after 6.12 for more) the vDPA device itself. Several
/// sub-functions' lie side by side in their PCI function: which is whose only their MAC addresses say.
pub fn virtio_child(host: &Host, name: &VdpaName) -> Result<String, ChildError> {
    let device = on(host, name, BusDriver::VirtioVdpa)?;
    for folder in dma_folders(&device) {
        let mut children = numbered(host, folder, "virtio")?;
        if children.len() > 1 {
            return Err(ChildError::Several { name: name.clone(), folder: folder.to_owned(), children });
        }
        if let Some(child) = children.pop() {
            return Ok(format!("{folder}/{child}"));
        }
    }
    Err(childless(name, BusDriver::VirtioVdpa))
}

fn on(host: &Host, name: &VdpaName, wanted: BusDriver) -> Result<OnBus, ChildError> {
    let device = find(host, name)?.ok_or_else(|| ChildError::Gone(name.clone()))?;
    if device.driver.as_deref() == Some(wanted.name()) {
        return Ok(device);
    }
    let now = device.driver.unwrap_or_else(|| "no driver".to_owned());
    Err(ChildError::OnAnother { name: name.clone(), wanted, now })
}

fn childless(name: &VdpaName, driver: BusDriver) -> ChildError {
    ChildError::Childless { name: name.clone(), driver }
}

/// Folders of the devices that can do the DMA of this one: itself, its parent, and the PCI function of a sub-function.
fn dma_folders(device: &OnBus) -> Vec<&str> {
    let mut folders = vec![device.folder.as_str()];
    let parent = device.parent.as_ref().and_then(|_| device::parent(&device.folder));
    folders.extend(parent.map(|(folder, _)| folder));
    let is_pci = |name: &str| name.parse::<PciAddress>().is_ok();
    let below = parent.filter(|(_, name)| !is_pci(name)).and_then(|(folder, _)| device::parent(folder));
    folders.extend(below.filter(|(_, name)| is_pci(name)).map(|(folder, _)| folder));
    folders
}

/// Names in a folder that are `prefix` and a number, by number.
fn numbered(host: &Host, folder: &str, prefix: &str) -> host::Result<Vec<String>> {
    let number = |name: &String| name.strip_prefix(prefix).and_then(|number| number.parse::<u32>().ok());
    let mut names = host.list(folder)?;
    names.retain(|name| number(name).is_some());
    names.sort_by_key(number);
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::vdpa::fixture::Fixture;

    const PF: &str = "/sys/devices/pci0000:00/0000:08:00.0";
    const VF: &str = "/sys/devices/pci0000:00/0000:00:02.0/0000:01:00.1";

    fn name(text: &str) -> VdpaName {
        text.parse().unwrap()
    }

    fn virtio(host: &Host, of: &str) -> Result<String, String> {
        virtio_child(host, &name(of)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_node_is_there_or_else_it_is_said_why_not() {
        let host = Fixture::new();
        let said = |host: &Host| node(host, &name("vdpa0")).map_err(|error| error.to_string());
        assert_eq!(said(&host).unwrap_err(), "no vDPA device vdpa0");
        let folder = format!("{VF}/vdpa0");
        host.device(&folder, Some("virtio_vdpa"));
        let refusal = said(&host).unwrap_err();
        assert_eq!(refusal, "vDPA device vdpa0 is not on vhost_vdpa but on virtio_vdpa");

        let host = Fixture::new();
        host.device(&folder, Some("vhost_vdpa"));
        assert_eq!(said(&host).unwrap_err(), "vhost_vdpa has made nothing of vDPA device vdpa0");
        host.make_folder(format!("{folder}/vhost-vdpa-3")).unwrap();
        assert_eq!(said(&host).unwrap_err(), "/dev/vhost-vdpa-3 is not there");
        host.make_folder("/dev").unwrap();
        host.replace("/dev/vhost-vdpa-3", b"").unwrap();
        assert_eq!(said(&host).unwrap(), "/dev/vhost-vdpa-3");
    }

    #[test]
    fn the_virtio_device_of_a_vf_hangs_off_the_vf() {
        let host = Fixture::new();
        host.device(&format!("{VF}/vdpa0"), Some("virtio_vdpa"));
        // The PF's own, one level further, is not the VF's.
        host.make_folder("/sys/devices/pci0000:00/0000:00:02.0/virtio1").unwrap();
        assert_eq!(virtio(&host, "vdpa0").unwrap_err(), "virtio_vdpa has made nothing of vDPA device vdpa0");
        host.make_folder(format!("{VF}/virtio5")).unwrap();
        assert_eq!(virtio(&host, "vdpa0").unwrap(), format!("{VF}/virtio5"));
    }

    #[test]
    fn the_virtio_device_of_a_simulator_hangs_off_itself() {
        let host = Fixture::new();
        host.device("/sys/devices/sim0", Some("virtio_vdpa"));
        host.make_folder("/sys/devices/virtio9").unwrap();
        assert!(virtio(&host, "sim0").is_err());
        host.make_folder("/sys/devices/sim0/virtio3").unwrap();
        assert_eq!(virtio(&host, "sim0").unwrap(), "/sys/devices/sim0/virtio3");
    }

    #[test]
    fn virtio_devices_of_several_sub_functions_can_not_be_told_apart() {
        let host = Fixture::new();
        host.device(&format!("{PF}/mlx5_core.sf.2/vdpa0"), Some("virtio_vdpa"));
        host.make_folder(format!("{PF}/virtio10")).unwrap();
        assert_eq!(virtio(&host, "vdpa0").unwrap(), format!("{PF}/virtio10"));
        host.make_folder(format!("{PF}/virtio9")).unwrap();
        let refusal = virtio(&host, "vdpa0").unwrap_err();
        assert!(refusal.starts_with("which one of virtio9, virtio10 in /sys/devices/"), "{refusal}");
    }
}
