//! Descriptors as they are written for each way to drive a device.

use super::*;

const VFIO: &str = r#"{
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
        fs::write(folder.join(DEVICE_FILE), VFIO.replace("ID", id)).unwrap();
    }
    fs::write(root.path().join("a-file"), "").unwrap();
    root
}

/// A descriptor with no more than these members beside the two that each one has.
fn device(members: &str) -> Device {
    let text = format!(r#"{{"apiVersion": "{API_VERSION}", "id": "an-id", {members}}}"#);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_one_device_is_found_with_its_attachment() {
    let root = root(&["0000:01:00.1"]);
    assert!(find(root.path(), None).unwrap().attachment.is_none());
    let attachment = r#"{"apiVersion": "doorbell.dev/v1", "interface": "net1",
        "ips": [{"address": "10.9.0.2", "prefix": 24}],
        "trial": {"region": 4, "offset": 12288, "length": 4096, "micros": 9000}}"#;
    fs::write(root.path().join("net/0000:01:00.1").join(ATTACHMENT_FILE), attachment).unwrap();
    let Descriptor { device, attachment } = find(root.path(), None).unwrap();
    assert_eq!((device.id.as_str(), device.vfio_name()), ("0000:01:00.1", "0000:01:00.1"));
    let granularity = Granularity::Device;
    let place = Place { region: 4, offset: 0x3000, length: 0x1000, stride: 4, granularity };
    assert_eq!(device.doorbell.place().unwrap(), place);
    let attachment = attachment.unwrap();
    assert_eq!(attachment.interface, "net1");
    assert_eq!(attachment.ips[0].address, IpAddr::from([10, 9, 0, 2]));
}

#[test]
fn of_several_devices_one_must_be_named() {
    let root = root(&["0000:01:00.1", "0000:01:00.2"]);
    let error = find(root.path(), None).unwrap_err().to_string();
    assert!(error.contains("net/0000:01:00.1") && error.contains("net/0000:01:00.2"), "{error}");
    assert_eq!(find(root.path(), Some("0000:01:00.2")).unwrap().device.id, "0000:01:00.2");
    assert!(find(root.path(), Some("0000:01:00.3")).is_err());
}

#[test]
fn no_device_and_a_foreign_version_are_errors() {
    let root = root(&[]);
    assert!(find(root.path(), None).unwrap_err().to_string().starts_with("find a device in"));
    assert!(find(&root.path().join("gone"), None).unwrap_err().to_string().starts_with("list "));
    let folder = root.path().join("net/x");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(DEVICE_FILE), VFIO.replace("doorbell.dev/v1", "doorbell.dev/v2")).unwrap();
    assert!(find(root.path(), None).unwrap_err().to_string().contains("its version is doorbell.dev/v2"));
}

#[test]
fn a_vdpa_device_has_one_node_and_its_doorbell_no_place() {
    let device = device(
        r#""access": "vhost-vdpa", "nodes": {"vhostVdpa": "/dev/vhost-vdpa-0"}, "virtioType": 1,
           "doorbell": {"verdict": "exclusive", "reason": "a page a queue", "effective": "direct"}"#,
    );
    assert_eq!(device.access, Access::VhostVdpa);
    assert_eq!(*device.nodes().unwrap(), Nodes::VhostVdpa { vhost_vdpa: "/dev/vhost-vdpa-0".into() });
    assert_eq!(device.nodes().unwrap().own(), "/dev/vhost-vdpa-0");
    assert_eq!(device.rung_by(None).unwrap(), By::Mapped);
    assert_eq!(device.rung_by(Some(By::Eventfd)).unwrap(), By::Eventfd);
    let error = device.doorbell.place().unwrap_err().to_string();
    assert_eq!(error, "the descriptor's doorbell has no region");
}

#[test]
fn an_mdev_is_known_by_its_uuid() {
    let device = device(
        r#""access": "mdev", "nodes": {"device": "/dev/vfio/devices/vfio3", "iommu": "/dev/iommu"},
           "pciAddress": "0000:01:00.0", "mdev": "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001",
           "doorbell": {"effective": "none"}"#,
    );
    assert_eq!(device.vfio_name(), "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001");
    assert_eq!(device.nodes().unwrap().own(), "/dev/vfio/devices/vfio3");
}

#[test]
fn only_nodes_of_the_access_are_opened() {
    let netdev = device(r#""access": "netdev""#);
    let error = netdev.rung_by(None).unwrap_err().to_string();
    assert_eq!(error, "an-id is not ours to ring: its doorbell is None");
    let error = netdev.nodes().unwrap_err().to_string();
    assert_eq!(error, "an-id is driven by Netdev, and its nodes are None");
    let nodes = r#""nodes": {"vhostVdpa": "/dev/vhost-vdpa-0"}"#;
    assert!(device(&format!(r#""access": "vhost-vdpa", {nodes}"#)).nodes().is_ok());
    assert!(device(&format!(r#""access": "vfio", {nodes}"#)).nodes().is_err());
}
