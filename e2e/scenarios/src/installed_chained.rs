//! The plugin as it is installed where no Multus is: the chart puts the CNI binary on the node, and keeps it in the conflist of
//! the main CNI plugin, which knows nothing of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e_kubelet::Kubelet;

use crate::Story;
use crate::main_job::{CONFIG, pods_ring};
use crate::rig::node::{CNI_BIN, CONFLIST, Node, Setup};
use crate::rig::plugin::{self, FAST};
use crate::rig::{WITHIN, daemonset, until};

/// As the main CNI plugin writes it.
const THEIRS: &str = r#"{
  "cniVersion": "1.0.0",
  "name": "pod-network",
  "plugins": [
    { "type": "ptp", "ipam": { "type": "host-local", "subnet": "10.88.0.0/16", "routes": [{ "dst": "0.0.0.0/0" }] } }
  ]
}
"#;

pub(crate) async fn installed_chained(story: Story) -> Result<()> {
    let node = Node::with(Setup { conflist: THEIRS, cni: false, ..Setup::default() }).await?;
    let kubelet = &node.kubelet;
    daemonset::prepare(&node).await?;
    // For `scan` by hand.
    plugin::write_config(CONFIG)?;
    let running = daemonset::run(kubelet, daemonset::pod("chained")?).await?;
    until("our plugin is in the conflist", is_chained).await?;
    ensure!(Path::new(CNI_BIN).join("doorbell").exists(), "there is no CNI binary");
    story.tell("the CNI binary is on the node, and in the conflist of the main plugin");
    pods_ring(&story, kubelet).await?;

    fs::write(CONFLIST, THEIRS.replace("pod-network", "pod-network-2"))?;
    until("our plugin is in the conflist again", is_chained).await?;
    helm_test(&story, kubelet).await?;

    daemonset::end(kubelet, &running).await?;
    ensure!(is_chained(), "an end that is no uninstall took the plugin out of the conflist");
    story.tell("the plugin ends, with nobody who says that it is uninstalled: the conflist stays, for the pods that run");
    Ok(())
}

/// The pod of `helm test`: it is given a device and opens it.
async fn helm_test(story: &Story, kubelet: &Kubelet) -> Result<()> {
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;
    let pod = kubelet.run_pod(daemonset::test_pod("chained")?, WITHIN).await?;
    let code = kubelet.wait_exit(&pod, "given", WITHIN).await?;
    let log = kubelet.logs(&pod, "given")?;
    ensure!(code == 0, "helm test ended with {code}: {log:?}");
    let first = log.first().context("helm test said nothing")?;
    ensure!(first.contains("doorbell.dev/fast 0000:01:00."), "{first}");
    story.tell(format!("after the main plugin has written its conflist anew, helm test says: {first}"));
    kubelet.remove_pod(&pod).await?;
    Ok(())
}

fn is_chained() -> bool {
    fs::read_to_string(CONFLIST).is_ok_and(|text| text.contains("\"doorbell\""))
}
