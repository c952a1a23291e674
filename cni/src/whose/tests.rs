//! Who gets what, over hand-made descriptors and records, and a hand-made answer of the kubelet.

use doorbell_common::allocation::{Allocation, By};
use doorbell_common::formats;
use doorbell_common::formats::descriptor::{
    Access, Area, Doorbell, Effective, Isolation, Locked, Mediation, Memory, Registers,
};
use doorbell_common::isolation::Class;
use doorbell_common::kernel::iommu::GroupId;
use doorbell_common::kernel::vfio;
use doorbell_common::subdevice::{Nodes, Parent};

use super::*;

const FAST: &str = "doorbell.dev/fast";
const ONE: &str = "0000:01:00.1";
const TWO: &str = "0000:01:00.2";

/// A host of descriptors and records.
struct Node {
    _root: tempfile::TempDir,
    host: Host,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        Self { _root: root, host }
    }

    fn describe(self, id: &str) -> Self {
        let device = device(id);
        let folder = descriptor::folder(&device.id);
        self.host.make_folder(&folder).unwrap();
        let file = format!("{folder}/{}", descriptor::DEVICE_FILE);
        self.host.replace(file, &formats::to_json(&device)).unwrap();
        self
    }

    fn record(self, id: &str, resource: &str, by: By) -> Self {
        let record = Allocation::new(id.parse().unwrap(), resource.to_owned(), by);
        allocation::keep(&self.host, &record).unwrap();
        self
    }

    /// Ids of the devices that are wired for a chain, for a pod that holds these.
    fn ours(&self, held: &[(&str, &str)]) -> Result<Vec<String>, (u32, String)> {
        let ours = ours(&self.host, &self::held(held)).map_err(|failure| (failure.code, failure.msg))?;
        Ok(ours.iter().map(|device| device.id.to_string()).collect())
    }
}

fn held(held: &[(&str, &str)]) -> Vec<Held> {
    let held = held.iter();
    held.map(|(resource, id)| Held { resource: (*resource).to_owned(), id: (*id).to_owned() }).collect()
}

fn pod() -> Pod {
    Pod { namespace: "default".to_owned(), name: "a".to_owned() }
}

fn nodes(group: u32) -> Nodes {
    let (group, container) = (format!("/dev/vfio/{group}"), "/dev/vfio/vfio".into());
    Nodes::Vfio(vfio::Nodes::Group { group, container })
}

pub(crate) fn device(id: &str) -> Device {
    let id: DeviceId = id.parse().unwrap();
    Device {
        api_version: "doorbell.dev/v1".to_owned(),
        id: id.clone(),
        pool: "fast".to_owned(),
        resource: "doorbell.dev/fast".to_owned(),
        access: Access::Vfio,
        nodes: nodes(7),
        parent: Parent::Vf(id.as_str().parse().unwrap()),
        vdpa: None,
        mdev: None,
        pci_address: id.as_str().parse().ok(),
        iommu_group: Some(GroupId(7)),
        isolation: Isolation { class: Class::IommuRid, reason: String::new() },
        registers: Registers::Exposed,
        mediation: Mediation::None,
        doorbell: Doorbell {
            verdict: "exclusive".to_owned(),
            reason: String::new(),
            effective: Effective::Direct,
            effective_reason: String::new(),
            area: Some(Area {
                region: 4,
                offset: 0x3000,
                length: 0x1000,
                stride: 4,
                granularity: doorbell_common::doorbell::Granularity::Device,
            }),
        },
        virtio_type: Some(1),
        numa_node: None,
        memory: Memory { page_size: 0x1000, locked: Locked::MemlockUnlessIpcLock },
        guest: None,
        vm: None,
    }
}

/// What is chosen on a node of two devices, for a pod that holds these.
fn chosen(held: &[(&str, &str)], named: Option<&str>, chained: bool) -> Result<Vec<String>, u32> {
    let node = Node::new().describe(ONE).record(ONE, FAST, By::Cdi).describe(TWO).record(TWO, FAST, By::Cdi);
    let named = named.map(|id| id.parse::<DeviceId>().unwrap());
    let mine = ours(&node.host, &self::held(held));
    let chosen = mine.and_then(|mine| choose(&pod(), mine, named.as_ref(), chained));
    let chosen = chosen.map_err(|failure| failure.code)?;
    Ok(chosen.iter().map(|device| device.id.to_string()).collect())
}

#[test]
fn a_pod_without_our_devices_passes_through_a_chain() {
    assert_eq!(
        chosen(&[("gpu.example/a100", "0000:09:00.0"), ("x.example/y", "not/an/id")], None, true),
        Ok(vec![])
    );
}

#[test]
fn a_device_under_another_resource_is_refused() {
    assert_eq!(chosen(&[("doorbell.dev/renamed", ONE)], None, true), Err(NOT_ELIGIBLE));
}

#[test]
fn all_of_a_pods_devices_are_wired_in_a_chain() {
    let both = [(FAST, TWO), (FAST, ONE)];
    assert_eq!(chosen(&both, None, true), Ok(vec![ONE.to_owned(), TWO.to_owned()]));
}

