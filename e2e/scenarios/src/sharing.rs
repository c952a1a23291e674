//! Containers that come again and containers that share: restarts, init containers, several devices, Allocate twice.

use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use doorbell_common::claim;
use doorbell_common::formats::descriptor;
use doorbell_common::host::Host;
use e2e_kubelet::{Kubelet, PodSpec};

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::Node;
use crate::rig::plugin::{self, FAST, Plugin};
use crate::rig::{outside, pods};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  requireCni: true
  select: {pfNames: ['0000:01:00.0#0-1']}
  prepare: {numVfs: 4}
";
const OUTSIDE: &str = "0000:01:00.4";

pub(crate) async fn sharing(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    let _plugin = Plugin::start(CONFIG).await?;
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;
    outside::set_up(OUTSIDE).await?;

    restart(&story, kubelet).await?;
    init_container(&story, kubelet).await?;
    two_containers(&story, kubelet).await?;
    two_devices(&story, kubelet).await?;
    without_cni(&story, kubelet).await
}

/// A container that dies is started again with the same answer; an Allocate in between changes nothing.
async fn restart(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let pod = kubelet.run_pod(pods::answering("again", FAST, "10.9.0.11"), WITHIN).await?;
    let device = pods::device(kubelet, &pod, FAST)?;
    pods::up(kubelet, &pod).await?;
    outside::ping("10.9.0.11").await?;

    let folder = Host::real().path(descriptor::folder(&device));
    let seen = || -> Result<Vec<(u64, Vec<u8>)>> {
        [descriptor::DEVICE_FILE, descriptor::ATTACHMENT_FILE]
            .map(|file| folder.join(file))
            .iter()
            .map(|file| Ok((std::fs::metadata(file)?.ino(), std::fs::read(file)?)))
            .collect()
    };
    let before = (std::fs::metadata(&folder)?.ino(), seen()?);
    let first = plugin::allocate("fast", device.as_str()).await??;
    let second = plugin::allocate("fast", device.as_str()).await??;
    ensure!(first == second, "two answers for one device: {first:?} and {second:?}");
    ensure!((std::fs::metadata(&folder)?.ino(), seen()?) == before, "Allocate changed the descriptor");
    story.tell("Allocate, asked twice more for a device in use, answers the same and leaves what ADD wrote");

    kubelet.restart_container(&pod, pods::CONTAINER).await?;
    pods::up(kubelet, &pod).await?;
    outside::ping("10.9.0.11").await?;
    ensure!(pods::device(kubelet, &pod, FAST)? == device, "the container came back with another device");
    story.tell(format!("the container was restarted and drives {device} again"));
    kubelet.remove_pod(&pod).await?;
    Ok(())
}

async fn init_container(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let map = [pods::PROBE, "--map-bytes", "4096"];
    let pod = pods::probing("shared", FAST, "10.9.0.12").init_container(pods::probe("first", FAST, &map));
    let pod = kubelet.run_pod(pod, WITHIN).await?;
    let shared = pods::device(kubelet, &pod, FAST)?;
    ensure!(pods::device_of(kubelet, &pod, "first", FAST)? == shared, "they do not share a device");
    pods::up(kubelet, &pod).await?;
    outside::ping("10.9.0.12").await?;
    pods::done(kubelet, &pod).await?;
    story.tell(format!("an init container used {shared} before the app container rang its doorbell"));
    kubelet.remove_pod(&pod).await?;
    Ok(())
}

/// Each container has its own device, and only that.
async fn two_containers(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let answering = |name, address| {
        let arguments = [pods::PROBE, "--ip", address, "--linger", "--seconds", "0"];
        pods::probe(name, FAST, &arguments)
    };
    let both = [("left", "10.9.0.13"), ("right", "10.9.0.14")];
    let pod = both
        .iter()
        .fold(PodSpec::new("pair"), |pod, (name, address)| pod.container(answering(name, address)));
    let pod = kubelet.run_pod(pod, WITHIN).await?;
    let mut devices = Vec::new();
    for (container, address) in both {
        let device = pods::device_of(kubelet, &pod, container, FAST)?;
        ensure!(
            pods::up_in(kubelet, &pod, container).await?.device == device.as_str(),
            "{container} drives another"
        );
        outside::ping(address).await?;
        ensure!(claim::read(&Host::real(), &device)?.is_some(), "{device} is not claimed");
        devices.push(device);
    }
    ensure!(devices[0] != devices[1], "both containers have {}", devices[0]);
    story.tell(format!("two containers of one pod drive {} and {}", devices[0], devices[1]));
    kubelet.remove_pod(&pod).await?;
    ensure!(claim::ids(&Host::real())?.is_empty(), "DEL left claims");
    Ok(())
}

/// One container with two devices: both wired, both described, both in the variable.
async fn two_devices(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let mut container = pods::probe("both", FAST, &[]);
    (container.command, container.resources) = (Vec::new(), [(FAST.to_owned(), 2)].into());
    let pod = kubelet.run_pod(PodSpec::new("both").container(container), WITHIN).await?;
    let devices = kubelet.devices(&pod, "both").remove(FAST).unwrap_or_default();
    ensure!(devices.len() == 2, "the container holds {devices:?}");
    let script = "echo $PCIDEVICE_DOORBELL_DEV_FAST; ls -d $DOORBELL_DESCRIPTORS/fast/*; ls /dev/vfio";
    let seen = kubelet.exec(&pod, "both", ["sh", "-c", script], WITHIN).await?.stdout;
    let lines: Vec<&str> = seen.lines().collect();
    let variable = lines.first().context("no output")?;
    ensure!(devices.iter().all(|id| variable.split(',').any(|listed| listed == id)), "{seen}");
    for id in &devices {
        ensure!(
            lines.contains(&format!("/run/doorbell/fast/{id}").as_str()),
            "{id} is not described: {seen}"
        );
        let device = id.parse()?;
        ensure!(pods::attachment(&device)?.is_some(), "{id} is not wired");
        let group = pods::described(&device)?.iommu_group.context("no group")?.to_string();
        ensure!(lines.contains(&group.as_str()), "{id} has no node: {seen}");
    }
    story.tell(format!("one container has {variable}: nodes, descriptors and wiring of both"));
    kubelet.remove_pod(&pod).await?;
    Ok(())
}

/// A pod on the host's network passes no CNI: its pool asks for that, so it does not start.
async fn without_cni(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let spec = pods::answering("unwired", FAST, "10.9.0.15").host_network();
    let uid = spec.uid.clone();
    let refused = kubelet.run_pod(spec, WITHIN).await.err().context("a pod started unwired")?;
    let refused = doorbell_common::error::chain(&refused);
    let device = pods::device(kubelet, &uid, FAST)?;
    let expected = format!(
        "{device} is not wired, and pool fast has requireCni: no sandbox of this boot has claimed it (is `doorbell` in \
         the pod's CNI chain? a device that only an init container asks for is not wired)"
    );
    ensure!(refused.contains(&expected), "{refused}");
    story.tell(format!("requireCni: {expected}"));
    kubelet.remove_pod(&uid).await?;
    Ok(())
}
