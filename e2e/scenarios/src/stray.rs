//! A process that no pod is has a device open: the device is unhealthy as long as it has, and nothing is taken away
//! under it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use doorbell_common::host::Host;
use doorbell_common::kernel::{sriov, vdpa};
use doorbell_common::subdevice::DeviceId;

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::{Node, vdpa_modules};
use crate::rig::plugin::{self, FAST, OTHER, Plugin, WITHOUT};
use crate::rig::{pods, stranger};

const PF: &str = "0000:01:00.0";
const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vhost-vdpa
  select: {pfNames: ['0000:01:00.0']}
  prepare: {numVfs: 2}
";
const HELD: &str = "0000:01:00.1";
/// A write that waits for the stray process would take for ever.
const AT_ONCE: Duration = Duration::from_secs(20);

pub(crate) async fn stray(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    vdpa_modules().await?;
    let running = Plugin::start(CONFIG).await?;
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;
    let id: DeviceId = HELD.parse()?;
    let own = pods::described(&id)?.nodes.own().context("no node")?.to_owned();

    let stray = stranger::hold(&own)?;
    let pid = stray.id().context("the stray process has ended")?;
    kubelet.wait_allocatable(FAST, 1, WITHIN).await?;
    let refused = plugin::allocate("fast", HELD).await?.err().context("a held device was allocated")?;
    let reason = format!("{HELD} is unhealthy: {own} is in use by process {pid} (sleep), and no pod has it");
    ensure!(refused.message() == reason, "{refused:?}");
    story.tell(format!("with {own} open in a stray process one device is left; Allocate says: {reason}"));
    stranger::end(stray).await?;
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;
    story.tell("once it has ended, both are there again");

    let stray = stranger::hold(&own)?;
    kubelet.wait_allocatable(FAST, 1, WITHIN).await?;
    running.terminate().await?;
    let asked = Instant::now();
    let running = Plugin::start(WITHOUT).await?;
    kubelet.wait_registrations(OTHER, 1, AT_ONCE).await?;
    let host = Host::real();
    ensure!(vfs(&host)? == 2, "numVfs was touched under a stray process");
    ensure!(vdpa::find(&host, &HELD.parse()?)?.is_some(), "the held vDPA device was removed");
    ensure!(vdpa::list(&host)?.len() == 1, "the free vDPA device stays: {:?}", vdpa::list(&host)?);
    story.tell(format!(
        "its pool gone, the plugin was up after {:.1} s: what was free is taken back, the held device and numVfs stay",
        asked.elapsed().as_secs_f64()
    ));
    running.terminate().await?;

    stranger::end(stray).await?;
    let running = Plugin::start(WITHOUT).await?;
    kubelet.wait_registrations(OTHER, 2, AT_ONCE).await?;
    ensure!(vfs(&host)? == 0 && vdpa::list(&host)?.is_empty(), "not all is taken back");
    ensure!(host.list("/var/lib/doorbell/made")?.is_empty(), "records are left");
    ensure!(vdpa::autoprobe(&host)?, "the vDPA bus leaves new devices alone");
    story.tell("once the process has ended, the next start takes back the rest: no VF, no record is left");
    running.terminate().await?;
    Ok(())
}

fn vfs(host: &Host) -> Result<usize> {
    let pfs = sriov::pfs(host)?;
    let pf = pfs.iter().find(|pf| pf.address.to_string() == PF).context("the PF is gone")?;
    Ok(pf.vfs.len())
}
