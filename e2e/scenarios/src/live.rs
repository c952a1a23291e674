//! What happens to devices, config and kubelet while the plugin runs, each fault by itself: who is told what, and how
//! soon.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use doorbell_common::host::Host;
use doorbell_common::kernel::pci;
use e2e_kubelet::{Kubelet, NodeView};
use tokio::time::Instant;

use crate::Story;
use crate::rig::node::{Node, command};
use crate::rig::plugin::{self, CONFIG as CONFIG_FILE, FAST, Plugin};
use crate::rig::times::Times;
use crate::rig::{WITHIN, links, pods};

const PF: &str = "0000:01:00.0";
const VF: &str = "0000:01:00.1";
const VFS: usize = 4;
const POOL: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  select: {pfNames: ['0000:01:00.0']}
  prepare: {numVfs: 4}
";
/// Times that a fault is made for its times to be measured.
const ROUNDS: usize = 10;

/// A node on which the pool is advertised.
async fn start() -> Result<(Node, Plugin)> {
    let node = Node::start().await?;
    let plugin = Plugin::start(POOL).await?;
    node.kubelet.wait_allocatable(FAST, VFS, WITHIN).await?;
    Ok((node, plugin))
}

/// Waits for the kubelet's numbers: how many devices it knows of, and how many of them are healthy.
async fn wait_for(kubelet: &Kubelet, resource: &str, capacity: usize, healthy: usize) -> Result<()> {
    let are = |view: &NodeView| {
        let known = view.resources.get(resource);
        known.is_some_and(|known| (known.capacity(), known.allocatable()) == (capacity, healthy))
    };
    let what = format!("{capacity} devices of {resource}, {healthy} of them healthy");
    kubelet.wait_until(&what, are, WITHIN).await?;
    Ok(())
}

fn sysfs(path: &str, value: &str) -> Result<()> {
    Ok(Host::real().write_attribute(format!("/sys/bus/pci/{path}"), value)?)
}

/// A VF is taken off its driver by hand, and bound back.
pub(crate) async fn vf_rebind(story: Story) -> Result<()> {
    let (node, plugin) = start().await?;
    let (mut away, mut back) = (Times::new(), Times::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        sysfs("drivers/vfio-pci/unbind", VF)?;
        wait_for(&node.kubelet, FAST, VFS, VFS - 1).await?;
        away.since(start);
        let start = Instant::now();
        sysfs("drivers/vfio-pci/bind", VF)?;
        wait_for(&node.kubelet, FAST, VFS, VFS).await?;
        back.since(start);
    }
    let reason = plugin.logged(&["device unhealthy", VF, "not on a VFIO driver but on no driver"]).await?;
    story.tell(reason);
    plugin.logged(&["device healthy again", VF]).await?;
    away.tell(&story, "unbind → ListAndWatch says unhealthy")?;
    back.tell(&story, "bind → ListAndWatch says healthy")?;

    // Bound elsewhere, it is not fought.
    pci::bind(&Host::real(), VF.parse()?, "virtio-pci")?;
    wait_for(&node.kubelet, FAST, VFS, VFS - 1).await?;
    plugin.logged(&["device unhealthy", VF, "not on a VFIO driver but on virtio-pci"]).await?;
    let explained = plugin::explain_text(VF).await?;
    ensure!(explained.contains("not on a VFIO driver but on virtio-pci"), "{explained}");
    story.tell("bound elsewhere it stays there, unhealthy; explain says why");
    Ok(())
}

/// A PF is unplugged with its VFs, and plugged in again.
pub(crate) async fn unplug(story: Story) -> Result<()> {
    let (node, plugin) = start().await?;
    for round in 1..=3 {
        let start = Instant::now();
        sysfs(&format!("devices/{PF}/remove"), "1")?;
        wait_for(&node.kubelet, FAST, 0, 0).await?;
        let gone = start.elapsed().as_secs_f64() * 1000.0;
        let start = Instant::now();
        sysfs("rescan", "1")?;
        wait_for(&node.kubelet, FAST, VFS, VFS).await?;
        let back = start.elapsed().as_secs_f64() * 1000.0;
        story.tell(format!(
            "round {round}: unplugged, the list is empty after {gone:.0} ms; plugged in, 4 VFs are made, bound and advertised after {back:.0} ms"
        ));
    }
    plugin.logged(&["device no longer advertised", VF]).await?;
    Ok(())
}

