//! A consumer that nobody here wrote: Debian's DPDK drives the VF that it was given, and reads nothing of ours but the
//! variable that holds the address.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use doorbell_common::claim;
use doorbell_common::host::Host;
use e2e_kubelet::{ContainerSpec, Kubelet, PodSpec};

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::{Node, command};
use crate::rig::plugin::Plugin;
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
  select: {pfNames: ['0000:02:00.0#0']}
  prepare: {numVfs: 2}
";
const CONTAINER: &str = "testpmd";
/// DPDK's guides give a container the huge pages, a writable place for its runtime files and this capability.
const IPC_LOCK: &str = "IPC_LOCK";
const HUGE_PAGES: &str = "/dev/hugepages";
/// Pages of 2 MiB: what testpmd is told to take, and as much again.
const HUGE_PAGE_COUNT: &str = "64";
const HUGE_PAGE_COUNT_FILE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
/// The image has no loader, so it is named.
const TESTPMD: &str = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 /usr/bin/dpdk-testpmd";
/// EAL's start, most of it the filling of huge pages, in an emulated machine.
const STARTS_WITHIN: Duration = Duration::from_secs(90);

pub(crate) async fn testpmd(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    let _plugin = Plugin::start(CONFIG).await?;
    for pool in ["per-device", "per-queue"] {
        kubelet.wait_allocatable(&resource(pool), 1, WITHIN).await?;
    }
    outside::set_up("0000:01:00.2").await?;
    reserve_huge_pages().await?;

    answers(&story, kubelet, "per-device", "10.9.0.77").await?;
    answers(&story, kubelet, "per-queue", "10.9.0.78").await?;
    is_refused(&story, kubelet).await
}

/// Pings reach it and come back by the doorbell, and its pod leaves nothing behind.
async fn answers(story: &Story, kubelet: &Kubelet, pool: &str, address: &str) -> Result<()> {
    let container = container(pool)?.capability(IPC_LOCK);
    let pod = kubelet.run_pod(PodSpec::new(pool).container(container), WITHIN).await?;
    let device = pods::device_of(kubelet, &pod, CONTAINER, &resource(pool))?;
    // It prints its counters only when it forwards.
    kubelet.wait_log_line(&pod, CONTAINER, |line| sent(line).is_some(), STARTS_WITHIN).await?;
    outside::ping(address).await?;
    let counted = |line: &str| sent(line).is_some_and(|sent| sent >= outside::COUNT);
    let counted = kubelet.wait_log_line(&pod, CONTAINER, counted, WITHIN).await?;
    story.tell(format!(
        "{pool}: testpmd drives {device} and answered all of {} pings: {}",
        outside::COUNT,
        counted.split_whitespace().collect::<Vec<_>>().join(" ")
    ));

    kubelet.remove_pod(&pod).await?;
    ensure!(claim::ids(&Host::real())?.is_empty(), "DEL left claims");
    ensure!(pods::attachment(&device)?.is_none(), "DEL left attachment.json");
    let node = kubelet.wait_allocatable(&resource(pool), 1, WITHIN).await?;
    let held = node.resources.get(&resource(pool)).map(|resource| &resource.allocated);
    ensure!(held.is_some_and(BTreeSet::is_empty), "the kubelet has {held:?} as given out");
    Ok(())
}

/// Without the capability its memory is more than it may lock: the device is refused, as testpmd itself says.
async fn is_refused(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let pod = PodSpec::new("unlocked").container(container("per-device")?);
    let pod = kubelet.run_pod(pod, WITHIN).await?;
    let device = pods::device_of(kubelet, &pod, CONTAINER, &resource("per-device"))?;
    // It goes on without the device, and so does not end.
    let given_up = format!("Requested device {device} cannot be used");
    kubelet.wait_log_line(&pod, CONTAINER, |line| line.contains(&given_up), STARTS_WITHIN).await?;
    let log = kubelet.logs(&pod, CONTAINER)?;
    let refused = log.iter().find(|line| line.contains("Cannot set up DMA remapping, error 12"));
    let refused = refused.with_context(|| format!("another cause:\n{}", log.join("\n")))?;
    story.tell(format!("without {IPC_LOCK}: {refused}"));
    kubelet.remove_pod(&pod).await?;
    ensure!(claim::ids(&Host::real())?.is_empty(), "DEL left claims");
    Ok(())
}

/// testpmd on the VF that the plugin's variable names, unprivileged, on two processors: one of them polls.
fn container(pool: &str) -> Result<ContainerSpec> {
    let resource = resource(pool);
    let variable = format!("PCIDEVICE_{}", resource.to_uppercase().replace(['.', '/', '-'], "_"));
    let run = format!("/run/testpmd-{pool}");
    fs::create_dir_all(&run).with_context(|| format!("make {run}"))?;
    let script = format!(
        "exec {TESTPMD} -l 0,1 -n 1 -m 64 --no-telemetry -a \"${variable}\" -- \
         --forward-mode=icmpecho --auto-start --total-num-mbufs=2048 --stats-period=1"
    );
    Ok(ContainerSpec::new(CONTAINER)
        .command(["sh", "-c", &script])
        .mount_ro("/usr", "/usr")
        .mount(HUGE_PAGES, HUGE_PAGES)
        .mount(run, "/var/run")
        .resource(&resource, 1))
}

fn resource(pool: &str) -> String {
    format!("doorbell.dev/{pool}")
}

async fn reserve_huge_pages() -> Result<()> {
    fs::write(HUGE_PAGE_COUNT_FILE, HUGE_PAGE_COUNT).context("reserve huge pages")?;
    let reserved = fs::read_to_string(HUGE_PAGE_COUNT_FILE)?;
    ensure!(
        reserved.trim() == HUGE_PAGE_COUNT,
        "{} huge pages instead of {HUGE_PAGE_COUNT}",
        reserved.trim()
    );
    fs::create_dir_all(HUGE_PAGES).with_context(|| format!("make {HUGE_PAGES}"))?;
    command("mount", &["-t", "hugetlbfs", "hugetlbfs", HUGE_PAGES]).await?;
    Ok(())
}

/// The packets sent, in the line of testpmd's counters that has them.
fn sent(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("TX-packets:")?;
    rest.split_whitespace().next()?.parse().ok()
}
