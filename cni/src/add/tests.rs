//! Whole calls about a VF whose interface goes into the pod, by this machine's kernel.

use std::fs;

use doorbell_common::allocation::{self, Allocation, By};
use doorbell_common::formats;
use doorbell_common::formats::descriptor::{self, Attachment, Device, Doorbell, Effective};
use doorbell_common::subdevice::{Access, Nodes};
use serde_json::{Value, json};

use crate::ipam::tests::write_program;
use crate::podresources::tests::serve_devices;
use crate::rig::{NETNS, PF, Rig, VF, id, link, write};
use crate::{INTERFACE_FAILED, VF_REFUSED, whose};

use super::*;

pub(crate) const ANSWER: &str =
    r#"{"ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}"#;

pub(crate) struct Node {
    pub(crate) rig: Rig,
    _kubelet: tokio::runtime::Runtime,
}

impl Node {
    /// With an IPAM plugin that answers so.
    pub(crate) fn new(answer: &str) -> Self {
        let rig = Rig::new();
        let host = &rig.host;
        let folder = format!("/sys/bus/pci/devices/{VF}");
        for (file, text) in [("vendor", "0x8086"), ("device", "0x1520"), ("resource", "")] {
            write(host, &format!("{folder}/{file}"), text);
        }
        std::os::unix::fs::symlink(format!("../{PF}"), host.path(format!("{folder}/physfn"))).unwrap();
        std::os::unix::fs::symlink("../drivers/igbvf", host.path(format!("{folder}/driver"))).unwrap();

        let vfio = whose::tests::device(VF);
        let doorbell = Doorbell { effective: Effective::Kernel, area: None, ..vfio.doorbell.clone() };
        let (access, nodes) = (Access::Netdev, Nodes::None {});
        let device = Device { access, nodes, iommu_group: None, doorbell, ..vfio };
        host.keep_as(descriptor::device_file(&id()), &formats::to_json(&device)).unwrap();
        allocation::keep(host, &Allocation::new(id(), device.resource, By::Cdi)).unwrap();

        host.make_folder("/opt/cni/bin").unwrap();
        let script = format!(
            "#!/bin/sh\ncat >/dev/null; echo $CNI_COMMAND >>\"$0.calls\"\n[ $CNI_COMMAND = DEL ] || echo '{answer}'\n"
        );
        write_program(&host.path("/opt/cni/bin/pool"), &script);
        let kubelet = serve_devices(host, &[VF]);
        Self { rig, _kubelet: kubelet }
    }

    pub(crate) fn call(&self, verb: &str, conf: &Value) -> Result<Option<Value>, Failure> {
        self.call_for("c1", verb, conf)
    }

    pub(crate) fn call_for(
        &self,
        container: &str,
        verb: &str,
        conf: &Value,
    ) -> Result<Option<Value>, Failure> {
        let variable = |name: &str| {
            let value = match name {
                "CNI_COMMAND" => verb,
                "CNI_CONTAINERID" => container,
                "CNI_NETNS" => NETNS,
                "CNI_IFNAME" => "net1",
                "CNI_ARGS" => "K8S_POD_NAMESPACE=default;K8S_POD_NAME=a",
                "CNI_PATH" => "/opt/cni/bin",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let answer = crate::answer(&self.rig.host, variable, conf.to_string().as_bytes())?;
        Ok(answer.map(|document| serde_json::from_str(&document).unwrap()))
    }

    pub(crate) fn add(&self, conf: &Value) -> Result<Value, Failure> {
        self.call("ADD", conf).map(Option::unwrap)
    }

    pub(crate) fn del(&self, conf: &Value) {
        // The kernel's part in sysfs: it is in the pod.
        self.rig.shows(&[]);
        assert_eq!(self.call("DEL", conf).unwrap(), None);
    }

    pub(crate) fn attachment(&self) -> Option<Attachment> {
        let file = format!("{}/{}", descriptor::folder(&id()), descriptor::ATTACHMENT_FILE);
        let text = self.rig.host.read_text_if_any(file).unwrap();
        text.map(|text| serde_json::from_str(&text).unwrap())
    }

    pub(crate) fn ipam_calls(&self) -> String {
        fs::read_to_string(self.rig.host.path("/opt/cni/bin/pool.calls")).unwrap()
    }
}

pub(crate) fn conf(with: Value) -> Value {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "fast", "type": "doorbell" });
    let Value::Object(with) = with else { panic!("{with}") };
    conf.as_object_mut().unwrap().extend(with);
    conf
}

