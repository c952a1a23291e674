//! What stands on the vDPA bus, as sysfs shows it, whoever made it.

use crate::host::{self, Host};
use crate::kernel::device;

use super::VdpaName;

const DEVICES: &str = "/sys/bus/vdpa/devices";
/// Where devices lie that no other device is the parent of. A simulator's are here.
const ORPHANS: &str = "/sys/devices";
/// Where devices lie that no bus leads to. A parent in here is a class' own bookkeeping (vduse), no hardware.
const VIRTUAL: &str = "/sys/devices/virtual/";

/// A device on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnBus {
    /// Its name. Others give names too, so it need not be a [`VdpaName`].
    pub name: String,
    /// Its own folder: `/sys/devices/…/0000:01:00.1/vdpa0`.
    pub folder: String,
    /// Name of the device that it is made of: `0000:01:00.1`, `mlx5_core.sf.4`; `None` for one made of software.
    pub parent: Option<String>,
    /// The bus driver that it is bound to.
    pub driver: Option<String>,
}

/// All devices on the bus, by name; none where the module `vdpa` is not loaded.
pub fn list(host: &Host) -> host::Result<Vec<OnBus>> {
    let mut found = Vec::new();
    for name in host.list(DEVICES)? {
        // One that went away since has no link anymore.
        found.extend(read(host, name)?);
    }
    Ok(found)
}

/// The device of this name; `None` where there is none.
pub fn find(host: &Host, name: &VdpaName) -> host::Result<Option<OnBus>> {
    read(host, name.to_string())
}

/// The devices that are made of the device named `parent`, by name. The kernel lets a VF have several.
pub fn children_of(host: &Host, parent: &str) -> host::Result<Vec<OnBus>> {
    let mut found = list(host)?;
    found.retain(|device| device.parent.as_deref() == Some(parent));
    Ok(found)
}

fn read(host: &Host, name: String) -> host::Result<Option<OnBus>> {
    let Some(folder) = device::folder(host, &format!("{DEVICES}/{name}"))? else { return Ok(None) };
    let parent = device::parent(&folder)
        .filter(|(parent, _)| *parent != ORPHANS && !folder.starts_with(VIRTUAL))
        .map(|(_, name)| name.to_owned());
    let driver = host.link_name(format!("{folder}/driver"))?;
    Ok(Some(OnBus { name, folder, parent, driver }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::vdpa::fixture::Fixture;

    const VF: &str = "/sys/devices/pci0000:00/0000:00:02.0/0000:01:00.1";

    #[test]
    fn the_parent_is_the_device_that_it_is_made_of() {
        let host = Fixture::new();
        host.device(&format!("{VF}/vdpa0"), Some("vhost_vdpa"));
        host.device("/sys/devices/pci0000:00/0000:08:00.0/mlx5_core.sf.3/vdpa-sf89", None);
        host.device("/sys/devices/sim0", Some("virtio_vdpa"));
        host.device("/sys/devices/virtual/vduse/user0/user0", None);
        let parents: Vec<_> = list(&host).unwrap().into_iter().map(|found| found.parent).collect();
        let parents: Vec<_> = parents.iter().map(Option::as_deref).collect();
        assert_eq!(parents, [None, None, Some("mlx5_core.sf.3"), Some("0000:01:00.1")]);
    }

    #[test]
    fn a_device_is_found_by_name_and_by_parent() {
        let host = Fixture::new();
        host.device(&format!("{VF}/vdpa0"), Some("vhost_vdpa"));
        host.device(&format!("{VF}/vdpa1"), None);
        let found = find(&host, &"vdpa0".parse().unwrap()).unwrap().unwrap();
        assert_eq!(found.folder, format!("{VF}/vdpa0"));
        assert_eq!(found.driver.as_deref(), Some("vhost_vdpa"));
        assert_eq!(children_of(&host, "0000:01:00.1").unwrap().len(), 2);
        assert_eq!(children_of(&host, "0000:01:00.2").unwrap(), []);
        assert_eq!(find(&host, &"vdpa2".parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn without_the_module_the_bus_is_empty() {
        assert_eq!(list(&Fixture::new()).unwrap(), []);
    }
}
