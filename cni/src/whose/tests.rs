//! Who gets what, over hand-made descriptors and a hand-made answer of the kubelet.

use doorbell_common::formats::descriptor::{
    Access, Doorbell, Effective, Isolation, Locked, Mediation, Memory, Registers,
};
use doorbell_common::isolation::Class;
use doorbell_common::kernel::iommu::GroupId;
use doorbell_common::kernel::vfio::Nodes;

use super::*;

fn device(id: &str) -> Device {
    let id: DeviceId = id.parse().unwrap();
    Device {
        api_version: "doorbell.dev/v1".to_owned(),
        id: id.clone(),
        pool: "fast".to_owned(),
        resource: "doorbell.dev/fast".to_owned(),
        access: Access::Vfio,
        nodes: Nodes::Group { group: "/dev/vfio/7".to_owned(), container: "/dev/vfio/vfio".to_owned() },
        pci_address: id.as_str().parse().unwrap(),
        iommu_group: GroupId(7),
        isolation: Isolation { class: Class::IommuRid, reason: String::new() },
        registers: Registers::Exposed,
        mediation: Mediation::None,
        doorbell: Doorbell {
            verdict: "exclusive".to_owned(),
            reason: String::new(),
            region: 4,
            offset: 0x3000,
            length: 0x1000,
            stride: 4,
            granularity: doorbell_common::doorbell::Granularity::Device,
            effective: Effective::Direct,
        },
        virtio_type: 1,
        numa_node: None,
        memory: Memory { page_size: 0x1000, locked: Locked::MemlockUnlessIpcLock },
    }
}

/// What is chosen on a node that describes two devices, for a pod that holds these.
fn chosen(held: &[(&str, &str)], named: Option<&str>, chained: bool) -> Result<Vec<String>, u32> {
    let root = tempfile::tempdir().unwrap();
    let host = Host::at(root.path());
    for device in ["0000:01:00.1", "0000:01:00.2"].map(device) {
        let folder = descriptor::folder(&device.id);
        host.make_folder(&folder).unwrap();
        host.replace(format!("{folder}/{}", descriptor::DEVICE_FILE), &descriptor::to_json(&device)).unwrap();
    }
    let held: Vec<Held> = held
        .iter()
        .map(|(resource, id)| Held { resource: (*resource).to_owned(), id: (*id).to_owned() })
        .collect();
    let named = named.map(|id| id.parse::<DeviceId>().unwrap());
    let pod = Pod { namespace: "default".to_owned(), name: "a".to_owned() };
    let chosen = ours(&host, &held).and_then(|mine| choose(&pod, mine, named.as_ref(), chained));
    let chosen = chosen.map_err(|failure| failure.code)?;
    Ok(chosen.iter().map(|device| device.id.to_string()).collect())
}

const FAST: &str = "doorbell.dev/fast";

#[test]
fn a_pod_without_our_devices_passes_through_a_chain() {
    assert_eq!(
        chosen(&[("gpu.example/a100", "0000:09:00.0"), ("x.example/y", "not/an/id")], None, true),
        Ok(vec![])
    );
}

#[test]
fn a_device_under_another_resource_is_refused() {
    assert_eq!(chosen(&[("doorbell.dev/renamed", "0000:01:00.1")], None, true), Err(NOT_ELIGIBLE));
}

#[test]
fn all_of_a_pods_devices_are_wired_in_a_chain() {
    let both = [(FAST, "0000:01:00.2"), (FAST, "0000:01:00.1")];
    assert_eq!(chosen(&both, None, true), Ok(vec!["0000:01:00.1".to_owned(), "0000:01:00.2".to_owned()]));
}

#[test]
fn a_named_device_must_be_the_pods() {
    let one = [(FAST, "0000:01:00.1")];
    assert_eq!(chosen(&one, Some("0000:01:00.1"), true), Ok(vec!["0000:01:00.1".to_owned()]));
    assert_eq!(chosen(&one, Some("0000:01:00.2"), true), Err(NOT_THIS_PODS));
    assert_eq!(chosen(&[], Some("0000:01:00.2"), false), Err(NOT_THIS_PODS));
}

#[test]
fn a_network_of_its_own_stands_for_one_device() {
    let both = [(FAST, "0000:01:00.2"), (FAST, "0000:01:00.1")];
    assert_eq!(chosen(&both[..1], None, false), Ok(vec!["0000:01:00.2".to_owned()]));
    assert_eq!(chosen(&both, None, false), Err(NOT_ONE));
    assert_eq!(chosen(&[], None, false), Err(NOT_ONE));
}
