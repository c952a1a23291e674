//! The node is switched off and on for real: what is left is the disk. The pod of before gets its own device.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use doorbell_common::claim;
use doorbell_common::host::Host;
use doorbell_common::subdevice::DeviceId;
use e2e_kubelet::PodUid;

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::{Node, command, make_vfs};
use crate::rig::plugin::{FAST, Plugin};
use crate::rig::{cni, outside, pods};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  select: {pfNames: ['0000:02:00.0#0']}
  prepare: {numVfs: 2}
- name: rest
  access: vfio
  select: {pfNames: ['0000:01:00.0#0']}
  prepare: {numVfs: 2}
";
const OUTSIDE: &str = "0000:02:00.2";
const ADDRESS: &str = "10.9.0.11";
/// What the API server would know after the power cycle.
const KEPT: &str = "/var/lib/scenario-pod";

pub(crate) async fn power_cycle(story: Story) -> Result<()> {
    if std::env::var("DOORBELL_BOOT").as_deref() == Ok("1") {
        before(&story).await
    } else {
        after(&story).await
    }
}

async fn before(story: &Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    let _plugin = Plugin::start(CONFIG).await?;
    kubelet.wait_allocatable(FAST, 1, WITHIN).await?;
    outside::set_up(OUTSIDE).await?;
    let pod = kubelet.run_pod(pods::answering("a", FAST, ADDRESS), WITHIN).await?;
    pods::up(kubelet, &pod).await?;
    outside::ping(ADDRESS).await?;
    let device = pods::device(kubelet, &pod, FAST)?;
    let nodes = pods::vfio_nodes(&device)?;
    std::fs::write(KEPT, format!("{pod}\n{device}\n{}\n", nodes.own()))?;
    story.tell(format!("pod a drives {device} by {nodes} and answers; now the power goes"));
    command("doorbell-reset", &[]).await?;
    bail!("the machine is still up")
}

async fn after(story: &Story) -> Result<()> {
    let kept = std::fs::read_to_string(KEPT).context("nothing was kept from before the power cycle")?;
    let [uid, device, former] = kept.lines().collect::<Vec<_>>()[..] else { bail!("kept: {kept}") };
    let device: DeviceId = device.parse()?;
    ensure!(!Path::new("/run/doorbell").exists(), "/run outlived the power cycle");
    let claim = claim::read(&Host::real(), &device)?.context("the claim did not outlive the power cycle")?;
    ensure!(!claim::may_be_in_use(&Host::real(), &device), "a claim of the boot before counts");
    // Another order than the plugin's, which is the bus's: the device's group gets another number.
    make_vfs("0000:02:00.0", 2)?;

    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    let pod = kubelet.adopt(pods::answering("a", FAST, ADDRESS).uid(PodUid::from(uid)))?;
    let refused = cni::add_device("early", "a", device.as_str()).await?.failed()?;
    let expected = format!(
        "device {device} of {FAST} is not described: the plugin has not published it since boot, or its pool is gone"
    );
    ensure!(refused["code"] == 11 && refused["msg"] == expected, "{refused}");
    story.tell(format!("before the plugin is back, ADD says: {expected}"));

    let _plugin = Plugin::start(CONFIG).await?;
    kubelet.wait_allocatable(FAST, 1, WITHIN).await?;
    outside::set_up(OUTSIDE).await?;
    kubelet.readmit(&pod).await?;
    let sandbox = kubelet.start_pod(&pod).await?;
    let up = pods::up(kubelet, &pod).await?;
    ensure!(up.device == device.as_str(), "the pod drives {}", up.device);
    outside::ping(ADDRESS).await?;
    let now = pods::vfio_nodes(&device)?;
    ensure!(now.own() != former, "the device has the number of before: nothing is shown");
    let holder = claim::read(&Host::real(), &device)?.context("nobody claims the device")?.holder;
    ensure!(holder.container_id == sandbox.id && holder != claim.holder, "{holder:?} holds it");
    story.tell(format!(
        "after the power cycle {device} is {}, it was {former}: pod a drives it and answers",
        now.own()
    ));
    Ok(())
}