/// All VFs of a PF go and come.
pub(crate) async fn vfs_gone_and_back(story: Story) -> Result<()> {
    let (node, plugin) = start().await?;
    let numvfs = format!("devices/{PF}/sriov_numvfs");
    for round in 1..=3 {
        sysfs(&numvfs, "0")?;
        wait_for(&node.kubelet, FAST, 0, 0).await?;
        let start = Instant::now();
        sysfs(&numvfs, "4")?;
        wait_for(&node.kubelet, FAST, VFS, VFS).await?;
        let took = start.elapsed().as_secs_f64() * 1000.0;
        story.tell(format!("round {round}: 4 VFs are made, bound and advertised after {took:.0} ms"));
    }
    let pod = pods::admitted(&node.kubelet, pods::answering("a", FAST, "10.9.0.11")).await?;
    node.kubelet.start_pod(&pod).await?;
    pods::up(&node.kubelet, &pod).await?;
    node.kubelet.remove_pod(&pod).await?;
    // A VF's node goes before the VF does: a glance in between says what is so, that the device can't be used.
    let going = |warning: &String| warning.contains("device unhealthy") && warning.contains("is not there");
    let others: Vec<_> = plugin.warnings().into_iter().filter(|warning| !going(warning)).collect();
    ensure!(others.is_empty(), "something is warned of: {others:?}");
    Ok(())
}

/// The config is swapped as the kubelet swaps a ConfigMap, by right and by wrong ones.
pub(crate) async fn config_swap(story: Story) -> Result<()> {
    let folder = Path::new(CONFIG_FILE).parent().context("no folder")?;
    let swap = |version: usize, text: &str| -> Result<()> {
        let name = format!("..{version}");
        fs::create_dir_all(folder.join(&name))?;
        fs::write(folder.join(&name).join("config.yaml"), text)?;
        symlink(&name, folder.join("..data_tmp"))?;
        Ok(fs::rename(folder.join("..data_tmp"), folder.join("..data"))?)
    };
    let pools = |range: &str, more: &str| {
        format!(
            "apiVersion: doorbell.dev/v1\npools:\n- name: fast\n  access: vfio\n  select: {{pfNames: ['{PF}#{range}']}}\n  prepare: {{numVfs: 4}}\n{more}"
        )
    };
    let rest =
        format!("- name: rest\n  access: vfio\n  select: {{pfNames: ['{PF}#2-3']}}\n  prepare: {{}}\n");
    const REST: &str = "doorbell.dev/rest";

    let node = Node::start().await?;
    fs::create_dir_all(folder)?;
    swap(0, &pools("0-1", &rest))?;
    symlink("..data/config.yaml", CONFIG_FILE)?;
    let plugin = Plugin::start_as_configured().await?;
    wait_for(&node.kubelet, FAST, 2, 2).await?;
    wait_for(&node.kubelet, REST, 2, 2).await?;

    let mut times = Times::new();
    let registrations = node.kubelet.registrations(REST);
    for round in 0..ROUNDS {
        let count = 1 + round % 2;
        let start = Instant::now();
        swap(1 + round, &pools(if count == 1 { "0" } else { "0-1" }, &rest))?;
        wait_for(&node.kubelet, FAST, count, count).await?;
        times.since(start);
    }
    times.tell(&story, "config swap → new capacity")?;
    ensure!(node.kubelet.registrations(REST) == registrations, "the pool that stayed was registered again");

    swap(100, "apiVersion: doorbell.dev/v1\npools: [{name: fast}]\n")?;
    story.tell(plugin.logged(&["the config is not usable", "config.yaml:2", "pools[0]"]).await?);
    ensure!(
        node.kubelet.capacity(FAST) == 2 && node.kubelet.capacity(REST) == 2,
        "a wrong config took something"
    );

    swap(101, &pools("0-3", ""))?;
    wait_for(&node.kubelet, FAST, 4, 4).await?;
    wait_for(&node.kubelet, REST, 0, 0).await?;
    story.tell("a pool goes by an empty list, and its devices are another's");
    Ok(())
}

/// The PF's link goes down and comes up, for a pool that cares and one that doesn't.
pub(crate) async fn pf_link_down(story: Story) -> Result<()> {
    let config = format!(
        "apiVersion: doorbell.dev/v1\npools:\n- name: fast\n  access: vfio\n  select: {{pfNames: ['{PF}#0-1']}}\n  prepare: {{numVfs: 4}}\n- name: caring\n  access: vfio\n  pfLinkDown: unhealthy\n  select: {{pfNames: ['{PF}#2-3']}}\n  prepare: {{}}\n"
    );
    const CARING: &str = "doorbell.dev/caring";
    let interface = links::name_of_pf(PF)?;
    command("ip", &["link", "set", &interface, "up"]).await?;
    let node = Node::start().await?;
    let plugin = Plugin::start(&config).await?;
    wait_for(&node.kubelet, CARING, 2, 2).await?;
    let (mut down, mut up) = (Times::new(), Times::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        command("ip", &["link", "set", &interface, "down"]).await?;
        wait_for(&node.kubelet, CARING, 2, 0).await?;
        down.since(start);
        ensure!(node.kubelet.allocatable(FAST) == 2, "a pool that does not care is unhealthy");
        let start = Instant::now();
        command("ip", &["link", "set", &interface, "up"]).await?;
        wait_for(&node.kubelet, CARING, 2, 2).await?;
        up.since(start);
    }
    story.tell(plugin.logged(&["device unhealthy", "the link of PF", &interface, "is down"]).await?);
    down.tell(&story, "PF link down → unhealthy")?;
    up.tell(&story, "PF link up → healthy")
}

