//! `kubelet_internal_checkpoint`: the allocations and the registered devices, as they outlive the kubelet.
//! The fields are the kubelet's (`Data`, `PodDeviceEntries`, `RegisteredDevices`, `Checksum`); the checksum is
//! FNV-1a of `Data` as it is written here, where the kubelet hashes a dump of its Go value.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorbell_common::kubelet::deviceplugin::ContainerAllocateResponse;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::{
    allocations::{Allocation, Allocations, Holder, IdsByNuma},
    pod::PodUid,
};

/// Why a checkpoint cannot be used. The kubelet then goes on without one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    /// The file cannot be read or written.
    #[error("cannot {verb} the checkpoint {}", path.display())]
    Io {
        /// "read" or "write".
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is no checkpoint.
    #[error("the checkpoint {} is malformed: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The healthy devices of each registered resource, by name.
pub(crate) type Registered = BTreeMap<String, Vec<String>>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checkpoint {
    data: Data,
    checksum: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    pod_device_entries: Vec<Entry>,
    registered_devices: Registered,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    #[serde(rename = "ContainerName")]
    container_name: String,
    #[serde(rename = "ResourceName")]
    resource_name: String,
    #[serde(rename = "DeviceIDs")]
    device_ids: IdsByNuma,
    /// The ContainerAllocateResponse as protobuf, in base64.
    #[serde(rename = "AllocResp")]
    alloc_resp: String,
}

/// Writes the checkpoint, whole or not at all.
pub(crate) fn write(
    path: &Path,
    allocations: &Allocations,
    registered: Registered,
) -> Result<(), CheckpointError> {
    let entry = |(holder, allocation): (&Holder, &Allocation)| Entry {
        pod_uid: holder.pod.to_string(),
        container_name: holder.container.clone(),
        resource_name: holder.resource.clone(),
        device_ids: allocation.ids.clone(),
        alloc_resp: STANDARD.encode(allocation.answer.encode_to_vec()),
    };
    let data =
        Data { pod_device_entries: allocations.iter().map(entry).collect(), registered_devices: registered };
    let io = |source: io::Error| CheckpointError::Io { verb: "write", path: path.to_owned(), source };
    let checksum = checksum(&data).map_err(|error| io(error.into()))?;
    let text = serde_json::to_vec(&Checkpoint { data, checksum }).map_err(|error| io(error.into()))?;
    let draft = path.with_extension("tmp");
    fs::write(&draft, text).and_then(|()| fs::rename(&draft, path)).map_err(io)
}

/// Reads the checkpoint; a missing file is an empty one, as on a fresh node.
pub(crate) fn read(path: &Path) -> Result<(Allocations, Registered), CheckpointError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(source) => return Err(CheckpointError::Io { verb: "read", path: path.to_owned(), source }),
    };
    let malformed = |reason: String| CheckpointError::Malformed { path: path.to_owned(), reason };
    let Checkpoint { data, checksum: written } =
        serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    let computed = checksum(&data).map_err(|error| malformed(error.to_string()))?;
    if computed != written {
        return Err(malformed(format!("the checksum is {computed}, not {written}")));
    }
    let mut allocations = Allocations::default();
    for entry in data.pod_device_entries {
        let bytes = STANDARD.decode(&entry.alloc_resp).map_err(|error| malformed(error.to_string()))?;
        let answer = ContainerAllocateResponse::decode(bytes.as_slice())
            .map_err(|error| malformed(error.to_string()))?;
        let holder = Holder {
            pod: PodUid::from(entry.pod_uid.as_str()),
            container: entry.container_name,
            resource: entry.resource_name,
        };
        allocations.insert(holder, Allocation { ids: entry.device_ids, answer });
    }
    Ok((allocations, data.registered_devices))
}

fn checksum(data: &Data) -> serde_json::Result<u64> {
    let fnv1a = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    Ok(serde_json::to_vec(data)?.iter().fold(0xcbf2_9ce4_8422_2325, fnv1a))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocations::tests::{allocation, holder};

    fn written() -> (tempfile::TempDir, PathBuf, Allocations, Registered) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubelet_internal_checkpoint");
        let mut allocations = Allocations::default();
        allocations.insert(holder("p", "c", "r/x"), allocation(&["0000:01:00.1"]));
        let registered = Registered::from([("r/x".to_owned(), vec!["0000:01:00.1".to_owned()])]);
        write(&path, &allocations, registered.clone()).unwrap();
        (folder, path, allocations, registered)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (_folder, path, allocations, registered) = written();
        assert_eq!(read(&path).unwrap(), (allocations, registered));
    }

    #[test]
    fn the_fields_have_the_kubelets_names() {
        let (_folder, path, ..) = written();
        let value: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let entry = &value["Data"]["PodDeviceEntries"][0];
        assert_eq!(entry["PodUID"], "p");
        assert_eq!(entry["DeviceIDs"]["-1"][0], "0000:01:00.1");
        assert_eq!(value["Data"]["RegisteredDevices"]["r/x"][0], "0000:01:00.1");
    }

    #[test]
    fn a_changed_checkpoint_is_refused() {
        let (_folder, path, ..) = written();
        let text = fs::read_to_string(&path).unwrap().replace("0000:01:00.1", "0000:01:00.2");
        fs::write(&path, text).unwrap();
        assert!(matches!(read(&path), Err(CheckpointError::Malformed { .. })));
    }

    #[test]
    fn a_fresh_node_has_no_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&folder.path().join("none")).unwrap(), Default::default());
    }
}
