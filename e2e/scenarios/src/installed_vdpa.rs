//! The plugin as it is installed where a pool makes vDPA devices: as the chart has it then, on the host's network and with
//! NET_ADMIN. Without either no device is made, which says so.

use anyhow::{Context, Result, ensure};
use doorbell_common::claim;
use doorbell_common::host::Host;
use doorbell_common::kernel::vdpa;
use e2e_kubelet::{Kubelet, PodSpec};

use crate::Story;
use crate::rig::daemonset::{self, PLUGIN};
use crate::rig::node::{Node, vdpa_modules};
use crate::rig::plugin::{FAST, OTHER};
use crate::rig::{WITHIN, pods, stranger};

pub(crate) const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vhost-vdpa
  select: {pfNames: ['0000:01:00.0']}
  prepare: {numVfs: 2}
";
const VF: &str = "0000:01:00.1";
const NET_ADMIN: &str = "NET_ADMIN";

pub(crate) async fn installed_vdpa(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    vdpa_modules().await?;
    daemonset::prepare(&node).await?;

    let running = daemonset::run(kubelet, daemonset::pod("rings")?).await?;
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;
    let consumer = kubelet.run_pod(pods::probing("a", FAST, "10.9.0.11"), WITHIN).await?;
    let device = pods::device(kubelet, &consumer, FAST)?;
    kubelet.stop_pod(&consumer).await?;
    kubelet.remove_pod(&consumer).await?;
    let claims = claim::ids(&Host::real())?;
    ensure!(claims.is_empty(), "claims of {claims:?} are left");
    let node = pods::described(&VF.parse()?)?.nodes.own().context("no node")?.to_owned();
    let stray = stranger::hold(&node)?;
    kubelet.wait_allocatable(FAST, 1, WITHIN).await?;
    stranger::end(stray).await?;
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;
    daemonset::end(kubelet, &running).await?;
    story.tell(format!(
        "with NET_ADMIN, on the host's network, the plugin makes VFs and vDPA devices, proves them, gives a pod {device}, \
         and sees who else has {node} open"
    ));
    taken_back(&story, kubelet).await?;

    let mut without = daemonset::pod("rings")?;
    daemonset::plugin_of(&mut without)?.capabilities.retain(|kept| kept != NET_ADMIN);
    not_made(&story, kubelet, without, "NET_ADMIN").await?;
    taken_back(&story, kubelet).await?;

    let mut without = daemonset::pod("rings")?;
    without.host_network = false;
    not_made(&story, kubelet, without, "the host's network").await
}

async fn not_made(story: &Story, kubelet: &Kubelet, pod: PodSpec, lacking: &str) -> Result<()> {
    let refused = daemonset::run(kubelet, pod).await?;
    let line = daemonset::logged(kubelet, &refused, PLUGIN, &["not prepared", VF]).await?;
    ensure!(vdpa::list(&Host::real())?.is_empty(), "a vDPA device was made without {lacking}");
    story.tell(format!("without {lacking} no vDPA device is made: {line}"));
    daemonset::end(kubelet, &refused).await
}

/// What was made is taken back: by the time that the plugin is registered, it is.
async fn taken_back(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let before = kubelet.registrations(OTHER);
    let running = daemonset::run(kubelet, daemonset::pod("no-rings")?).await?;
    kubelet.wait_registrations(OTHER, before + 1, WITHIN).await?;
    daemonset::end(kubelet, &running).await?;
    let host = Host::real();
    let left = vdpa::list(&host)?;
    ensure!(left.is_empty(), "vDPA devices are left: {left:?}");
    let records = host.list("/var/lib/doorbell/made")?;
    ensure!(records.is_empty(), "records of {records:?} are left");
    story.tell("what was made is taken back");
    Ok(())
}
