//! Our plugin as the pods' only network, with the field's own host-local for addresses.

use anyhow::{Context, Result, ensure};
use e2e_kubelet::{ContainerSpec, PodSpec};

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::{Node, Setup};
use crate::rig::plugin::{FAST, Plugin};
use crate::rig::{outside, pods};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  select: {pfNames: ['0000:01:00.0#0']}
  prepare: {numVfs: 2}
";
const CONFLIST: &str = r#"{
  "cniVersion": "1.0.0",
  "name": "doorbells-only",
  "plugins": [{ "type": "doorbell", "ipam": { "type": "host-local", "subnet": "10.9.0.0/24", "rangeStart": "10.9.0.50" } }]
}
"#;

pub(crate) async fn sole_network(story: Story) -> Result<()> {
    let node = Node::with(Setup { conflist: CONFLIST, ..Setup::default() }).await?;
    let kubelet = &node.kubelet;
    let _plugin = Plugin::start(CONFIG).await?;
    kubelet.wait_allocatable(FAST, 1, WITHIN).await?;
    outside::set_up("0000:01:00.2").await?;

    // Without --ip the probe answers for the address in attachment.json.
    let arguments = [pods::PROBE, "--linger", "--seconds", "0"];
    let pod = PodSpec::new("a").container(pods::probe(pods::CONTAINER, FAST, &arguments));
    let pod = kubelet.run_pod(pod, WITHIN).await?;
    let address = kubelet.pod_ip(&pod).await?.context("the pod has no address")?;
    ensure!(address == "10.9.0.50", "the pod has {address}");
    let up = pods::up(kubelet, &pod).await?;
    ensure!(up.ip.to_string() == address, "the container answers for {}", up.ip);
    outside::ping(&address).await?;
    story.tell(format!("the pod's address is {address}, by host-local, and its VF answers for it"));
    kubelet.remove_pod(&pod).await?;

    let without = PodSpec::new("without").container(ContainerSpec::new("main"));
    let uid = without.uid.clone();
    let refused = kubelet.run_pod(without, WITHIN).await.err().context("a pod without a device started")?;
    let refused = refused.runtime_message().context("it was not the runtime that refused")?.to_owned();
    ensure!(
        refused.contains("the configuration names no device and pod default/without holds 0 of ours"),
        "{refused}"
    );
    story.tell(format!("a pod without a device is refused there: {refused}"));
    kubelet.remove_pod(&uid).await?;
    Ok(())
}
