//! Faults: calls that are killed at any step, one after the other and by chance, by this machine's kernel.
//!
//! The binary runs as a process of its own on the rig's host of files; three sandboxes ask for its one device.

mod beside;
mod killed;
mod storm;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use doorbell_common::host::Host;
use doorbell_common::kernel::link::{self as kernel_link, Link};
use doorbell_common::kernel::netns::Netns;
use serde_json::{Value, json};

use crate::add::tests::{ANSWER, Node, conf};
use crate::netdev;
use crate::rig::{Rig, id, link, name};

const SANDBOXES: [&str; 3] = ["c1", "c2", "c3"];
/// A step that no call has.
const NEVER: u64 = u64::MAX;

/// The root folder of the host that a call is about.
const ROOT: &str = "DOORBELL_ROOT";

/// The binary, on a host of files: this program as a process of its own, with the protocol's environment and stdin.
#[test]
#[ignore = "it is what the other tests start"]
fn a_call() {
    let mut stdin = Vec::new();
    std::io::stdin().read_to_end(&mut stdin).unwrap();
    let variable = |name: &str| std::env::var(name).ok();
    let answer = crate::answer(&Host::at(variable(ROOT).unwrap()), variable, &stdin);
    if let Err(failure) = &answer {
        println!("{}: {failure:?}", variable("CNI_COMMAND").unwrap_or_default());
    }
    std::process::exit(i32::from(answer.is_err()));
}

/// A host with one device, and sandboxes that ask for it.
struct World {
    node: Node,
    sandboxes: Vec<Netns>,
    /// As the interface is on the host, where nobody has it.
    before: Link,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Succeeded,
    Failed,
    Killed,
}

fn netns(sandbox: &str) -> String {
    format!("/var/run/netns/{sandbox}")
}

/// The whole of the configuration: every kind of step that this machine's kernel has is taken.
fn network() -> Value {
    conf(json!({
        "mac": "02:00:00:00:00:11", "mtu": 1400, "ipam": { "type": "pool" },
        "runtimeConfig": { "CNIDeviceInfoFile": "/var/run/k8s.cni.cncf.io/devinfo/cni/a.json" }
    }))
}

impl World {
    fn new() -> Self {
        let node = Node::new(ANSWER);
        let sandboxes: Vec<Netns> = SANDBOXES.iter().map(|_| crate::rig::fresh()).collect();
        for (sandbox, netns) in SANDBOXES.iter().zip(&sandboxes) {
            let target = format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd());
            symlink(target, node.rig.made(&self::netns(sandbox))).unwrap();
        }
        let before = link(&mut node.rig.links(), "d0").unwrap();
        Self { node, sandboxes, before }
    }

    /// Starts a call, which ends at that step.
    fn start(&self, sandbox: &str, verb: &str, conf: &Value, step: u64) -> Child {
        self.shows();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "faults::a_call", "--ignored", "--nocapture"])
            .env(ROOT, self.node.rig.host.path("/"))
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", sandbox)
            .env("CNI_NETNS", netns(sandbox))
            .env("CNI_IFNAME", "net1")
            .env("CNI_ARGS", "K8S_POD_NAMESPACE=default;K8S_POD_NAME=a")
            .env("CNI_PATH", "/opt/cni/bin")
            .env("DOORBELL_FAULT", format!("kill:{step}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // One that is killed before it reads has no pipe.
        let _ = child.stdin.take().unwrap().write_all(conf.to_string().as_bytes());
        child
    }

    fn end(&self, child: Child) -> End {
        let output = child.wait_with_output().unwrap();
        self.shows();
        match output.status.code() {
            Some(0) => End::Succeeded,
            Some(_) => {
                // Of a test that fails it is seen.
                println!("{}", String::from_utf8_lossy(&output.stdout));
                End::Failed
            }
            None => End::Killed,
        }
    }

    fn call(&self, sandbox: &str, verb: &str, step: u64) -> End {
        self.end(self.start(sandbox, verb, &network(), step))
    }

    fn gc(&self, valid: &[&str], step: u64) -> End {
        let mut conf = network();
        let valid = valid.iter().map(|sandbox| json!({ "containerID": sandbox, "ifname": "net1" }));
        conf["cni.dev/valid-attachments"] = valid.collect();
        self.end(self.start("", "GC", &conf, step))
    }

    /// The kernel's part in sysfs: what is on the host shows there.
    fn shows(&self) {
        let Rig { own, .. } = &self.node.rig;
        let mut links = netdev::open(own).unwrap();
        let ours = kernel_link::list(&mut links).unwrap();
        let ours: Vec<String> = ours.iter().map(|link| link.name.to_string()).collect();
        let shown: Vec<&str> =
            ours.iter().map(String::as_str).filter(|name| !matches!(*name, "lo" | "p0")).collect();
        self.node.rig.shows(&shown);
    }

    /// The interface in a sandbox.
    fn inside(&self, sandbox: &str) -> Option<Link> {
        let place = SANDBOXES.iter().position(|other| *other == sandbox).unwrap();
        link(&mut netdev::open(&self.sandboxes[place]).unwrap(), "net1")
    }

    /// What a sandbox is to have that was wired: its claim, its interface, what its container is told.
    fn is_wired(&self, sandbox: &str) -> Result<(), String> {
        let claim = self.node.rig.claim().ok_or("it has no claim")?;
        if claim.holder.container_id != sandbox {
            return Err(format!("{} has the claim", claim.holder.container_id));
        }
        let link = self.inside(sandbox).ok_or("it has no interface")?;
        if !link.up || link.mtu != 1400 || self.node.attachment().is_none() {
            return Err(format!("it is half wired: {link:?}, {:?}", self.node.attachment()));
        }
        Ok(())
    }

    /// The host as it was before anybody had the device.
    fn is_restored(&self) -> Result<(), String> {
        if let Some(claim) = self.node.rig.claim() {
            return Err(format!("a claim is left: {claim:?}"));
        }
        if let Some(attachment) = self.node.attachment() {
            return Err(format!("an attachment is left: {attachment:?}"));
        }
        let info = self.node.rig.host.path("/var/run/k8s.cni.cncf.io/devinfo/cni/a.json");
        if info.exists() {
            return Err("device information is left".to_owned());
        }
        let new = self.node.rig.host.path(format!("{}.new", doorbell_common::claim::path(&id())));
        let _ = fs::remove_file(new);
        let now = link(&mut self.node.rig.links(), "d0").ok_or("the interface is not on the host")?;
        let same = |link: &Link| (link.name == name("d0"), link.mac, link.mtu, link.up);
        if same(&now) == same(&self.before) { Ok(()) } else { Err(format!("{now:?} was {:?}", self.before)) }
    }
}
