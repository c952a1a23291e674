//! The two ways through VFIO side by side, and a container that is not root: each drives the device that it was given.

use anyhow::{Result, ensure};
use doorbell_common::kernel::vfio::Nodes;
use e2e_kubelet::{Kubelet, PodSpec};

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::{Node, command};
use crate::rig::plugin::{self, Plugin};
use crate::rig::{outside, pods};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: group
  access: vfio
  select: {pfNames: ['0000:01:00.0#0']}
  prepare: {numVfs: 4}
- name: own-node
  access: vfio
  iommufd: true
  select: {pfNames: ['0000:01:00.0#1']}
  prepare: {}
- name: for-all
  access: vfio
  iommufd: auto
  nodeMode: '0666'
  select: {pfNames: ['0000:01:00.0#2']}
  prepare: {driver: virtio_vfio_pci}
";
const OUTSIDE: &str = "0000:01:00.4";
const NOBODY: u32 = 65534;

pub(crate) async fn ways(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    // A variant driver: VFIO, by another name.
    command("modprobe", &["virtio_vfio_pci"]).await?;
    let _plugin = Plugin::start(CONFIG).await?;
    for pool in ["group", "own-node", "for-all"] {
        kubelet.wait_allocatable(&format!("doorbell.dev/{pool}"), 1, WITHIN).await?;
    }
    outside::set_up(OUTSIDE).await?;

    let by_group = drive(&story, kubelet, "group", pods::probing, "10.9.0.11").await?;
    ensure!(matches!(by_group, Nodes::Group { .. }), "{by_group}");
    let by_own = drive(&story, kubelet, "own-node", pods::probing, "10.9.0.12").await?;
    ensure!(matches!(by_own, Nodes::Cdev { .. }), "{by_own}");

    // The runtime makes the nodes the container's user's; in the third pool everybody's.
    let nobody = |name: &str, resource: &str, address: &str| {
        let mut pod = pods::probing(name, resource, address);
        pod.containers = pod.containers.into_iter().map(|container| container.run_as_user(NOBODY)).collect();
        pod
    };
    drive(&story, kubelet, "group", nobody, "10.9.0.13").await?;
    let by_own = drive(&story, kubelet, "for-all", nobody, "10.9.0.14").await?;
    ensure!(matches!(by_own, Nodes::Cdev { .. }), "auto does not take the device's own node: {by_own}");
    let rows = plugin::scan().await?;
    let variant = plugin::row(&rows, "0000:01:00.3")?;
    ensure!(variant["driver"] == "virtio_vfio_pci" && variant["advertised"] == true, "{variant}");
    story.tell(format!("containers that run as user {NOBODY} drive their devices all the same"));
    Ok(())
}

/// Runs a pod on a device of the pool until every ping, its own and from outside, is answered.
async fn drive(
    story: &Story,
    kubelet: &Kubelet,
    pool: &str,
    spec: impl Fn(&str, &str, &str) -> PodSpec,
    address: &str,
) -> Result<Nodes> {
    let resource = format!("doorbell.dev/{pool}");
    let pod = kubelet.run_pod(spec(pool, &resource, address), WITHIN).await?;
    let device = pods::device(kubelet, &pod, &resource)?;
    let nodes = pods::vfio_nodes(&device)?;
    let trial = pods::trial(&device)?;
    let up = pods::up(kubelet, &pod).await?;
    outside::ping(address).await?;
    pods::done(kubelet, &pod).await?;
    story.tell(format!(
        "pool {pool}: {device} by {nodes}; trial mapping after {:.1} ms, the container had it open after {:.1} ms; \
         every ping was answered",
        trial.micros as f64 / 1000.0,
        up.open_micros as f64 / 1000.0
    ));
    kubelet.remove_pod(&pod).await?;
    Ok(nodes)
}
