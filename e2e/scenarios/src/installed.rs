//! The plugin as it is installed: the image of the Dockerfile, and of what the chart makes the pod of the DaemonSet with its
//! ConfigMap, by containerd. The main job passes with what its containers ask for, by the CNI binary that its init container
//! put there, and all of what they ask for is needed: what fails without each says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use doorbell_common::host::Host;
use doorbell_common::kernel::vfio;
use e2e_kubelet::{Kubelet, PodSpec, PodUid, ResourceView};

use crate::Story;
use crate::main_job::{CONFIG, pods_ring};
use crate::rig::daemonset::{self, PLUGIN, PROVER};
use crate::rig::node::{Node, command};
use crate::rig::plugin::{self, FAST, OTHER};
use crate::rig::{WITHIN, http, pods, stranger};

/// Pages of metrics before, while and after a pod has a device.
pub(crate) const METRICS: [&str; 3] = ["metrics-before.txt", "metrics-during.txt", "metrics-after.txt"];
const CNI_BINARY: &str = "/opt/cni/bin/doorbell";
const VF: &str = "0000:01:00.1";

pub(crate) async fn installed(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    daemonset::prepare(&node).await?;
    // For `scan` by hand.
    plugin::write_config(CONFIG)?;

    without_prover(&story, kubelet).await?;

    let mut pod = daemonset::pod("fast")?;
    let asked = daemonset::plugin_of(&mut pod)?.clone();
    ensure!(!asked.privileged && asked.read_only_root && asked.dropped == ["ALL"], "{asked:?}");
    let older = kubelet.run_pod(PodSpec::new("older"), WITHIN).await?;
    let running = cni_replaced(&story, kubelet, pod).await?;
    lets_go(&story, kubelet, &older).await?;
    pods_ring(&story, kubelet).await?;
    told(&story, kubelet, &running).await?;
    story.tell(format!("all that in a pod whose root is read-only, with {:?} alone", asked.capabilities));
    strangers_are_seen(&story, kubelet, &running).await?;
    daemonset::end(kubelet, &running).await?;

    for capability in &asked.capabilities {
        let mut pod = daemonset::pod("fast")?;
        daemonset::plugin_of(&mut pod)?.capabilities.retain(|kept| kept != capability);
        match capability.as_str() {
            "SYS_ADMIN" => without_sys_admin(&story, kubelet, pod).await?,
            "SYS_PTRACE" => without_sys_ptrace(&story, kubelet, pod).await?,
            _ => bail!("nothing shows that {capability} is needed"),
        }
    }
    without_host_pid(&story, kubelet).await?;
    taken_back(&story, kubelet).await
}

/// The node has another CNI binary, which wires this pod itself; it is of this image once the pod runs.
async fn cni_replaced(story: &Story, kubelet: &Kubelet, pod: PodSpec) -> Result<PodUid> {
    let mut other = fs::read(CNI_BINARY)?;
    other.push(0);
    fs::write(CNI_BINARY, &other)?;
    let running = daemonset::run(kubelet, pod).await?;
    let now = command("sha256sum", &[CNI_BINARY]).await?;
    ensure!(
        now.starts_with(&daemonset::digest_in_image("usr/bin/doorbell").await?),
        "it is not the image's: {now}"
    );
    let mode = fs::metadata(CNI_BINARY)?.permissions().mode() & 0o777;
    ensure!(mode == 0o755, "the CNI binary has mode {mode:o}");
    story.tell("the CNI binary is that of the image, put there by an init container with no capability");
    Ok(running)
}

async fn without_prover(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let mut pod = daemonset::pod("fast")?;
    pod.containers.retain(|container| container.name != PROVER);
    let alone = daemonset::run(kubelet, pod).await?;
    let line = daemonset::logged(kubelet, &alone, PLUGIN, &["the prover at", "does not answer"]).await?;
    ensure!(line.contains("not permitted"), "{line}");
    ensure!(allocatable(kubelet) == 0, "devices are advertised that nobody attached");
    story.tell(format!("without the prover nothing is advertised: {line}"));
    daemonset::end(kubelet, &alone).await
}

/// The plugin says that it is ready, and its metrics move as a pod comes and goes. The host reads the pages by Prometheus'
/// own parser.
async fn told(story: &Story, kubelet: &Kubelet, plugin: &PodUid) -> Result<()> {
    let address = kubelet.pod_ip(plugin).await?.context("the plugin's pod has no address")?;
    for path in ["/healthz", "/readyz"] {
        let answer = http::get(&address, path)?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
    }
    let keep = |name: &str| -> Result<()> {
        let page = http::get(&address, "/metrics")?.body;
        Ok(fs::write(Path::new("/job/out").join(name), page)?)
    };
    let [before, during, after] = METRICS;
    keep(before)?;
    let pod = kubelet.run_pod(pods::probing("told", FAST, "10.9.0.13"), WITHIN).await?;
    keep(during)?;
    kubelet.stop_pod(&pod).await?;
    kubelet.remove_pod(&pod).await?;
    keep(after)?;
    story.tell("the plugin is ready, and tells of a pod that came and went");
    Ok(())
}

