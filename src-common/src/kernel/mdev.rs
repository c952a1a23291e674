//! Mediated devices: what their parents can make, what was made, making and removing.
//!
//! Follows the kernel's `Documentation/driver-api/vfio-mediated-device.rst`. Their drivers are all of VFIO, each under a
//! name of its own (`mtty`, `nvidia`, formerly `vfio_mdev`).

mod uuid;

pub use uuid::{BadUuid, Uuid};

use crate::host::{self, Host, HostError};

use super::device;
use super::iommu::GroupId;

/// Where devices lie that no hardware stands behind.
const SOFTWARE: &str = "/sys/devices/virtual/";
const PARENTS: &str = "/sys/class/mdev_bus";
const DEVICES: &str = "/sys/bus/mdev/devices";

/// A device that mediated devices can be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its name: for a PCI function the address.
    pub name: String,
    /// Its own folder: `/sys/devices/…`.
    pub folder: String,
    /// What it can make, by id.
    pub types: Vec<Type>,
}

/// A kind of mediated device that a parent can make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// Name of its folder, with the parent's driver in front: `mtty-2`.
    pub id: String,
    /// Its name for people; the id where the driver has none.
    pub name: String,
    /// What a device looks like to its consumer: `vfio-pci`, `vfio-ccw`, `vfio-ap`.
    pub device_api: String,
    /// Devices that could be made of it now. They may share their limit with other types.
    pub available: u32,
    /// The driver's own words on it, where it has some.
    pub description: Option<String>,
}

/// A mediated device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mdev {
    /// Its name.
    pub uuid: Uuid,
    /// Its own folder: `/sys/devices/…`.
    pub folder: String,
    /// Name of the device that it is made of.
    pub parent: String,
    /// Id of its [`Type`].
    pub type_id: Option<String>,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// Its IOMMU group. A device that does no DMA by itself (mtty) has one of its own that no IOMMU stands behind.
    pub iommu_group: Option<GroupId>,
    /// Name of what VFIO made of it (`vfio3`), that of its own node too. `None` where no VFIO driver holds it.
    pub vfio: Option<String>,
}

/// Why a device was not made or removed.
#[derive(Debug, thiserror::Error)]
pub enum MdevError {
    /// No such parent.
    #[error("no device {0} that makes mediated devices (is its driver loaded?)")]
    NoParent(String),
    /// The parent makes others.
    #[error("{parent} makes no {wanted}, but {}", if types.is_empty() { "nothing".to_owned() } else { types.join(", ") })]
    NoType {
        /// The parent.
        parent: String,
        /// The type asked for.
        wanted: String,
        /// What it makes.
        types: Vec<String>,
    },
    /// No such device.
    #[error("no mediated device {0}")]
    Gone(Uuid),
    /// A sysfs file could not be read or written.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Parent {
    /// Whether no hardware stands behind it: what confines the DMA of others, no file shows.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.folder.starts_with(SOFTWARE)
    }
}

impl Mdev {
    /// Likewise, of what it made.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.folder.starts_with(SOFTWARE)
    }
}

/// All parents with their types, by name; none where the module `mdev` is not loaded.
pub fn parents(host: &Host) -> host::Result<Vec<Parent>> {
    let mut found = Vec::new();
    for name in host.list(PARENTS)? {
        let Some(folder) = device::folder(host, &format!("{PARENTS}/{name}"))? else { continue };
        let mut types = Vec::new();
        for id in host.list(types_folder(&folder))? {
            types.push(read_type(host, &folder, id)?);
        }
        found.push(Parent { name, folder, types });
    }
    Ok(found)
}

/// All mediated devices, by UUID.
pub fn list(host: &Host) -> host::Result<Vec<Mdev>> {
    let mut found = Vec::new();
    for uuid in host.list(DEVICES)?.iter().filter_map(|name| name.parse().ok()) {
        // One that went away since has no link anymore.
        found.extend(find(host, &uuid)?);
    }
    Ok(found)
}

/// The device of this name; `None` where there is none.
pub fn find(host: &Host, uuid: &Uuid) -> host::Result<Option<Mdev>> {
    let Some(folder) = device::folder(host, &format!("{DEVICES}/{uuid}"))? else { return Ok(None) };
    let Some((_, parent)) = device::parent(&folder) else { return Ok(None) };
    let link = |name: &str| host.link_name(format!("{folder}/{name}"));
    Ok(Some(Mdev {
        uuid: uuid.clone(),
        parent: parent.to_owned(),
        type_id: link("mdev_type")?,
        driver: link("driver")?,
        iommu_group: link("iommu_group")?.and_then(|group| group.parse().ok()),
        vfio: host.list(format!("{folder}/vfio-dev"))?.into_iter().next(),
        folder,
    }))
}

/// Makes a device of a parent's type. The kernel binds it to its driver at once, or makes none.
pub fn create(host: &Host, parent: &str, type_id: &str, uuid: &Uuid) -> Result<(), MdevError> {
    // Both names come from a config: only what is listed is part of a path.
    let link = host.list(PARENTS)?.into_iter().find(|name| name == parent);
    let folder = link.map(|name| device::folder(host, &format!("{PARENTS}/{name}"))).transpose()?.flatten();
    let types = types_folder(&folder.ok_or_else(|| MdevError::NoParent(parent.to_owned()))?);
    let ids = host.list(&types)?;
    if !ids.iter().any(|id| id == type_id) {
        let (parent, wanted) = (parent.to_owned(), type_id.to_owned());
        return Err(MdevError::NoType { parent, wanted, types: ids });
    }
    Ok(host.write_attribute(format!("{types}/{type_id}/create"), uuid.as_str())?)
}

