//! device-info files: which device stands behind a resource's id or an attachment, in the form that the field's
//! meta-plugins read (Network Plumbing Working Group, Device Information Specification 1.1.0).
//!
//! The plugin writes one a device for the kubelet's side of the story, the CNI one for each attachment that asks for
//! it. Meta-plugins drop keys that the specification does not know, so all else is in the descriptor.

use serde::{Deserialize, Serialize};

use crate::host::{self, Host};
use crate::kernel::pci::PciAddress;
use crate::subdevice::DeviceId;

/// Every device-info file of the host lies below.
pub const FOLDER: &str = "/var/run/k8s.cni.cncf.io/devinfo";
const PLUGINS: &str = "/var/run/k8s.cni.cncf.io/devinfo/dp";
const SUFFIX: &str = "-device.json";
const VERSION: &str = "1.1.0";

/// A device-info file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    #[serde(rename = "type")]
    kind: Kind,
    version: String,
    pci: Pci,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Pci,
}

/// The section of a device that is driven as a PCI function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pci {
    pci_address: PciAddress,
    pf_pci_address: PciAddress,
}

impl DeviceInfo {
    /// Of a VF that its consumer drives as a PCI function.
    #[must_use]
    pub fn vf(address: PciAddress, pf: PciAddress) -> Self {
        let pci = Pci { pci_address: address, pf_pci_address: pf };
        Self { kind: Kind::Pci, version: VERSION.to_owned(), pci }
    }

    /// As JSON.
    #[must_use]
    pub fn document(&self) -> Vec<u8> {
        super::descriptor::to_json(self)
    }
}

/// The plugin's file of a device.
#[must_use]
pub fn of_device(resource: &str, id: &DeviceId) -> String {
    format!("{PLUGINS}/{}-{id}{SUFFIX}", resource.replace('/', "-"))
}

/// The plugins' files of all resources below a prefix (`doorbell.dev`), sorted.
pub fn of_prefix(host: &Host, prefix: &str) -> host::Result<Vec<String>> {
    let ours = |name: &String| name.starts_with(&format!("{prefix}-")) && name.ends_with(SUFFIX);
    Ok(host.list(PLUGINS)?.into_iter().filter(ours).map(|name| format!("{PLUGINS}/{name}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_the_specifications() {
        let info = DeviceInfo::vf("0000:01:00.1".parse().unwrap(), "0000:01:00.0".parse().unwrap());
        let json: serde_json::Value = serde_json::from_slice(&info.document()).unwrap();
        let pci = serde_json::json!({ "pci-address": "0000:01:00.1", "pf-pci-address": "0000:01:00.0" });
        assert_eq!(json, serde_json::json!({ "type": "pci", "version": "1.1.0", "pci": pci }));
    }

    #[test]
    fn a_file_is_named_by_resource_and_device() {
        assert_eq!(
            of_device("doorbell.dev/fast", &"0000:01:00.1".parse().unwrap()),
            "/var/run/k8s.cni.cncf.io/devinfo/dp/doorbell.dev-fast-0000:01:00.1-device.json"
        );
    }
}
