//! What stands on a node's parents: vDPA devices, with what their netlink family says of them, mdevs, interfaces.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::Node;

/// A vDPA device.
pub(crate) struct Vdpa {
    pub(crate) name: &'static str,
    /// What it is made of, as the tool `vdpa` writes it: `pci/0000:01:00.1`, `vdpasim_net`.
    pub(crate) of: &'static str,
    /// Its driver on the bus.
    pub(crate) driver: Option<&'static str>,
    /// Virtio device type.
    pub(crate) kind: u32,
    /// Number of its node, or of its virtio device.
    pub(crate) number: u32,
}

impl Node {
    /// Takes a function off its driver and puts it on another, or on none; on no VFIO driver in any case.
    pub(crate) fn drive(&self, address: &str, driver: Option<&str>) {
        let folder = self.at(&format!("sys/bus/pci/devices/{address}"));
        let _ = fs::remove_dir_all(folder.join("vfio-dev"));
        let _ = fs::remove_file(folder.join("driver"));
        if let Some(driver) = driver {
            symlink(format!("../../drivers/{driver}"), folder.join("driver")).unwrap();
        }
    }

    /// What vDPA devices can be made of, with a bit for each virtio device type.
    pub(crate) fn can_make_vdpa(&self, of: &[(&str, u64)]) {
        let answers = of.iter().map(|(handle, classes)| {
            [handle_attributes(handle), attribute(3, &classes.to_le_bytes())].concat()
        });
        self.write("netlink/vdpa/mgmtdev-get", &pack(1, answers));
    }

    /// vDPA devices, all that there are.
    pub(crate) fn has_vdpa(&self, devices: &[Vdpa]) {
        for device in devices {
            self.vdpa_in_sysfs(device);
        }
        let answers = devices.iter().map(|Vdpa { name, of, kind, .. }| {
            let rest = [
                text(4, name),
                attribute(5, &kind.to_le_bytes()),
                attribute(6, &0x1af4u32.to_le_bytes()),
                attribute(7, &2u32.to_le_bytes()),
                attribute(8, &256u16.to_le_bytes()),
            ];
            [handle_attributes(of), rest.concat()].concat()
        });
        self.write("netlink/vdpa/dev-get", &pack(3, answers));
    }

    fn vdpa_in_sysfs(&self, Vdpa { name, of, driver, number, .. }: &Vdpa) {
        let parent = of.strip_prefix("pci/").map(|address| format!("/pci0000:00/{address}"));
        let parent = format!("devices{}", parent.unwrap_or_default());
        let folder = format!("sys/{parent}/{name}");
        fs::create_dir_all(self.at(&folder)).unwrap();
        self.link(&format!("../../../{parent}/{name}"), &format!("sys/bus/vdpa/devices/{name}"));
        let Some(driver) = driver else { return };
        self.link(&format!("../../../../bus/vdpa/drivers/{driver}"), &format!("{folder}/driver"));
        match *driver {
            "vhost_vdpa" => {
                self.write(&format!("{folder}/vhost-vdpa-{number}/dev"), b"511:0\n");
                self.write(&format!("dev/vhost-vdpa-{number}"), b"");
            }
            _ => {
                // Of a function its virtio device hangs below that, of a simulator below the vDPA device.
                let below = if of.contains('/') { format!("sys/{parent}") } else { folder };
                fs::create_dir_all(self.at(&format!("{below}/virtio{number}/net/eth{number}"))).unwrap();
            }
        }
    }

    /// The kernel's sample of an mdev parent, with these mdevs of its type `mtty-1`.
    pub(crate) fn has_mtty(&self, uuids: &[&str]) {
        let folder = "sys/devices/virtual/mtty/mtty";
        self.link("../../devices/virtual/mtty/mtty", "sys/class/mdev_bus/mtty");
        let kind = format!("{folder}/mdev_supported_types/mtty-1");
        for (file, text) in [("device_api", "vfio-pci\n"), ("available_instances", "24\n"), ("create", "")] {
            self.write(&format!("{kind}/{file}"), text.as_bytes());
        }
        for (index, uuid) in uuids.iter().enumerate() {
            let group = 40 + index;
            self.link(
                &format!("../../../devices/virtual/mtty/mtty/{uuid}"),
                &format!("sys/bus/mdev/devices/{uuid}"),
            );
            let folder = format!("{folder}/{uuid}");
            self.link("../mdev_supported_types/mtty-1", &format!("{folder}/mdev_type"));
            self.link("../../../../../bus/mdev/drivers/mtty", &format!("{folder}/driver"));
            let link = format!("../../../../../kernel/iommu_groups/{group}");
            self.link(&link, &format!("{folder}/iommu_group"));
            fs::create_dir_all(self.at(&format!("{folder}/vfio-dev/vfio{group}"))).unwrap();
            self.write(&format!("{folder}/remove"), b"");
            self.write(&format!("dev/vfio/{group}"), b"");
        }
    }

    /// What the plugin has on record of a parent that it changed in this boot.
    pub(crate) fn record(&self, of: &str, steps: &str) {
        let boot = self.text("proc/sys/kernel/random/boot_id");
        let (boot, version) = (boot.trim(), "doorbell.dev/v1");
        let record = format!(r#"{{"apiVersion":"{version}","boot":"{boot}","of":"{of}","steps":[{steps}]}}"#);
        self.write(&format!("var/lib/doorbell/made/{of}.json"), record.as_bytes());
    }

    pub(crate) fn link(&self, target: &str, path: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().map(Path::to_owned).unwrap()).unwrap();
        symlink(target, path).unwrap();
    }
}

fn handle_attributes(handle: &str) -> Vec<u8> {
    match handle.split_once('/') {
        Some((bus, name)) => [text(1, bus), text(2, name)].concat(),
        None => text(2, handle),
    }
}

fn text(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, format!("{text}\0").as_bytes())
}

/// An attribute of netlink: length, type, value, up to the next four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut bytes = [&length.to_le_bytes(), &kind.to_le_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Answers as a capture holds them: of each its length, the generic header, its attributes.
fn pack(command: u8, answers: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let message = |attributes: Vec<u8>| [vec![command, 1, 0, 0], attributes].concat();
    let packed = answers
        .map(message)
        .flat_map(|message| [u32::try_from(message.len()).unwrap().to_le_bytes().to_vec(), message].concat());
    packed.collect()
}
