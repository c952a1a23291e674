//! A VF that somebody holds open: ADD waits for two seconds, says who, and leaves nothing behind.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use doorbell_common::claim;
use doorbell_common::host::Host;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::{BIN, Node};
use crate::rig::plugin::{FAST, Plugin};
use crate::rig::{cni, pods};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  select: {pfNames: ['0000:01:00.0#0']}
  prepare: {numVfs: 2}
";
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) async fn busy(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    let _plugin = Plugin::start(CONFIG).await?;
    kubelet.wait_allocatable(FAST, 1, WITHIN).await?;
    let pod = pods::admitted(kubelet, pods::probing("a", FAST, "10.9.0.11")).await?;
    let device = pods::device(kubelet, &pod, FAST)?;

    let mut holder = tokio::process::Command::new(format!("{BIN}/doorbell-probe"))
        .args(["--hold", "--seconds", "0", "--descriptors", "/run/doorbell"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = holder.stdout.take().context("the holder has no stdout")?;
    let line = tokio::time::timeout(WITHIN, BufReader::new(stdout).lines().next_line()).await??;
    ensure!(line.as_deref().is_some_and(|line| line.contains("held")), "the holder said {line:?}");
    let pid = holder.id().context("the holder has ended")?;

    let asked = Instant::now();
    let failed = cni::add("c1", "a").await?.failed()?;
    ensure!(asked.elapsed() >= PATIENCE, "ADD gave up after {:?}", asked.elapsed());
    ensure!(failed["code"] == 11, "{failed}");
    let node = pods::vfio_nodes(&device)?.own().to_owned();
    ensure!(failed["msg"] == format!("{node} is in use by process {pid} (doorbell-probe)"), "{failed}");
    ensure!(claim::read(&Host::real(), &device)?.is_none(), "the failed ADD left its claim");
    ensure!(pods::attachment(&device)?.is_none(), "the failed ADD left attachment.json");
    story.tell(format!(
        "ADD of a held VF failed after {:.1} s: {}",
        asked.elapsed().as_secs_f64(),
        failed["msg"]
    ));

    holder.kill().await?;
    let added = cni::add("c1", "a").await?.succeeded()?;
    ensure!(pods::attachment(&device)?.is_some(), "ADD left no attachment.json");
    story.tell(format!("with the holder killed, the same ADD succeeds: {added}"));
    cni::del("c1").await?.succeeded()?;
    ensure!(claim::read(&Host::real(), &device)?.is_none(), "DEL left the claim");
    Ok(())
}
