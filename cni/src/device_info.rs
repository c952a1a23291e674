//! The attachment's device-info file: tells meta-plugins which device stands behind an attachment.
//!
//! Follows the Network Plumbing Working Group's Device Information Specification 1.1.0: where the configuration
//! declares the capability `CNIDeviceInfoFile`, the runtime names the file and the CNI writes it.

use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;

use doorbell_common::claim::Undo;
use doorbell_common::formats::devinfo::{self, DeviceInfo};
use doorbell_common::host::Host;

use crate::failure::Failure;
use crate::hold::Hold;

/// The device plugins' folder in [`devinfo::FOLDER`]: one writer a file, and those are not ours.
const PLUGINS: &str = "dp";

/// Where a device-info file may be written: below [`devinfo::FOLDER`], because the path comes from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfoFile(String);

/// Why a path is none.
#[derive(Debug, PartialEq, Eq)]
pub struct Elsewhere;

impl FromStr for DeviceInfoFile {
    type Err = Elsewhere;

    fn from_str(text: &str) -> Result<Self, Elsewhere> {
        // /var/run is a link to /run, and both are in use.
        let short = devinfo::FOLDER.strip_prefix("/var").unwrap_or(devinfo::FOLDER);
        let path = Path::new(text);
        let below = path.strip_prefix(devinfo::FOLDER).or_else(|_| path.strip_prefix(short));
        let below: Vec<Component<'_>> = below.map_err(|_| Elsewhere)?.components().collect();
        let names = below.iter().all(|component| matches!(component, Component::Normal(_)));
        let [first, ..] = below[..] else { return Err(Elsewhere) };
        // A path may end in a slash and still have a last component; a NUL ends it for the kernel.
        if names && first.as_os_str() != PLUGINS && !text.ends_with('/') && !text.contains('\0') {
            Ok(Self(text.to_owned()))
        } else {
            Err(Elsewhere)
        }
    }
}

impl fmt::Display for DeviceInfoFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl DeviceInfoFile {
    /// Writes it. Multus may have put a copy of the plugin's own there, which says the same.
    pub fn write(&self, host: &Host, hold: &mut Hold<'_>, device: &DeviceInfo) -> Result<(), Failure> {
        hold.change(Undo::RemoveDeviceInfo(self.0.clone()), || {
            if let Some(folder) = Path::new(&self.0).parent() {
                host.make_folder(folder)?;
            }
            Ok(host.replace(&self.0, &device.document())?)
        })
    }
}

#[cfg(test)]
mod tests {
    use doorbell_common::claim::{Holder, Pod};

    use crate::hold;

    use super::*;

    #[test]
    fn the_file_stands_until_del() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        host.make_folder("/proc/sys/kernel/random").unwrap();
        host.replace("/proc/sys/kernel/random/boot_id", b"b1\n").unwrap();
        let [network, container_id, interface, netns] =
            ["net", "c1", "net1", "/var/run/netns/a"].map(str::to_owned);
        let pod = Pod { namespace: "default".to_owned(), name: "a".to_owned() };
        let id = "0000:01:00.1".parse().unwrap();
        let mut hold =
            Hold::take(&host, &id, Holder { network, container_id, interface, netns, pod }).unwrap();

        let path = "/run/k8s.cni.cncf.io/devinfo/cni/c1_net1";
        let info = DeviceInfo::of(&crate::rig::eligible()).unwrap();
        path.parse::<DeviceInfoFile>().unwrap().write(&host, &mut hold, &info).unwrap();
        hold.keep();
        assert_eq!(host.read(path).unwrap(), info.document());
        hold::release(&host, &id, "c1", "net1", "").unwrap();
        assert!(!host.exists(path));
    }

    #[test]
    fn a_file_below_the_folder_in_either_spelling_is_taken() {
        for path in [
            "/var/run/k8s.cni.cncf.io/devinfo/cni/default-fast-c1_net1",
            "/run/k8s.cni.cncf.io/devinfo/cni/default-fast-c1_net1",
            "/var/run/k8s.cni.cncf.io/devinfo/a",
        ] {
            assert_eq!(path.parse().as_ref().map(DeviceInfoFile::to_string), Ok(path.to_owned()));
        }
    }

    #[test]
    fn any_other_path_is_refused() {
        for path in [
            "",
            "/etc/passwd",
            "var/run/k8s.cni.cncf.io/devinfo/cni/a",
            "/var/run/k8s.cni.cncf.io/devinfo",
            "/var/run/k8s.cni.cncf.io/devinfo/",
            "/var/run/k8s.cni.cncf.io/devinfo/.",
            "/var/run/k8s.cni.cncf.io/devinfo/cni/",
            "/var/run/k8s.cni.cncf.io/devinfo/cni/../../a",
            "/var/run/k8s.cni.cncf.io/devinfo/../devinfo/cni/a",
            "/var/run/../run/k8s.cni.cncf.io/devinfo/cni/a",
            "/var/run/k8s.cni.cncf.io/devinfo-other/a",
            "/var/run/k8s.cni.cncf.io/devinfo/dp/doorbell.dev-fast-0000:01:00.1-device.json",
            "/var/run/k8s.cni.cncf.io/devinfo/cni/a\0b",
        ] {
            assert_eq!(path.parse::<DeviceInfoFile>(), Err(Elsewhere), "{path:?}");
        }
    }
}
