//! Finds and reads the descriptor of the device that this container was given.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use doorbell_common::formats::descriptor::{API_VERSION, ATTACHMENT_FILE, Attachment, DEVICE_FILE, Device};
use serde::de::DeserializeOwned;

/// A device with what is known of its attachment.
#[derive(Debug)]
pub(crate) struct Descriptor {
    /// `device.json`.
    pub(crate) device: Device,
    /// `attachment.json`, where the CNI wrote one.
    pub(crate) attachment: Option<Attachment>,
}

/// Reads the descriptor of `id`, or of the one device there is, below `root` (`<root>/<pool>/<id>/`).
pub(crate) fn find(root: &Path, id: Option<&str>) -> Result<Descriptor> {
    let mut folders = folders(root)?;
    if let Some(id) = id {
        folders.retain(|folder| folder.ends_with(id));
    }
    match folders.as_slice() {
        [folder] => read(folder),
        [] => match id {
            Some(id) => bail!("find the device {id} in {}: no {DEVICE_FILE} of it", root.display()),
            None => bail!("find a device in {}: no <pool>/<id>/{DEVICE_FILE}", root.display()),
        },
        several => {
            let names: Vec<_> = several.iter().map(|folder| folder.display().to_string()).collect();
            bail!("choose a device: {} stand, name one by --device: {}", several.len(), names.join(", "))
        }
    }
}

/// Every `<root>/<pool>/<id>` with a device file, sorted.
fn folders(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for pool in children(root)? {
        // The runtime mounts other things beside the pools, which may be files.
        if pool.is_dir() {
            found.extend(children(&pool)?.into_iter().filter(|folder| folder.join(DEVICE_FILE).is_file()));
        }
    }
    found.sort();
    Ok(found)
}

fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>();
    list().with_context(|| format!("list {}", folder.display()))
}

fn read(folder: &Path) -> Result<Descriptor> {
    let path = folder.join(DEVICE_FILE);
    let device: Device = json(&path)?.ok_or_else(|| anyhow!("read {}: it went away", path.display()))?;
    ensure!(
        device.api_version == API_VERSION,
        "read {}: its version is {}, not {API_VERSION}",
        path.display(),
        device.api_version
    );
    let attachment = json(&folder.join(ATTACHMENT_FILE))?;
    Ok(Descriptor { device, attachment })
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.with_context(|| format!("read {}", path.display()))?,
    };
    serde_json::from_slice(&text).map(Some).with_context(|| format!("parse {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = r#"{
        "apiVersion": "doorbell.dev/v1", "id": "ID", "pool": "net", "resource": "doorbell.dev/net",
        "access": "vfio", "nodes": {"group": "/dev/vfio/7", "container": "/dev/vfio/vfio"},
        "pciAddress": "0000:01:00.1", "iommuGroup": 7,
        "isolation": {"class": "iommu-rid", "reason": "alone in its group"},
        "registers": "exposed", "mediation": "none",
        "doorbell": {"verdict": "exclusive", "reason": "alone in its page", "region": 4, "offset": 12288,
                     "length": 4096, "stride": 4, "granularity": "device", "effective": "direct"},
        "virtioType": 1, "numaNode": null,
        "memory": {"pageSize": 4096, "locked": "memlock-unless-ipc-lock"}}"#;

    fn root(ids: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for id in ids {
            let folder = root.path().join("net").join(id);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(DEVICE_FILE), DEVICE.replace("ID", id)).unwrap();
        }
        fs::write(root.path().join("a-file"), "").unwrap();
        root
    }

    #[test]
    fn the_one_device_is_found_with_its_attachment() {
        let root = root(&["0000:01:00.1"]);
        assert!(find(root.path(), None).unwrap().attachment.is_none());
        let attachment = r#"{"apiVersion": "doorbell.dev/v1", "interface": "net1",
            "ips": [{"address": "10.9.0.2", "prefix": 24}],
            "trial": {"region": 4, "offset": 12288, "length": 4096, "micros": 9000}}"#;
        fs::write(root.path().join("net/0000:01:00.1").join(ATTACHMENT_FILE), attachment).unwrap();
        let descriptor = find(root.path(), None).unwrap();
        assert_eq!(descriptor.device.id.to_string(), "0000:01:00.1");
        assert_eq!(descriptor.attachment.unwrap().interface, "net1");
    }

    #[test]
    fn of_several_devices_one_must_be_named() {
        let root = root(&["0000:01:00.1", "0000:01:00.2"]);
        let error = find(root.path(), None).unwrap_err().to_string();
        assert!(error.contains("net/0000:01:00.1") && error.contains("net/0000:01:00.2"), "{error}");
        assert_eq!(find(root.path(), Some("0000:01:00.2")).unwrap().device.id.to_string(), "0000:01:00.2");
        assert!(find(root.path(), Some("0000:01:00.3")).is_err());
    }

    #[test]
    fn no_device_and_a_foreign_version_are_errors() {
        let root = root(&[]);
        assert!(find(root.path(), None).unwrap_err().to_string().starts_with("find a device in"));
        assert!(find(&root.path().join("gone"), None).unwrap_err().to_string().starts_with("list "));
        let folder = root.path().join("net/x");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(DEVICE_FILE), DEVICE.replace("doorbell.dev/v1", "doorbell.dev/v2")).unwrap();
        assert!(find(root.path(), None).unwrap_err().to_string().contains("its version is doorbell.dev/v2"));
    }
}