#[test]
fn a_named_device_must_be_the_pods() {
    let one = [(FAST, ONE)];
    assert_eq!(chosen(&one, Some(ONE), true), Ok(vec![ONE.to_owned()]));
    assert_eq!(chosen(&one, Some(TWO), true), Err(NOT_THIS_PODS));
    assert_eq!(chosen(&[], Some(TWO), false), Err(NOT_THIS_PODS));
}

#[test]
fn a_network_of_its_own_stands_for_one_device() {
    let both = [(FAST, TWO), (FAST, ONE)];
    assert_eq!(chosen(&both[..1], None, false), Ok(vec![TWO.to_owned()]));
    assert_eq!(chosen(&both, None, false), Err(NOT_ONE));
    assert_eq!(chosen(&[], None, false), Err(NOT_ONE));
}

#[test]
fn a_device_whose_answer_holds_is_wired() {
    for by in [By::Cdi, By::Nodes(nodes(7))] {
        let node = Node::new().describe(ONE).record(ONE, FAST, by);
        assert_eq!(node.ours(&[(FAST, ONE)]), Ok(vec![ONE.to_owned()]));
    }
}

#[test]
fn a_device_whose_nodes_were_renumbered_is_refused() {
    let node = Node::new().describe(ONE).record(ONE, FAST, By::Nodes(nodes(8)));
    let msg = "the kubelet replays /dev/vfio/8 for 0000:01:00.1, which is at /dev/vfio/7 now (a reboot or a rebind \
               renumbered it): delete the pod to have it allocated anew";
    assert_eq!(node.ours(&[(FAST, ONE)]), Err((NOT_ELIGIBLE, msg.to_owned())));
}

#[test]
fn a_device_that_was_answered_under_another_resource_is_refused() {
    let node = Node::new().describe(ONE).record(ONE, "doorbell.dev/slow", By::Cdi);
    let msg = "0000:01:00.1 was allocated as doorbell.dev/slow, not as doorbell.dev/fast: delete the pod to have it \
               allocated anew";
    assert_eq!(node.ours(&[(FAST, ONE)]), Err((NOT_ELIGIBLE, msg.to_owned())));
}

#[test]
fn a_device_without_a_record_is_refused() {
    let msg = "what the kubelet was answered for 0000:01:00.1 is not on record \
               (/var/lib/doorbell/allocations/0000:01:00.1: no such file): delete the pod to have it allocated anew";
    assert_eq!(Node::new().describe(ONE).ours(&[(FAST, ONE)]), Err((NOT_ELIGIBLE, msg.to_owned())));
}

#[test]
fn a_record_that_cannot_be_read_is_refused() {
    let node = Node::new().describe(ONE).record(ONE, FAST, By::Cdi);
    node.host.replace(allocation::path(&ONE.parse().unwrap()), b"{").unwrap();
    let (code, msg) = node.ours(&[(FAST, ONE)]).unwrap_err();
    assert_eq!(code, NOT_ELIGIBLE);
    assert!(
        msg.starts_with("/var/lib/doorbell/allocations/0000:01:00.1 is no record of an allocation"),
        "{msg}"
    );
}

#[test]
fn an_allocated_device_that_is_not_described_is_waited_for() {
    let msg = "device 0000:01:00.1 of doorbell.dev/fast is not described: the plugin has not published it since boot, \
               or its pool is gone";
    let node = Node::new().record(ONE, FAST, By::Cdi);
    assert_eq!(node.ours(&[(FAST, ONE)]), Err((code::TRY_AGAIN, msg.to_owned())));
}

#[test]
fn a_record_of_another_resource_makes_no_device_ours() {
    let node = Node::new().record(ONE, FAST, By::Cdi);
    assert_eq!(node.ours(&[("other.example/vf", ONE)]), Ok(vec![]));
}

#[test]
fn the_kubelet_is_not_asked_on_a_node_without_our_devices() {
    let conf =
        Config::parse(br#"{"cniVersion":"1.0.0","name":"n","prevResult":{}}"#, crate::call::Verb::Add, "")
            .unwrap();
    assert_eq!(devices(&Node::new().host, &pod(), &conf), Ok(vec![]));
    // No kubelet is there: being asked shows.
    for node in [Node::new().describe(ONE), Node::new().record(ONE, FAST, By::Cdi)] {
        assert_eq!(devices(&node.host, &pod(), &conf).unwrap_err().code, code::TRY_AGAIN);
    }
}

#[test]
fn a_named_device_is_known_by_its_record_too() {
    let conf = Config::parse(
        br#"{"cniVersion":"1.0.0","name":"n","deviceID":"0000:01:00.1"}"#,
        crate::call::Verb::Add,
        "",
    )
    .unwrap();
    assert_eq!(devices(&Node::new().host, &pod(), &conf).unwrap_err().code, NO_SUCH_DEVICE);
    let node = Node::new().record(ONE, FAST, By::Cdi);
    assert_eq!(devices(&node.host, &pod(), &conf).unwrap_err().code, code::TRY_AGAIN);
}
