//! The kubelet restarts; then the plugin ends.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::Node;
use crate::rig::plugin::{FAST, Plugin};
use crate::rig::times::Times;

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  select: {pfNames: ['0000:01:00.0#0']}
  prepare: {numVfs: 2}
- name: spare
  access: vfio
  select: {pfNames: ['0000:01:00.0#1']}
  prepare: {}
";
/// What users are promised, with the kubelet back.
const REGISTERED_AGAIN_WITHIN: Duration = Duration::from_secs(1);
const RESTARTS: usize = 10;
const SPARE: &str = "doorbell.dev/spare";

pub(crate) async fn kubelet_restart(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    let plugin = Plugin::start(CONFIG).await?;
    for resource in [FAST, SPARE] {
        kubelet.wait_allocatable(resource, 1, WITHIN).await?;
    }
    story.tell("two pools are registered");

    let mut times = Times::new();
    for _ in 0..RESTARTS {
        let before = [FAST, SPARE].map(|resource| kubelet.registrations(resource));
        kubelet.restart().await?;
        let back = Instant::now();
        let [fast, spare] = before;
        // Both at once: the promise holds for every pool.
        let (fast, spare) = tokio::join!(
            kubelet.wait_registrations(FAST, fast + 1, REGISTERED_AGAIN_WITHIN),
            kubelet.wait_registrations(SPARE, spare + 1, REGISTERED_AGAIN_WITHIN),
        );
        fast?;
        spare?;
        times.since(back);
        for resource in [FAST, SPARE] {
            kubelet.wait_allocatable(resource, 1, WITHIN).await?;
        }
    }
    times.tell(&story, "kubelet restart → both pools registered")?;

    let ended = plugin.terminate().await?;
    ensure!(ended.success(), "the plugin ended with {ended}");
    for pool in ["fast", "spare"] {
        let socket = format!("/var/lib/kubelet/device-plugins/doorbell-{pool}.sock");
        ensure!(!Path::new(&socket).exists(), "{socket} is left");
    }
    story.tell("SIGTERM: sockets unlinked, exit code 0");
    Ok(())
}
