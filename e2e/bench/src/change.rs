//! From what the kernel says of one VF to the list that has it: it is taken off its driver, and given back.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e_bench::kubelet::Kubelet;
use e2e_bench::load::{Load, Vf};
use e2e_bench::process::Process;
use e2e_bench::uevents::Uevents;

use crate::programs::Programs;
use crate::start::{SETTLES, first, inside};

/// Between one change and the next: longer than the plugin gathers what it hears.
pub(crate) const PAUSE: Duration = Duration::from_millis(400);

/// One VF's change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// From the uevent to the list in which it is unhealthy.
    pub(crate) lost: Duration,
    /// From the uevent to the list in which it is healthy again.
    pub(crate) back: Duration,
    /// CPU time of both, with all that is done behind the list.
    pub(crate) cpu: Duration,
}

/// Changes `times` VFs, one after the other.
pub(crate) fn changes(programs: &Programs, load: Load, times: usize) -> Result<Vec<Change>> {
    inside(programs, load, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut kubelet = Kubelet::listen()?;
            let plugin = Process::plugin()?;
            first(&mut kubelet, load).await?;
            tokio::time::sleep(SETTLES).await;
            let uevents = Uevents::open()?;
            let mut changes = Vec::new();
            for vf in load.vfs().step_by(load.vfs / times).take(times) {
                changes.push(change(&plugin, &mut kubelet, &uevents, vf).await?);
            }
            plugin.stop()?;
            Ok(changes)
        })
    })
}

pub(crate) async fn change(
    plugin: &Process,
    kubelet: &mut Kubelet,
    uevents: &Uevents,
    vf: Vf,
) -> Result<Change> {
    let before = plugin.cpu()?;
    let folder = format!("/{}", vf.folder());
    let devpath = folder.trim_start_matches("/sys");
    let (driver, child) = (format!("{folder}/driver"), format!("{folder}/vfio-dev"));
    let away = "/vfio-dev-away";

    fs::rename(&child, away)?;
    let target = fs::read_link(&driver)?;
    fs::remove_file(&driver)?;
    let lost = told(kubelet, uevents, "unbind", devpath, vf, "Unhealthy").await?;

    fs::rename(away, &child)?;
    symlink(target, &driver)?;
    let back = told(kubelet, uevents, "bind", devpath, vf, "Healthy").await?;
    Ok(Change { lost, back, cpu: plugin.cpu()?.saturating_sub(before) })
}

async fn told(
    kubelet: &mut Kubelet,
    uevents: &Uevents,
    action: &str,
    devpath: &str,
    vf: Vf,
    health: &str,
) -> Result<Duration> {
    let sent = Instant::now();
    uevents.tell(action, "pci", devpath)?;
    let list = kubelet.next().await?;
    let id = vf.address();
    let listed = list.devices.iter().find(|device| device.id == id).context("the VF is not in the list")?;
    ensure!(listed.health == health, "{id} is {}, not {health}", listed.health);
    tokio::time::sleep(PAUSE).await;
    Ok(list.at - sent)
}
