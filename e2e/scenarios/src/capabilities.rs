//! Which capabilities the plugin needs: as uid 0 with three and no other it serves a pool that it makes vDPA devices for,
//! from making its VFs to taking them back; without each of the three something fails, which says so.

use anyhow::{Context, Result, ensure};
use doorbell_common::claim;
use doorbell_common::host::Host;
use doorbell_common::kernel::vdpa;
use e2e_kubelet::Kubelet;

use crate::Story;
use crate::rig::node::{Node, vdpa_modules};
use crate::rig::plugin::{self, FAST, OTHER, Plugin, WITHOUT};
use crate::rig::{WITHIN, pods, stranger};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vhost-vdpa
  select: {pfNames: ['0000:01:00.0']}
  prepare: {numVfs: 2}
";
const VF: &str = "0000:01:00.1";
/// Makes and removes vDPA devices by netlink.
const NET_ADMIN: &str = "+net_admin";
/// Reads configuration space beyond its first 64 bytes, where the capabilities are.
const SYS_ADMIN: &str = "+sys_admin";
/// Sees what other processes have open.
const SYS_PTRACE: &str = "+sys_ptrace";
const ALL: [&str; 3] = [NET_ADMIN, SYS_ADMIN, SYS_PTRACE];

pub(crate) async fn capabilities(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    vdpa_modules().await?;

    let running = start_with(&ALL, CONFIG).await?;
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;
    let pod = kubelet.run_pod(pods::probing("a", FAST, "10.9.0.11"), WITHIN).await?;
    let device = pods::device(kubelet, &pod, FAST)?;
    kubelet.stop_pod(&pod).await?;
    kubelet.remove_pod(&pod).await?;
    let claims = claim::ids(&Host::real())?;
    ensure!(claims.is_empty(), "claims of {claims:?} are left");
    let node = pods::described(&VF.parse()?)?.nodes.own().context("no node")?.to_owned();
    let stray = stranger::hold(&node)?;
    kubelet.wait_allocatable(FAST, 1, WITHIN).await?;
    stranger::end(stray).await?;
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;
    story.tell(format!(
        "with NET_ADMIN, SYS_ADMIN and SYS_PTRACE alone the plugin makes VFs and vDPA devices, proves them, gives a pod \
         {device}, and sees who else has one open"
    ));

    let stray = stranger::hold(&node)?;
    kubelet.wait_allocatable(FAST, 1, WITHIN).await?;
    running.terminate().await?;
    let blind = start_with(&[NET_ADMIN, SYS_ADMIN], CONFIG).await?;
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;
    let granted = plugin::allocate("fast", VF).await?;
    ensure!(granted.is_ok(), "a holder was seen without SYS_PTRACE: {granted:?}");
    let line = blind.logged(&["is CAP_SYS_PTRACE missing?"]).await?;
    story.tell(format!("without SYS_PTRACE {VF} is handed out though {node} is open: {line}"));
    blind.terminate().await?;
    stranger::end(stray).await?;

    take_back(kubelet).await?;
    let refused = start_with(&[SYS_ADMIN, SYS_PTRACE], CONFIG).await?;
    let line = refused.logged(&["not prepared", VF]).await?;
    ensure!(line.contains("not permitted"), "{line}");
    ensure!(vdpa::list(&Host::real())?.is_empty(), "a vDPA device was made without NET_ADMIN");
    story.tell(format!("without NET_ADMIN no vDPA device is made: {line}"));
    refused.terminate().await?;

    take_back(kubelet).await?;
    let refused = start_with(&[NET_ADMIN, SYS_PTRACE], CONFIG).await?;
    let line = refused.logged(&["64 bytes"]).await?;
    story.tell(format!("without SYS_ADMIN no doorbell is found: {line}"));
    refused.terminate().await?;
    Ok(())
}

/// The plugin as uid 0 with these capabilities and no way to others.
async fn start_with(capabilities: &[&str], config: &str) -> Result<Plugin> {
    let set = format!("-all,{}", capabilities.join(","));
    Plugin::start_under(&["setpriv", "--inh-caps=-all", "--no-new-privs", "--bounding-set", &set], config)
        .await
}

/// Has a plugin with all three take back what was made: by the time that it is registered, it has.
async fn take_back(kubelet: &Kubelet) -> Result<()> {
    let before = kubelet.registrations(OTHER);
    let running = start_with(&ALL, WITHOUT).await?;
    kubelet.wait_registrations(OTHER, before + 1, WITHIN).await?;
    running.terminate().await?;
    let host = Host::real();
    ensure!(vdpa::list(&host)?.is_empty(), "vDPA devices are left: {:?}", vdpa::list(&host)?);
    ensure!(host.list("/var/lib/doorbell/made")?.is_empty(), "records are left");
    Ok(())
}
