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
    let is_of_a_pool = |rest: &str| !rest.split(':').next().unwrap_or_default().contains('.');
    let ours = |name: &String| {
        let rest = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')?.strip_suffix(SUFFIX));
        rest.is_some_and(is_of_a_pool)
    };
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
