//! What a consumer may map for DMA: as much as RLIMIT_MEMLOCK says, and with CAP_IPC_LOCK what it wants; by both ways
//! through VFIO, as the descriptor and `explain` say.

use anyhow::{Context, Result, bail, ensure};
use doorbell_common::claim;
use doorbell_common::formats::descriptor::Locked;
use doorbell_common::host::Host;
use e2e_kubelet::{Kubelet, PodSpec, PodUid};
use e2e_probe::report::{Event, Mapped};

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::Node;
use crate::rig::plugin::{self, Plugin};
use crate::rig::pods;

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: group
  access: vfio
  select: {pfNames: ['0000:01:00.0#0-1']}
  prepare: {numVfs: 4}
- name: own-node
  access: vfio
  iommufd: true
  select: {pfNames: ['0000:01:00.0#2-3']}
  prepare: {}
";
const GROUP: &str = "doorbell.dev/group";
const OWN_NODE: &str = "doorbell.dev/own-node";
const IPC_LOCK: &str = "IPC_LOCK";
const MIB: u64 = 1 << 20;
/// What Linux gives where nobody sets another limit (`MLOCK_LIMIT`, since 5.16), and nobody does here.
const LIMIT: u64 = 8 * MIB;
const BELOW: u64 = 4 * MIB;
const BEYOND: u64 = 16 * MIB;
/// Below the limit, and two of them beyond it.
const MOST: u64 = 6 * MIB;

pub(crate) async fn memlock(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    let _plugin = Plugin::start(CONFIG).await?;
    for resource in [GROUP, OWN_NODE] {
        kubelet.wait_allocatable(resource, 2, WITHIN).await?;
    }

    for resource in [GROUP, OWN_NODE] {
        up_to_the_limit(&story, kubelet, resource).await?;
    }
    explained(&story).await?;
    a_limit_each(&story, kubelet).await?;
    a_limit_together(&story, kubelet).await?;
    ensure!(claim::ids(&Host::real())?.is_empty(), "DEL left claims");
    Ok(())
}

/// Below the limit it maps; beyond it, only with the capability.
async fn up_to_the_limit(story: &Story, kubelet: &Kubelet, resource: &str) -> Result<()> {
    let Event::Mapped(below) = map(kubelet, resource, BELOW, &[]).await? else {
        bail!("{BELOW} bytes were refused");
    };
    ensure!(u64::try_from(below.bytes)? == BELOW, "{below:?}");
    let Event::Error { message, memlock_limit } = map(kubelet, resource, BEYOND, &[]).await? else {
        bail!("{BEYOND} bytes were mapped without {IPC_LOCK}");
    };
    ensure!(message.contains("ENOMEM") && memlock_limit == Some(LIMIT), "{message}, limit {memlock_limit:?}");
    let Event::Mapped(Mapped { device, bytes, memlock_limit }) =
        map(kubelet, resource, BEYOND, &[IPC_LOCK]).await?
    else {
        bail!("{BEYOND} bytes were refused in spite of {IPC_LOCK}");
    };
    ensure!(u64::try_from(bytes)? == BEYOND && memlock_limit == Some(LIMIT), "{bytes}, {memlock_limit:?}");
    story.tell(format!("{resource}: {BELOW} bytes map; {message}"));
    story.tell(format!("{resource}: with {IPC_LOCK} and the same limit {device} may reach {bytes} bytes"));
    Ok(())
}

/// Maps in a container of its own, which is told the limit that it has.
async fn map(kubelet: &Kubelet, resource: &str, bytes: u64, capabilities: &[&str]) -> Result<Event> {
    let script =
        format!("grep '^Max locked memory' /proc/self/limits; exec {} --map-bytes {bytes}", pods::PROBE);
    let container = pods::probe(pods::CONTAINER, resource, &["sh", "-c", &script]);
    let container =
        capabilities.iter().fold(container, |container, capability| container.capability(capability));
    let pod = kubelet.run_pod(PodSpec::new("map").container(container), WITHIN).await?;
    let event = pods::mapped(kubelet, &pod).await?;

    let device = pods::device(kubelet, &pod, resource)?;
    let told = pods::attachment(&device)?.context("ADD left no attachment.json")?.memlock_limit;
    let has = limit(&kubelet.logs(&pod, pods::CONTAINER)?)?;
    ensure!(told == Some(has), "attachment.json says {told:?} and the container has {has}");
    let locked = pods::described(&device)?.memory.locked;
    ensure!(locked == Locked::MemlockUnlessIpcLock, "device.json says {locked:?}");
    kubelet.remove_pod(&pod).await?;
    Ok(event)
}

/// The soft limit in a line of /proc/self/limits.
fn limit(log: &[String]) -> Result<u64> {
    let line = log.iter().find_map(|line| line.strip_prefix("Max locked memory"));
    let line = line.with_context(|| format!("no limit in {log:?}"))?;
    let soft = line.split_whitespace().next().context("a limit without a value")?;
    soft.parse().with_context(|| format!("the limit is `{soft}`"))
}

async fn explained(story: &Story) -> Result<()> {
    let explanation = plugin::explain("0000:01:00.1").await?;
    let found = plugin::check(&explanation, "memlock")?["found"].to_string();
    ensure!(found.contains("CAP_IPC_LOCK") && found.contains(&format!("{LIMIT} bytes")), "{found}");
    story.tell(format!("explain: {found}"));
    Ok(())
}

/// By the group each process has its limit to itself.
async fn a_limit_each(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let (first, second) = (keeping(kubelet, "a", GROUP).await?, keeping(kubelet, "b", GROUP).await?);
    for pod in [&first, &second] {
        pods::up(kubelet, pod).await?;
    }
    story.tell(format!("{GROUP}: two containers keep {MOST} bytes each"));
    kubelet.remove_pod(&first).await?;
    kubelet.remove_pod(&second).await?;
    Ok(())
}

/// iommufd counts what all processes of a user have mapped, other containers' too, against the limit of the one that
/// maps (`IOPT_PAGES_ACCOUNT_USER`).
async fn a_limit_together(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let first = keeping(kubelet, "a", OWN_NODE).await?;
    pods::up(kubelet, &first).await?;
    let second = keeping(kubelet, "b", OWN_NODE).await?;
    let refused = pods::up(kubelet, &second).await.err().context("a second container mapped as much")?;
    ensure!(refused.to_string().contains("ENOMEM"), "{refused:#}");
    story.tell(format!(
        "{OWN_NODE}: one container keeps {MOST} bytes, and the next of that user: {refused:#}"
    ));
    kubelet.remove_pod(&first).await?;

    kubelet.restart_container(&second, pods::CONTAINER).await?;
    pods::up(kubelet, &second).await?;
    story.tell(format!("{OWN_NODE}: with the first gone, the second has its {MOST} bytes"));
    kubelet.remove_pod(&second).await?;
    Ok(())
}

/// A pod that maps most of what the limit allows, and keeps it.
async fn keeping(kubelet: &Kubelet, name: &str, resource: &str) -> Result<PodUid> {
    let bytes = MOST.to_string();
    let arguments = [pods::PROBE, "--ip", "10.9.0.11", "--dma-bytes", &bytes, "--linger", "--seconds", "0"];
    let pod = PodSpec::new(name).container(pods::probe(pods::CONTAINER, resource, &arguments));
    Ok(kubelet.run_pod(pod, WITHIN).await?)
}
