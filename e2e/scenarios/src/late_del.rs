//! A DEL of a pod's old sandbox that comes after its new sandbox is up on the same VF.

use anyhow::{Context, Result, ensure};
use doorbell_common::claim;
use doorbell_common::host::Host;

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::Node;
use crate::rig::plugin::{FAST, Plugin};
use crate::rig::{outside, pods};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  select: {pciAddresses: ['0000:01:00.1'], pfNames: ['0000:01:00.0']}
  prepare: {numVfs: 4}
";

pub(crate) async fn late_del(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    let _plugin = Plugin::start(CONFIG).await?;
    kubelet.wait_allocatable(FAST, 1, WITHIN).await?;
    outside::set_up("0000:01:00.4").await?;

    let pod = pods::admitted(kubelet, pods::answering("a", FAST, "10.9.0.11")).await?;
    let device = pods::device(kubelet, &pod, FAST)?;
    let holder = || -> Result<String> {
        let claim = claim::read(&Host::real(), &device)?.context("nobody claims the device")?;
        Ok(claim.holder.container_id)
    };
    let old = kubelet.run_sandbox(&pod, 0).await?;
    ensure!(holder()? == old.id, "the first sandbox does not hold the device");
    let new = kubelet.run_sandbox(&pod, 1).await?;
    ensure!(holder()? == new.id, "the second sandbox does not hold the device");
    kubelet.start_containers(&pod).await?;
    pods::up(kubelet, &pod).await?;
    outside::ping("10.9.0.11").await?;
    story.tell(format!(
        "sandbox {} took {device} over from {} and answers pings",
        short(&new.id),
        short(&old.id)
    ));

    kubelet.stop_sandbox(&old.id).await?;
    kubelet.remove_sandbox(&old.id).await?;
    ensure!(holder()? == new.id, "the late DEL took the claim");
    ensure!(pods::attachment(&device)?.is_some(), "the late DEL took attachment.json");
    outside::ping("10.9.0.11").await?;
    story.tell(format!("DEL of {} came late and changed nothing: pings go on", short(&old.id)));

    kubelet.stop_pod(&pod).await?;
    ensure!(claim::read(&Host::real(), &device)?.is_none(), "the pod's own DEL left the claim");
    ensure!(pods::attachment(&device)?.is_none(), "the pod's own DEL left attachment.json");
    story.tell("the pod's own DEL released it");
    Ok(())
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