/// A pod that is older than the plugin ends, and so does its network namespace.
async fn lets_go(story: &Story, kubelet: &Kubelet, older: &PodUid) -> Result<()> {
    let sandbox = kubelet.sandboxes(older).await?.into_iter().next().context("the pod has no sandbox")?;
    let netns = sandbox.netns.context("the sandbox has no network namespace")?;
    let name = netns.file_name().context("no name")?.to_string_lossy().into_owned();
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;
    kubelet.stop_pod(older).await?;
    kubelet.remove_pod(older).await?;
    // Of the processes that end meanwhile nothing can be read.
    let keep = format!("grep --files-with-matches --no-messages {name} /proc/[0-9]*/mountinfo || true");
    let keepers = command("sh", &["-c", &keep]).await?;
    ensure!(keepers.is_empty(), "{name} is still mounted: {keepers}");
    story.tell(format!("{name} of a pod that is older than the plugin is let go of when the pod ends"));
    Ok(())
}

/// Though its device cgroup lets it watch no node.
async fn strangers_are_seen(story: &Story, kubelet: &Kubelet, plugin: &PodUid) -> Result<()> {
    let node = pods::vfio_nodes(&VF.parse()?)?.own().to_owned();
    let stray = stranger::hold(&node)?;
    kubelet.wait_allocatable(FAST, 1, WITHIN).await?;
    stranger::end(stray).await?;
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;
    let log = kubelet.logs(plugin, PLUGIN)?;
    let unwatched = log.iter().filter(|line| line.contains("nodes are not watched")).count();
    ensure!(unwatched == 1, "said {unwatched} times that nodes are not watched");
    story.tell(format!("who else opens {node} is seen without a watch on it, which is said once"));
    Ok(())
}

async fn without_sys_admin(story: &Story, kubelet: &Kubelet, pod: PodSpec) -> Result<()> {
    let refused = daemonset::run(kubelet, pod).await?;
    let line = daemonset::logged(kubelet, &refused, PLUGIN, &["64 bytes"]).await?;
    ensure!(allocatable(kubelet) == 0, "devices are advertised whose doorbell was not read");
    story.tell(format!("without SYS_ADMIN no doorbell is found: {line}"));
    daemonset::end(kubelet, &refused).await
}

async fn without_sys_ptrace(story: &Story, kubelet: &Kubelet, pod: PodSpec) -> Result<()> {
    let blind = daemonset::run(kubelet, pod).await?;
    let line = daemonset::logged(kubelet, &blind, PLUGIN, &["is CAP_SYS_PTRACE missing?"]).await?;
    held_is_handed_out(kubelet).await?;
    story.tell(format!("without SYS_PTRACE a VF that is held is handed out: {line}"));
    daemonset::end(kubelet, &blind).await
}

async fn without_host_pid(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let mut pod = daemonset::pod("fast")?;
    pod.host_pid = false;
    let blind = daemonset::run(kubelet, pod).await?;
    held_is_handed_out(kubelet).await?;
    story.tell("without the host's processes a VF that is held is handed out");
    daemonset::end(kubelet, &blind).await
}

async fn held_is_handed_out(kubelet: &Kubelet) -> Result<()> {
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;
    let stray = stranger::hold(pods::vfio_nodes(&VF.parse()?)?.own())?;
    let granted = plugin::allocate("fast", VF).await?;
    ensure!(granted.is_ok(), "a holder was seen: {granted:?}");
    stranger::end(stray).await
}

/// The plugin takes its VFs back, whose nodes the prover sees to be free.
async fn taken_back(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let before = kubelet.registrations(OTHER);
    let running = daemonset::run(kubelet, daemonset::pod("other")?).await?;
    kubelet.wait_registrations(OTHER, before + 1, WITHIN).await?;
    // The PF's record stays, as one of its VFs is the far end, out of sight.
    let records = Host::real().list("/var/lib/doorbell/made")?;
    ensure!(!records.iter().any(|record| record.starts_with(VF)), "the record of {VF} is left");
    ensure!(!vfio::is_bound(&Host::real(), VF.parse()?)?, "{VF} is still on a VFIO driver");
    let line = daemonset::logged(kubelet, &running, PROVER, &["open /dev/vfio/"]).await?;
    story.tell(format!("VFs that no pool wants any more go back to their driver: {line}"));
    daemonset::end(kubelet, &running).await
}

fn allocatable(kubelet: &Kubelet) -> usize {
    kubelet.view().resources.get(FAST).map_or(0, ResourceView::allocatable)
}
