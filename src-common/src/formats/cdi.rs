//! CDI specifications: what a container runtime puts into a container that asks for a device by its CDI name (Container
//! Device Interface 0.5.0: the oldest version with names that begin with a digit and with `hostPath`).
//!
//! Kind is the extended resource's name, or `<prefix of resources>/<pool>` where the pool gives that another; a device's name is its id. The file lies in `/var/run/cdi`, which is empty
//! after a boot, and is written anew at each start, so that a name that the kubelet replays leads to the nodes of now.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, Serializer};

use crate::host::{self, Host};
use crate::subdevice::DeviceId;

/// Folder of specifications that are made at run time.
pub const FOLDER: &str = "/var/run/cdi";
const VERSION: &str = "0.5.0";
const PREFIX: &str = "doorbell-";
const SUFFIX: &str = ".json";

/// Texts that are the same for every device: a specification may have thousands.
pub type Texts = Cow<'static, [Cow<'static, str>]>;

/// A specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    cdi_version: String,
    kind: String,
    devices: Vec<Device>,
}

/// A device of a specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// Its id, the second part of its CDI name.
    pub name: DeviceId,
    /// What a container gets with it.
    pub container_edits: Edits,
}

/// What a container gets with a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Edits {
    /// `NAME=value`, the same for every device: a container may have several.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub env: Texts,
    /// Device nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_nodes: Vec<Node>,
    /// Folders of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
}

/// A device node; without owner and mode the runtime makes it the container's user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// In the container and on the host.
    pub path: String,
    /// Of `rwm`.
    pub permissions: Cow<'static, str>,
    /// Permission bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// A folder of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// On the host.
    pub host_path: String,
    /// In the container.
    pub container_path: String,
    /// As mount(8) has them.
    pub options: Texts,
}

impl Spec {
    /// The specification of a kind's devices; `None` without any, which runtimes refuse.
    #[must_use]
    pub fn new(kind: &str, devices: Vec<Device>) -> Option<Self> {
        let (cdi_version, kind) = (VERSION.to_owned(), kind.to_owned());
        (!devices.is_empty()).then_some(Self { cdi_version, kind, devices })
    }

    /// What its devices are.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its devices.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Ids of its devices.
    pub fn ids(&self) -> impl Iterator<Item = &DeviceId> {
        self.devices.iter().map(|device| &device.name)
    }

    /// Whether it has that device.
    #[must_use]
    pub fn has(&self, id: &DeviceId) -> bool {
        self.ids().any(|name| name == id)
    }

    /// What is left of it without the devices that do not stay.
    #[must_use]
    pub fn only(mut self, stays: impl Fn(&DeviceId) -> bool) -> Option<Self> {
        self.devices.retain(|device| stays(&device.name));
        (!self.devices.is_empty()).then_some(self)
    }
}

/// The document of a specification whose devices are made as they are written: there may be thousands.
#[must_use]
pub fn document<'a>(kind: &str, devices: impl Iterator<Item = Cow<'a, Device>> + Clone) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Written<'a, I: Iterator<Item: Serialize> + Clone> {
        cdi_version: &'static str,
        kind: &'a str,
        #[serde(serialize_with = "each")]
        devices: I,
    }

    fn each<S: Serializer>(
        devices: &(impl Iterator<Item: Serialize> + Clone),
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(devices.clone())
    }

    super::to_json(&Written { cdi_version: VERSION, kind, devices })
}

/// The name by which a container asks for a device.
#[must_use]
pub fn qualified(kind: &str, id: &DeviceId) -> String {
    format!("{kind}={id}")
}

/// The file of a pool's specification.
#[must_use]
pub fn file(pool: &str) -> String {
    format!("{FOLDER}/{PREFIX}{pool}{SUFFIX}")
}

/// The file of a kind whose pool's has another kind: the prefix of all resources was changed.
#[must_use]
pub fn file_beside(kind: &str) -> String {
    // No name of a pool has one.
    file(&kind.replace('/', "@"))
}

/// What stands in all files of ours; one that can't be read as ours is none.
pub fn read(host: &Host) -> host::Result<Vec<Spec>> {
    let read =
        |file: String| Ok(host.read_text_if_any(file)?.and_then(|text| serde_json::from_str(&text).ok()));
    files(host)?.into_iter().filter_map(|file| read(file).transpose()).collect()
}

/// Every file of ours, sorted.
pub fn files(host: &Host) -> host::Result<Vec<String>> {
    let ours = |name: &String| name.starts_with(PREFIX) && name.ends_with(SUFFIX);
    Ok(host.list(FOLDER)?.into_iter().filter(ours).map(|name| format!("{FOLDER}/{name}")).collect())
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    fn edits() -> Edits {
        let node = Node {
            path: "/dev/vfio/7".to_owned(),
            permissions: "rw".into(),
            file_mode: Some(0o666),
            uid: None,
            gid: None,
        };
        Edits { env: vec!["A=b".into()].into(), device_nodes: vec![node], mounts: Vec::new() }
    }

    #[test]
    fn nothing_is_written_that_was_not_said() {
        let device = Device { name: "0000:01:00.1".parse().unwrap(), container_edits: edits() };
        let document = document("doorbell.dev/fast", iter::once(Cow::Borrowed(&device)));
        let spec: Spec = serde_json::from_slice(&document).unwrap();
        assert_eq!(Some(spec), Spec::new("doorbell.dev/fast", vec![device]));
        let json: serde_json::Value = serde_json::from_slice(&document).unwrap();
        // 0666 is 438: JSON has no octal.
        let node = serde_json::json!({ "path": "/dev/vfio/7", "permissions": "rw", "fileMode": 438 });
        let edits = serde_json::json!({ "env": ["A=b"], "deviceNodes": [node] });
        let device = serde_json::json!({ "name": "0000:01:00.1", "containerEdits": edits });
        assert_eq!(
            json,
            serde_json::json!({ "cdiVersion": "0.5.0", "kind": "doorbell.dev/fast", "devices": [device] })
        );
    }

    #[test]
    fn a_resource_without_devices_has_no_specification() {
        assert_eq!(Spec::new("doorbell.dev/fast", Vec::new()), None);
    }
}
