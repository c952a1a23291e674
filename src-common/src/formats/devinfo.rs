//! device-info files: which device stands behind a resource's id or an attachment, in the form that the field's
//! meta-plugins read (Network Plumbing Working Group, Device Information Specification 1.1.0).
//!
//! The plugin writes one a device for the kubelet's side of the story, the CNI one for each attachment that asks for
//! it. Meta-plugins drop keys that the specification does not know, so all else is in the descriptor.

use serde::{Deserialize, Serialize};

use crate::host::{self, Host};
use crate::kernel::pci::PciAddress;
use crate::subdevice::{Access, Child, DeviceId, Eligible};

/// Every device-info file of the host lies below.
pub const FOLDER: &str = "/var/run/k8s.cni.cncf.io/devinfo";
const PLUGINS: &str = "/var/run/k8s.cni.cncf.io/devinfo/dp";
const SUFFIX: &str = "-device.json";
const VERSION: &str = "1.1.0";

/// A device-info file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    #[serde(flatten)]
    section: Section,
    version: String,
}

/// The part that is its type's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
enum Section {
    Pci { pci: Pci },
    Vdpa { vdpa: Vdpa },
}

/// The section of a device that is a PCI function to who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pci {
    pci_address: PciAddress,
    pf_pci_address: PciAddress,
}

/// The section of a vDPA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Vdpa {
    /// Name of the vDPA device; the specification calls it so.
    parent_device: String,
    driver: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pci_address: Option<PciAddress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pf_pci_address: Option<PciAddress>,
}

impl DeviceInfo {
    /// Of a sub-device; `None` for one of a type that the specification does not know.
    #[must_use]
    pub fn of(device: &Eligible) -> Option<Self> {
        let section = match (&device.child, device.access, device.function, device.pf) {
            (Child::Vdpa { name, .. }, access, pci_address, pf_pci_address) => {
                let driver = if access == Access::VhostVdpa { "vhost" } else { "virtio" };
                Section::Vdpa {
                    vdpa: Vdpa {
                        parent_device: name.to_string(),
                        driver: driver.to_owned(),
                        path: device.nodes.own().map(str::to_owned),
                        pci_address,
                        pf_pci_address,
                    },
                }
            }
            // A sub-function's function is not its consumer's: others share it.
            (Child::None, Access::Vfio | Access::Netdev, Some(pci_address), Some(pf_pci_address))
                if device.parent.vf().is_some() =>
            {
                Section::Pci { pci: Pci { pci_address, pf_pci_address } }
            }
            _ => return None,
        };
        Some(Self { section, version: VERSION.to_owned() })
    }

    /// As JSON.
    #[must_use]
    pub fn document(&self) -> Vec<u8> {
        super::to_json(self)
    }
}

/// The plugin's file of a device.
#[must_use]
pub fn of_device(resource: &str, id: &DeviceId) -> String {
    format!("{PLUGINS}/{}-{id}{SUFFIX}", resource.replace('/', "-"))
}

/// The plugins' files of all resources below a prefix (`doorbell.dev`), sorted.
pub fn of_prefix(host: &Host, prefix: &str) -> host::Result<Vec<String>> {
    // A pool's name has no dot: what has one before the id's first colon is of a longer prefix.
    starting_with(host, &format!("{prefix}-"), |rest| {
        !rest.split(':').next().unwrap_or_default().contains('.')
    })
}

/// The plugins' files of one resource, sorted.
pub fn of_resource(host: &Host, resource: &str) -> host::Result<Vec<String>> {
    // Ids of VFs and sub-functions begin with a PCI domain; the rest of a longer name has a dash before it.
    starting_with(host, &format!("{}-", resource.replace('/', "-")), |rest| {
        rest.split_once(':').is_some_and(|(domain, _)| domain.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

/// Files whose names begin so, and then with what is one of those asked for.
fn starting_with(host: &Host, start: &str, is_ours: impl Fn(&str) -> bool) -> host::Result<Vec<String>> {
    let ours = |name: &String| {
        name.strip_prefix(start).and_then(|rest| rest.strip_suffix(SUFFIX)).is_some_and(&is_ours)
    };
    Ok(host.list(PLUGINS)?.into_iter().filter(ours).map(|name| format!("{PLUGINS}/{name}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(section: Section) -> serde_json::Value {
        let info = DeviceInfo { section, version: VERSION.to_owned() };
        serde_json::from_slice(&info.document()).unwrap()
    }

    #[test]
    fn the_document_of_a_function_is_the_specifications() {
        let (pci_address, pf_pci_address) =
            ("0000:01:00.1".parse().unwrap(), "0000:01:00.0".parse().unwrap());
        let pci = serde_json::json!({ "pci-address": "0000:01:00.1", "pf-pci-address": "0000:01:00.0" });
        assert_eq!(
            document(Section::Pci { pci: Pci { pci_address, pf_pci_address } }),
            serde_json::json!({ "type": "pci", "version": "1.1.0", "pci": pci })
        );
    }

    #[test]
    fn the_document_of_a_vdpa_device_is_the_specifications() {
        let vdpa = Vdpa {
            parent_device: "vdpa0".to_owned(),
            driver: "vhost".to_owned(),
            path: Some("/dev/vhost-vdpa-0".to_owned()),
            pci_address: Some("0000:01:00.1".parse().unwrap()),
            pf_pci_address: None,
        };
        let vdpa = document(Section::Vdpa { vdpa });
        let expected = serde_json::json!({
            "type": "vdpa",
            "version": "1.1.0",
            "vdpa": {
                "parent-device": "vdpa0", "driver": "vhost", "path": "/dev/vhost-vdpa-0", "pci-address": "0000:01:00.1",
            },
        });
        assert_eq!(vdpa, expected);
    }

    #[test]
    fn files_of_a_longer_prefix_are_not_ours() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        let id = "0000:01:00.1".parse().unwrap();
        let files = ["doorbell.dev/fast", "doorbell.dev-x.com/fast", "doorbell.devel/fast"]
            .map(|r| of_device(r, &id));
        for file in &files {
            host.keep_as(file, b"{}").unwrap();
        }
        assert_eq!(of_prefix(&host, "doorbell.dev").unwrap(), files[..1]);
    }

    #[test]
    fn a_file_is_named_by_resource_and_device() {
        assert_eq!(
            of_device("doorbell.dev/fast", &"0000:01:00.1".parse().unwrap()),
            "/var/run/k8s.cni.cncf.io/devinfo/dp/doorbell.dev-fast-0000:01:00.1-device.json"
        );
    }
}
