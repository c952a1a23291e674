//! For tests: a host and a pod in network namespaces of this machine's kernel, over files in a folder.
//!
//! The links are virtual ones, which differ from a device's in two ways: the kernel names no device below them, and
//! removes them with their namespace. sysfs is made by hand: what the kernel would change in it, a test says.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::symlink;
use std::thread;

use doorbell_common::claim::{self, Claim, Holder, Pod};
use doorbell_common::host::Host;
use doorbell_common::isolation::{Class, Isolation};
use doorbell_common::kernel::link::{self, Link, LinkName};
use doorbell_common::kernel::netlink::Netlink;
use doorbell_common::kernel::netns::Netns;
use doorbell_common::subdevice::{Access, Child, DeviceId, Effective, Eligible, Nodes, Parent};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};
use nix::sched::{CloneFlags, unshare};

use crate::hold::Hold;
use crate::netdev;

pub(crate) const PF: &str = "0000:01:00.0";
pub(crate) const VF: &str = "0000:01:00.1";
/// The VF's folder in sysfs.
pub(crate) const HOME: &str = "/sys/bus/pci/devices/0000:01:00.1";
/// The pod's namespace.
pub(crate) const NETNS: &str = "/var/run/netns/a";

/// A host with a PF and its VF, whose interface is `d0`, and a pod.
pub(crate) struct Rig {
    _root: tempfile::TempDir,
    pub(crate) host: Host,
    pub(crate) own: Netns,
    pub(crate) pod: Option<Netns>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        let (own, pod) = (fresh(), fresh());
        for (file, netns) in [("/proc/self/ns/net", &own), (NETNS, &pod)] {
            write(&host, file, "");
            fs::remove_file(host.path(file)).unwrap();
            let descriptor = netns.as_fd().as_raw_fd();
            symlink(format!("/proc/{}/fd/{descriptor}", std::process::id()), host.path(file)).unwrap();
        }
        write(&host, "/proc/sys/kernel/random/boot_id", "b1\n");
        let rig = Self { _root: root, host, own, pod: Some(pod) };
        rig.veth("d0", "p0");
        rig.shows(&["d0"]);
        symlink(format!("../{VF}"), rig.made(&format!("/sys/bus/pci/devices/{PF}/virtfn3"))).unwrap();
        rig
    }

    /// Makes a virtual link and its peer on the host, both down.
    pub(crate) fn veth(&self, name: &str, peer: &str) {
        veth(&mut self.links(), name, peer);
    }

    /// A socket to the links of the host.
    pub(crate) fn links(&self) -> Netlink {
        netdev::open(&self.own).unwrap()
    }

    /// A socket to the links of the pod.
    pub(crate) fn inside(&self) -> Netlink {
        netdev::open(self.pod.as_ref().unwrap()).unwrap()
    }

    /// Has sysfs show these interfaces of the VF on the host. The folder stays, as the kernel's does: without one the VF
    /// has no interface anywhere.
    pub(crate) fn shows(&self, names: &[&str]) {
        let folder = self.host.path(format!("{HOME}/net"));
        fs::create_dir_all(&folder).unwrap();
        for shown in fs::read_dir(&folder).unwrap().map(|shown| shown.unwrap()) {
            if !names.iter().any(|name| shown.file_name() == *name) {
                fs::remove_dir(shown.path()).unwrap();
            }
        }
        for name in names {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
    }

    /// Takes the pod's namespace down. Virtual links go with it.
    pub(crate) fn end_pod(&mut self) {
        fs::remove_file(self.host.path(NETNS)).unwrap();
        self.pod = None;
    }

    /// Where a file of the host is, in a folder that is made.
    pub(crate) fn made(&self, path: &str) -> std::path::PathBuf {
        let path = self.host.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub(crate) fn take(&self, container: &str) -> Hold<'_> {
        Hold::take(&self.host, &id(), holder(container)).unwrap()
    }

    pub(crate) fn claim(&self) -> Option<Claim> {
        claim::read(&self.host, &id()).unwrap()
    }
}

pub(crate) fn write(host: &Host, path: &str, text: &str) {
    let path = host.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub(crate) fn id() -> DeviceId {
    VF.parse().unwrap()
}

pub(crate) fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

pub(crate) fn link(netlink: &mut Netlink, text: &str) -> Option<Link> {
    link::by_name(netlink, &name(text)).unwrap()
}

pub(crate) fn holder(container: &str) -> Holder {
    let [network, container_id, interface, netns] = ["net", container, "net1", NETNS].map(str::to_owned);
    let pod = Pod { namespace: "default".to_owned(), name: "a".to_owned() };
    Holder { network, container_id, interface, netns, pod }
}

/// The VF, as it is handed out in mode `netdev`.
pub(crate) fn eligible() -> Eligible {
    let address = VF.parse().unwrap();
    Eligible {
        id: id(),
        parent: Parent::Vf(address),
        child: Child::None,
        access: Access::Netdev,
        function: Some(address),
        ids: None,
        pf: PF.parse().ok(),
        driver: Some("igbvf".into()),
        nodes: Nodes::None {},
        numa_node: None,
        virtio_type: None,
        isolation: Isolation { class: Class::KernelMediated, group: None },
        doorbell: Err(doorbell_common::doorbell::Refusal::NotPci),
        effective: Effective::Kernel,
    }
}

/// A namespace with nothing in it but `lo`.
pub(crate) fn fresh() -> Netns {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        Netns::at(&Host::real(), "/proc/thread-self/ns/net").unwrap()
    };
    thread::scope(|scope| scope.spawn(make).join().unwrap())
}

fn veth(netlink: &mut Netlink, link: &str, peer: &str) {
    let named = |text: &str| {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(text.to_owned()));
        message
    };
    let mut message = named(link);
    let data = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(named(peer))));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), data]));
    netlink.request(NLM_F_CREATE | NLM_F_EXCL, RouteNetlinkMessage::NewLink(message)).unwrap();
}
