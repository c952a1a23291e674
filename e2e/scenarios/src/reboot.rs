//! A reboot as the kubelet and the kernel show it: nothing runs, /run is empty, the kubelet replays what it was answered
//! before, and groups and device numbers are other devices' now.

use anyhow::{Context, Result, ensure};
use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::kernel::pci;
use doorbell_common::kernel::vfio::Nodes;
use doorbell_common::subdevice::DeviceId;
use e2e_kubelet::{Kubelet, PodUid};

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::{self, Node, Setup, make_vfs};
use crate::rig::plugin::{self, Plugin};
use crate::rig::{outside, pods};

/// A pool by group and one by the device's own node, each with a device of either PF, so that the two of a pool can
/// change places.
const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: group
  access: vfio
  select: {pfNames: ['0000:01:00.0#0', '0000:02:00.0#0']}
  prepare: {numVfs: 2}
- name: own-node
  access: vfio
  iommufd: true
  select: {pfNames: ['0000:01:00.0#1', '0000:02:00.0#1']}
  prepare: {numVfs: 2}
";
const POOLS: [&str; 2] = ["group", "own-node"];
const PFS: [&str; 2] = ["0000:01:00.0", "0000:02:00.0"];
/// VFs of both PFs, the second PF's first: the order in which they are made and bound after the reboot.
const OTHER_ORDER: [&str; 4] = ["0000:02:00.2", "0000:02:00.1", "0000:01:00.2", "0000:01:00.1"];
/// Of a PF that no pool takes from and no reboot touches.
const OUTSIDE: &str = "0000:03:00.1";
const OUTSIDE_PF: &str = "0000:03:00.0";

/// A pod before the reboot.
struct Before {
    pod: PodUid,
    pool: &'static str,
    address: &'static str,
    device: DeviceId,
    nodes: Nodes,
}

/// By CDI names every pod gets its own device, whatever its number is now.
pub(crate) async fn reboot_by_cdi(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    let pods = start_and_reboot(&story, kubelet).await?;
    let _plugin = Plugin::start(CONFIG).await?;
    registered(kubelet).await?;

    for before in &pods {
        kubelet.readmit(&before.pod).await?;
        kubelet.start_pod(&before.pod).await?;
        let up = pods::up(kubelet, &before.pod).await?;
        ensure!(up.device == before.device.as_str(), "pod of {} drives {}", before.device, up.device);
        outside::ping(before.address).await?;
        let now = pods::vfio_nodes(&before.device)?;
        story.tell(format!(
            "{}: {} before, {} now; its pod was started by CDI name and answers",
            before.device,
            before.nodes.own(),
            now.own()
        ));
    }
    Ok(())
}

/// By DeviceSpecs the numbers are in the kubelet's checkpoint: a start with another device's is refused.
pub(crate) async fn reboot_by_device_spec(story: Story) -> Result<()> {
    let node = Node::with(Setup { cdi: false, ..Setup::default() }).await?;
    let kubelet = &node.kubelet;
    let pods = start_and_reboot(&story, kubelet).await?;
    let _plugin = Plugin::start(CONFIG).await?;
    registered(kubelet).await?;

    for Before { pod, pool, device, nodes, address } in &pods {
        kubelet.readmit(pod).await?;
        let now = pods::vfio_nodes(device)?;
        let expected = format!(
            "the kubelet replays {} for {device}, which is at {} now (a reboot or a rebind renumbered it): delete the \
             pod to have it allocated anew",
            nodes.own(),
            now.own()
        );
        let refused = kubelet.start_pod(pod).await.err().context("a pod started with another's device")?;
        ensure!(chain(&refused).contains(&expected), "ADD refused otherwise: {}", chain(&refused));
        let refused = plugin::pre_start(pool, device.as_str()).await?.err().context("PreStart passed")?;
        ensure!(refused.message() == expected, "PreStart refused otherwise: {refused:?}");
        story.tell(format!("refused by ADD and by PreStartContainer: {expected}"));

        // A new pod is answered anew.
        kubelet.remove_pod(pod).await?;
        let resource = format!("doorbell.dev/{pool}");
        let pod =
            kubelet.run_pod(pods::answering(&format!("{pool}-new"), &resource, address), WITHIN).await?;
        pods::up(kubelet, &pod).await?;
        outside::ping(address).await?;
        kubelet.remove_pod(&pod).await?;
    }
    story.tell("new pods are allocated anew and answer");
    Ok(())
}

/// Two pods a pool answer pings; then nothing runs, /run is empty, and the VFs come back in another order.
async fn start_and_reboot(story: &Story, kubelet: &Kubelet) -> Result<Vec<Before>> {
    let plugin = Plugin::start(CONFIG).await?;
    registered(kubelet).await?;
    make_vfs(OUTSIDE_PF, 1)?;
    outside::set_up(OUTSIDE).await?;

    let mut before = Vec::new();
    let addresses = ["10.9.0.11", "10.9.0.12", "10.9.0.13", "10.9.0.14"];
    for (address, pool) in addresses.into_iter().zip(POOLS.into_iter().chain(POOLS)) {
        let resource = format!("doorbell.dev/{pool}");
        let name = format!("{pool}-{}", before.len());
        let pod = kubelet.run_pod(pods::answering(&name, &resource, address), WITHIN).await?;
        pods::up(kubelet, &pod).await?;
        outside::ping(address).await?;
        let device = pods::device(kubelet, &pod, &resource)?;
        let nodes = pods::vfio_nodes(&device)?;
        before.push(Before { pod, pool, address, device, nodes });
    }
    story.tell("four pods answer, two by their group and two by their device's own node");

    drop(plugin);
    kubelet.reboot().await?;
    node::reboot().await?;
    for pf in PFS {
        make_vfs(pf, 0)?;
    }
    for pf in PFS.iter().rev() {
        make_vfs(pf, 2)?;
    }
    for vf in OTHER_ORDER {
        pci::bind(&Host::real(), vf.parse()?, "vfio-pci")?;
    }
    story.tell("rebooted: nothing runs, /run is empty, the VFs were made and bound in another order");
    Ok(before)
}

async fn registered(kubelet: &Kubelet) -> Result<()> {
    for pool in POOLS {
        kubelet.wait_allocatable(&format!("doorbell.dev/{pool}"), 2, WITHIN).await?;
    }
    Ok(())
}