/// The plugin is killed while a pod has a device, and starts again.
pub(crate) async fn plugin_killed(story: Story) -> Result<()> {
    let (node, mut plugin) = start().await?;
    let kubelet = &node.kubelet;
    let pod = pods::admitted(kubelet, pods::answering("a", FAST, "10.9.0.11")).await?;
    kubelet.start_pod(&pod).await?;
    pods::up(kubelet, &pod).await?;
    let id = pods::device(kubelet, &pod, FAST)?;
    for _ in 0..3 {
        let registrations = kubelet.registrations(FAST);
        plugin.kill().await?;
        plugin = Plugin::start(POOL).await?;
        kubelet.wait_registrations(FAST, registrations + 1, WITHIN).await?;
        wait_for(kubelet, FAST, VFS, VFS).await?;
    }
    pods::up(kubelet, &pod).await?;
    ensure!(pods::attachment(&id)?.is_some(), "the attachment of {id} is gone");
    story.tell("killed three times: all is advertised again, and the pod kept its device");
    kubelet.remove_pod(&pod).await?;
    ensure!(pods::attachment(&id)?.is_none(), "the attachment of {id} is left");
    Ok(())
}

/// containerd restarts under a pod.
pub(crate) async fn containerd_restart(story: Story) -> Result<()> {
    let (mut node, _plugin) = start().await?;
    let pod = pods::admitted(&node.kubelet, pods::answering("a", FAST, "10.9.0.11")).await?;
    node.kubelet.start_pod(&pod).await?;
    pods::up(&node.kubelet, &pod).await?;
    let id = pods::device(&node.kubelet, &pod, FAST)?;
    node.restart_containerd().await?;
    ensure!(pods::attachment(&id)?.is_some(), "the attachment of {id} is gone");
    wait_for(&node.kubelet, FAST, VFS, VFS).await?;
    node.kubelet.remove_pod(&pod).await?;
    ensure!(pods::attachment(&id)?.is_none(), "the attachment of {id} is left");
    let pod = pods::admitted(&node.kubelet, pods::answering("b", FAST, "10.9.0.12")).await?;
    node.kubelet.start_pod(&pod).await?;
    pods::up(&node.kubelet, &pod).await?;
    story.tell("containerd restarted: the pod kept its device, gave it back, and the next pod has one");
    Ok(())
}

/// The kubelet's folder is removed and made anew, and the kubelet is away for a while.
pub(crate) async fn kubelet_folder_anew(story: Story) -> Result<()> {
    let (node, _plugin) = start().await?;
    let kubelet = &node.kubelet;
    let before = kubelet.registrations(FAST);
    kubelet.stop().await;
    fs::remove_dir_all("/var/lib/kubelet/device-plugins")?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    kubelet.resume().await?;
    let start = Instant::now();
    kubelet.wait_registrations(FAST, before + 1, WITHIN).await?;
    wait_for(kubelet, FAST, VFS, VFS).await?;
    let took = start.elapsed().as_secs_f64() * 1000.0;
    story.tell(format!(
        "with another folder and a kubelet that was away: registered {took:.0} ms after it is back"
    ));
    Ok(())
}

/// The plugin is found by the kubelet's plugin watcher.
pub(crate) async fn plugin_watcher(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let plugin = Plugin::start(&format!("{POOL}registration: watcher\n")).await?;
    wait_for(&node.kubelet, FAST, VFS, VFS).await?;
    plugin.logged(&["registered", FAST]).await?;
    let socket = "/var/lib/kubelet/plugins_registry/doorbell-fast.sock";
    ensure!(Path::new(socket).exists(), "there is no {socket}");
    let before = node.kubelet.registrations(FAST);
    node.kubelet.restart().await?;
    node.kubelet.wait_registrations(FAST, before + 1, WITHIN).await?;
    wait_for(&node.kubelet, FAST, VFS, VFS).await?;
    ensure!(plugin.terminate().await?.success(), "the plugin ended badly");
    ensure!(!Path::new(socket).exists(), "{socket} is left");
    story.tell("found by the plugin watcher, and again by the next kubelet");
    Ok(())
}