/// Removes a device.
///
/// Blocks without a bound while somebody holds it open: the caller has made sure that it is free.
pub fn remove(host: &Host, uuid: &Uuid) -> Result<(), MdevError> {
    let device = find(host, uuid)?.ok_or_else(|| MdevError::Gone(uuid.clone()))?;
    Ok(host.write_attribute(format!("{}/remove", device.folder), "1")?)
}

fn types_folder(parent: &str) -> String {
    format!("{parent}/mdev_supported_types")
}

fn read_type(host: &Host, parent: &str, id: String) -> host::Result<Type> {
    let folder = format!("{}/{id}", types_folder(parent));
    let text = |name: &str| host.read_text_if_any(format!("{folder}/{name}"));
    Ok(Type {
        name: text("name")?.unwrap_or_else(|| id.clone()),
        device_api: text("device_api")?.unwrap_or_default(),
        // A count that is none leaves nothing to be made.
        available: text("available_instances")?.and_then(|count| count.parse().ok()).unwrap_or(0),
        description: text("description")?,
        id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const MTTY: &str = "/sys/devices/virtual/mtty/mtty";
    const UUID: &str = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";

    /// The sample driver's host with one device, as Linux 6.12 shows it.
    fn mtty() -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        let write = |path: String, content: &str| host.keep_as(path, content.as_bytes()).unwrap();
        let link = |target: &str, path: &str| {
            host.make_folder(std::path::Path::new(path).parent().unwrap()).unwrap();
            symlink(target, host.path(path)).unwrap();
        };
        link("../../devices/virtual/mtty/mtty", "/sys/class/mdev_bus/mtty");
        for (id, name, available) in
            [("mtty-1", "Single port serial", "23"), ("mtty-2", "Dual port serial", "11")]
        {
            let folder = format!("{MTTY}/mdev_supported_types/{id}");
            write(format!("{folder}/name"), &format!("{name}\n"));
            write(format!("{folder}/device_api"), "vfio-pci\n");
            write(format!("{folder}/available_instances"), &format!("{available}\n"));
            write(format!("{folder}/create"), "");
        }
        let folder = format!("{MTTY}/{UUID}");
        link(&format!("../../../devices/virtual/mtty/mtty/{UUID}"), &format!("{DEVICES}/{UUID}"));
        link("../mdev_supported_types/mtty-2", &format!("{folder}/mdev_type"));
        link("../../../../../bus/mdev/drivers/mtty", &format!("{folder}/driver"));
        link("../../../../../kernel/iommu_groups/1", &format!("{folder}/iommu_group"));
        host.make_folder(format!("{folder}/vfio-dev/vfio0")).unwrap();
        write(format!("{folder}/remove"), "");
        (root, host)
    }

    #[test]
    fn a_parent_says_what_it_can_make() {
        let (_root, host) = mtty();
        let parents = parents(&host).unwrap();
        assert_eq!((parents.len(), parents[0].name.as_str(), parents[0].folder.as_str()), (1, "mtty", MTTY));
        let dual = Type {
            id: "mtty-2".to_owned(),
            name: "Dual port serial".to_owned(),
            device_api: "vfio-pci".to_owned(),
            available: 11,
            description: None,
        };
        assert_eq!(parents[0].types[1], dual);
    }

    #[test]
    fn a_device_is_on_vfio_whatever_its_driver_is_called() {
        let (_root, host) = mtty();
        let device = Mdev {
            uuid: UUID.parse().unwrap(),
            folder: format!("{MTTY}/{UUID}"),
            parent: "mtty".to_owned(),
            type_id: Some("mtty-2".to_owned()),
            driver: Some("mtty".to_owned()),
            iommu_group: Some(GroupId(1)),
            vfio: Some("vfio0".to_owned()),
        };
        assert_eq!(list(&host).unwrap(), [device]);
    }

    #[test]
    fn a_device_is_made_by_its_types_own_file() {
        let (_root, host) = mtty();
        let uuid: Uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002".parse().unwrap();
        create(&host, "mtty", "mtty-1", &uuid).unwrap();
        let written = host.read_text(format!("{MTTY}/mdev_supported_types/mtty-1/create")).unwrap();
        assert_eq!(written, uuid.as_str());
    }

    #[test]
    fn what_a_parent_does_not_list_is_not_written_to() {
        let (_root, host) = mtty();
        let uuid: Uuid = UUID.parse().unwrap();
        let refusal = |parent, type_id| create(&host, parent, type_id, &uuid).unwrap_err().to_string();
        assert_eq!(refusal("mtty", "../mtty-1"), "mtty makes no ../mtty-1, but mtty-1, mtty-2");
        assert!(refusal("../mtty", "mtty-1").starts_with("no device ../mtty that makes"));
    }

    #[test]
    fn a_device_is_removed_by_its_own_file() {
        let (_root, host) = mtty();
        remove(&host, &UUID.parse().unwrap()).unwrap();
        assert_eq!(host.read_text(format!("{MTTY}/{UUID}/remove")).unwrap(), "1");
        let gone = remove(&host, &"83b8f4f2-509f-382f-3c1e-e6bfe0fa1002".parse().unwrap()).unwrap_err();
        assert_eq!(gone.to_string(), "no mediated device 83b8f4f2-509f-382f-3c1e-e6bfe0fa1002");
    }
}
