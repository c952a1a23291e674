//! A sandbox's DAN file by calls that containerd does not make: CHECK, GC, hostile ids, a sandbox with an interface.

use std::fs;

use anyhow::{Result, ensure};
use doorbell_common::formats::kata_dan::FOLDER;
use doorbell_common::host::Host;
use e2e_kubelet::{ContainerSpec, Kubelet, PodSpec};
use serde_json::json;

use crate::Story;
use crate::rig::node::command;
use crate::rig::{cni, pods};

const POD: &str = "by-hand";
const NETNS: &str = "/run/netns/by-hand";
const FILE: &str = "/run/kata-containers/dans/c1.json";
/// What the CNI specification and ours have as codes.
const BAD_ENVIRONMENT: u64 = 4;
const NOT_AS_WIRED: u64 = 109;

/// A pod of that resource has a device, and no runtime.
pub(crate) async fn by_hand(story: &Story, kubelet: &Kubelet, resource: &str) -> Result<()> {
    let container = ContainerSpec::new("main").resource(resource, 1);
    let pod = pods::admitted(kubelet, PodSpec::new(POD).container(container)).await?;
    command("ip", &["netns", "add", "by-hand"]).await?;

    let long = "a".repeat(300);
    for id in ["../c1", "c..1", &long, "c/1", "\u{e9}"] {
        let refused = cni::add_into(NETNS, id, POD, json!({})).await?.failed()?;
        ensure!(refused["code"] == BAD_ENVIRONMENT, "{id}: {refused}");
    }
    ensure!(!Host::real().exists(FOLDER), "a hostile id left a folder");
    story.tell("ids of sandboxes that are no file names are refused, and nothing is written");

    let added = cni::add_into(NETNS, "c1", POD, json!({})).await?.succeeded()?;
    let written = fs::read_to_string(FILE)?;
    cni::check(NETNS, "c1", POD, &added).await?.succeeded()?;
    fs::write(FILE, written.replace("net1", "net2"))?;
    let differs = cni::check(NETNS, "c1", POD, &added).await?.failed()?;
    ensure!(differs["code"] == NOT_AS_WIRED, "{differs}");
    fs::write(FILE, &written)?;
    cni::gc(&["c1"]).await?.succeeded()?;
    ensure!(fs::read_to_string(FILE)? == written, "GC took from a sandbox that stands");
    cni::gc(&[]).await?.succeeded()?;
    ensure!(Host::real().list(FOLDER)?.is_empty(), "GC left the file of a sandbox that is gone");
    story.tell("CHECK sees a DAN file that was changed, GC takes that of a sandbox that is gone");

    command("ip", &["-n", "by-hand", "link", "add", "eth0", "type", "dummy"]).await?;
    command("ip", &["-n", "by-hand", "link", "set", "eth0", "up"]).await?;
    cni::add_into(NETNS, "c1", POD, json!({})).await?.succeeded()?;
    ensure!(!Host::real().exists(FILE), "a DAN file hides the sandbox's eth0");
    let device = pods::device_of(kubelet, &pod, "main", resource)?;
    let attachment = doorbell_common::formats::descriptor::read_attachment(&Host::real(), &device)?;
    let reason = attachment.and_then(|attachment| attachment.plug).map(|plug| plug.reason);
    ensure!(reason.as_deref() == Some("a DAN file would hide interface eth0 of the sandbox"), "{reason:?}");
    cni::del("c1").await?.succeeded()?;
    story.tell("beside another interface the VF is plugged as a device of a container");

    command("ip", &["netns", "delete", "by-hand"]).await?;
    kubelet.remove_pod(&pod).await?;
    Ok(())
}
