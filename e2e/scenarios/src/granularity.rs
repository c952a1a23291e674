//! A doorbell for the device, one for each queue, and a function that has none: by the verdict, by the trial mapping,
//! by a container that rings it.

use anyhow::{Context, Result, ensure};
use e2e_kubelet::Kubelet;

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::Node;
use crate::rig::plugin::{self, Plugin};
use crate::rig::{outside, pods};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: per-device
  access: vfio
  select: {pfNames: ['0000:01:00.0#0']}
  prepare: {numVfs: 2}
- name: per-queue
  access: vfio
  select: {pfNames: ['0000:02:00.0']}
  prepare: {numVfs: 2}
- name: intel
  access: vfio
  select: {pfNames: ['0000:03:00.0']}
  prepare: {numVfs: 1}
";

pub(crate) async fn granularity(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    let _plugin = Plugin::start(CONFIG).await?;
    kubelet.wait_allocatable("doorbell.dev/per-queue", 2, WITHIN).await?;
    kubelet.wait_allocatable("doorbell.dev/per-device", 1, WITHIN).await?;
    kubelet.wait_registered("doorbell.dev/intel", WITHIN).await?;
    outside::set_up("0000:01:00.2").await?;

    let rows = plugin::scan().await?;
    story.quote(plugin::scan_table().await?);
    for (address, granularity) in [("0000:01:00.1", "device"), ("0000:02:00.1", "queue")] {
        let row = plugin::row(&rows, address)?;
        ensure!(row["doorbell"] == "exclusive" && row["granularity"] == granularity, "{row}");
        ensure!(row["advertised"] == true, "{row}");
    }
    let intel = rows.iter().find(|row| row["pf"] == "0000:03:00.0").context("the igb PF has no VF")?;
    ensure!(intel["doorbell"] == "none" && intel["advertised"] == false, "{intel}");
    ensure!(intel["reasons"].to_string().contains("no virtio function"), "{intel}");
    ensure!(intel["driver"] != "vfio-pci", "a function without a doorbell was bound: {intel}");
    ensure!(kubelet.allocatable("doorbell.dev/intel") == 0, "a function without a doorbell is advertised");
    story.tell("the verdicts: per device with multiplier 4, per queue with a page a queue, none for igb");

    ring(&story, kubelet, "per-device", "10.9.0.11", (0x3000, 0x1000)).await?;
    ring(&story, kubelet, "per-queue", "10.9.0.12", (0x3000, 0x40_0000)).await
}

async fn ring(story: &Story, kubelet: &Kubelet, pool: &str, address: &str, pages: (u64, u64)) -> Result<()> {
    let resource = format!("doorbell.dev/{pool}");
    let pod = kubelet.run_pod(pods::probing(pool, &resource, address), WITHIN).await?;
    let device = pods::device(kubelet, &pod, &resource)?;
    let trial = pods::trial(&device)?;
    ensure!(
        (trial.region, trial.offset, trial.length) == (4, pages.0, pages.1),
        "mapped elsewhere: {trial:?}"
    );
    pods::up(kubelet, &pod).await?;
    outside::ping(address).await?;
    let done = pods::done(kubelet, &pod).await?;
    story.tell(format!(
        "{device}: {:#x} bytes mapped on trial, doorbell rung {} times by queue 1 and {} times by queue 0",
        trial.length, done.doorbell.writes.tx, done.doorbell.writes.rx
    ));
    kubelet.stop_pod(&pod).await?;
    Ok(())
}
