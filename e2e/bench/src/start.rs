//! From the start of the process to the first list of every pool, beside the bare loop over what has to be looked at.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e_bench::apart::apart;
use e2e_bench::kubelet::Kubelet;
use e2e_bench::load::Load;
use e2e_bench::process::Process;

use crate::programs::Programs;

/// Until what runs beside the answers has settled.
pub(crate) const SETTLES: Duration = Duration::from_secs(2);

/// One start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// To the first list of every pool.
    pub(crate) wall: Duration,
    /// CPU time until then.
    pub(crate) cpu: Duration,
    /// Of the bare loop.
    pub(crate) floor: Duration,
    /// Resident memory once settled, in bytes.
    pub(crate) memory: u64,
    /// Whether what is published was there already.
    pub(crate) again: bool,
}

/// Starts the plugin `times` times on one node, the floor in between. The first start publishes.
pub(crate) fn starts(programs: &Programs, load: Load, times: usize) -> Result<Vec<Start>> {
    inside(programs, load, || (0..times).map(|time| start(load, time > 0)).collect())
}

/// Works on a node of that load.
pub(crate) fn inside<T: Send>(
    programs: &Programs,
    load: Load,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let root = tempfile::tempdir()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    apart(root.path(), |root| fill(root, programs, load, boot.trim()), work)
}

fn fill(root: &Path, programs: &Programs, load: Load, boot: &str) -> Result<()> {
    load.make(root, boot).context("make the node")?;
    programs.install(root)
}

fn start(load: Load, again: bool) -> Result<Start> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let floor = floor(load, again)?;
    runtime.block_on(async {
        let mut kubelet = Kubelet::listen()?;
        let plugin = Process::plugin()?;
        let at = first(&mut kubelet, load).await?;
        let (wall, cpu) = (at - plugin.started, plugin.cpu()?);
        tokio::time::sleep(SETTLES).await;
        let memory = plugin.memory("VmRSS")?;
        plugin.stop()?;
        Ok(Start { wall, cpu, floor, memory, again })
    })
}

/// When every pool has its first list, which has all its devices.
pub(crate) async fn first(kubelet: &mut Kubelet, load: Load) -> Result<Instant> {
    let mut listed = 0;
    let mut at = Instant::now();
    for _ in load.resources() {
        let list = kubelet.next().await?;
        let healthy = list.devices.iter().filter(|device| device.health == "Healthy").count();
        ensure!(
            healthy == load.vfs / load.pools,
            "{} lists {healthy} healthy devices: {}",
            list.resource,
            fs::read_to_string("/plugin.log")
                .unwrap_or_default()
                .lines()
                .take(20)
                .collect::<Vec<_>>()
                .join("\n")
        );
        listed += healthy;
        at = list.at;
    }
    ensure!(listed == load.vfs, "{listed} devices are listed");
    Ok(at)
}

fn floor(load: Load, again: bool) -> Result<Duration> {
    let counts = [load.vfs, load.pfs, load.pools].map(|count| count.to_string());
    let started = Instant::now();
    let done = Command::new("/floor")
        .arg("start")
        .arg(if again { "again" } else { "first" })
        .args(counts)
        .output()?;
    let took = started.elapsed();
    ensure!(done.status.success(), "the floor: {}", String::from_utf8_lossy(&done.stderr));
    Ok(took)
}