#[test]
fn a_network_of_its_own_gives_the_interface_as_asked() {
    let node = Node::new(ANSWER);
    let before = link(&mut node.rig.links(), "d0").unwrap();
    let conf = conf(json!({ "mac": "02:00:00:00:00:11", "mtu": 1400, "ipam": { "type": "pool" } }));
    let interface = json!({
        "name": "net1", "mac": "02:00:00:00:00:11", "mtu": 1400, "sandbox": NETNS, "pciID": VF
    });
    let ip = json!({ "address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 0 });
    let routes = json!([{ "dst": "0.0.0.0/0" }]);
    let result = json!({
        "cniVersion": "1.1.0", "interfaces": [interface], "ips": [ip], "routes": routes, "dns": {}
    });
    assert_eq!(node.add(&conf).unwrap(), result);
    let inside = link(&mut node.rig.inside(), "net1").unwrap();
    assert_eq!((inside.mac, inside.mtu, inside.up), (Some([2, 0, 0, 0, 0, 0x11].into()), 1400, true));
    // Its default route stands: there is no second one.
    let route = Route::to(([0, 0, 0, 0].into(), 0), Some([10, 0, 0, 1].into()));
    let netlink = &mut node.rig.inside();
    assert!(doorbell_common::kernel::link::add_route(netlink, inside.index, &route).is_err());
    let attachment = node.attachment().unwrap();
    assert_eq!(
        (attachment.interface.as_str(), attachment.mac.as_deref()),
        ("net1", Some("02:00:00:00:00:11"))
    );
    assert_eq!((attachment.ips.len(), attachment.trial), (1, None));

    node.del(&conf);
    node.del(&conf);
    let after = link(&mut node.rig.links(), "d0").unwrap();
    assert_eq!(doorbell_common::kernel::link::Link { index: before.index, ..after }, before);
    assert_eq!((node.attachment(), node.rig.claim()), (None, None));
    assert_eq!(node.ipam_calls(), "ADD\nDEL\nDEL\n");
}

#[test]
fn in_a_chain_the_interface_is_told_behind_those_of_the_others() {
    let node = Node::new(ANSWER);
    let eth0 = json!({ "name": "eth0", "sandbox": NETNS });
    let ips = json!([{ "address": "10.88.0.5/16", "interface": 0 }]);
    let previous = json!({ "cniVersion": "1.0.0", "interfaces": [eth0], "ips": ips });
    let mut conf = conf(json!({ "prevResult": previous, "runtimeConfig": { "ips": ["10.0.0.9/24"] } }));
    conf["cniVersion"] = "1.0.0".into();
    let result = node.add(&conf).unwrap();
    let made = link(&mut node.rig.inside(), "doorbell0").unwrap();
    let mac = made.mac.unwrap().to_string();
    let doorbell0 = json!({ "name": "doorbell0", "mac": mac, "sandbox": NETNS });
    let expected = json!({ "cniVersion": "1.0.0", "interfaces": [eth0, doorbell0], "ips": ips });
    assert_eq!(result, expected);
    let attachment = node.attachment().unwrap();
    assert_eq!((attachment.interface.as_str(), attachment.mac), ("doorbell0", Some(mac)));
    let address = ([10, 0, 0, 9].into(), 24);
    let netlink = &mut node.rig.inside();
    assert!(doorbell_common::kernel::link::add_address(netlink, made.index, address).is_err());
    node.del(&conf);
    assert!(link(&mut node.rig.links(), "d0").is_some());
}

#[test]
fn a_failure_in_the_middle_leaves_all_as_it_was() {
    let no_way = r#"{"ips":[{"address":"10.0.0.2/24"}],"routes":[{"dst":"10.1.0.0/16","gw":"10.9.9.9"}]}"#;
    for (answer, with, code) in [
        (ANSWER, json!({ "vlan": 7 }), VF_REFUSED),
        (no_way, json!({ "mac": "02:00:00:00:00:11" }), INTERFACE_FAILED),
    ] {
        let node = Node::new(answer);
        node.rig.veth("pf0", "p9");
        fs::create_dir_all(node.rig.host.path(format!("/sys/bus/pci/devices/{PF}/net/pf0"))).unwrap();
        let before = link(&mut node.rig.links(), "d0").unwrap();
        let mut conf = conf(with);
        conf["ipam"] = json!({ "type": "pool" });
        assert_eq!(node.add(&conf).unwrap_err().code, code);
        let after = link(&mut node.rig.links(), "d0").unwrap();
        assert_eq!(doorbell_common::kernel::link::Link { index: before.index, ..after }, before);
        assert_eq!((node.attachment(), node.rig.claim()), (None, None));
        assert_eq!(node.ipam_calls(), "ADD\nDEL\n");
    }
}

#[test]
fn what_can_be_refused_is_refused_before_anything_is_claimed() {
    let node = Node::new(ANSWER);
    let cases = [
        (conf(json!({ "prevResult": [] })), code::DECODE),
        (conf(json!({ "vlan": 4095 })), code::BAD_CONFIG),
    ];
    for (conf, code) in cases {
        assert_eq!(node.add(&conf).unwrap_err().code, code);
    }
    fs::remove_file(node.rig.host.path(NETNS)).unwrap();
    assert_eq!(node.add(&conf(json!({}))).unwrap_err().code, code::BAD_ENVIRONMENT);
    assert!(!node.rig.host.exists("/var/lib/doorbell/claims"));
}
