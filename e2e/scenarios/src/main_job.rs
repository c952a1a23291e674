//! The main job: two pods, each with a VF of its own, ring their doorbells; what they held can be had again.

use anyhow::{Context, Result, ensure};
use doorbell_common::claim;
use doorbell_common::host::Host;
use e2e_kubelet::{Admission, Kubelet, PodUid};
use e2e_probe::report::Done;

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::Node;
use crate::rig::plugin::{self, FAST, Plugin};
use crate::rig::{outside, pods};

/// VFs 0 and 1 are handed out; VF 3 is the far end.
pub(crate) const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  select:
    pfNames: ['0000:01:00.0#0-1']
  prepare:
    numVfs: 4
";
const OUTSIDE: &str = "0000:01:00.4";
/// libcni keeps each result here until DEL.
const RESULTS: &str = "/var/lib/cni/results";

pub(crate) async fn main_job(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    story.tell("containerd and the kubelet are up, our CNI binary is chained after ptp");

    let plugin = Plugin::start(CONFIG).await?;
    pods_ring(&story, kubelet).await?;
    let ended = plugin.terminate().await?;
    ensure!(ended.success(), "the plugin ended with {ended}");
    story.tell("SIGTERM: the plugin ended with exit code 0");
    Ok(())
}

/// With a plugin that runs: from its VFs to the pods that are gone again.
pub(crate) async fn pods_ring(story: &Story, kubelet: &Kubelet) -> Result<()> {
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;
    let vfs = plugin::scan().await?;
    ensure!(vfs.len() == 4, "4 VFs were asked for, {} are there", vfs.len());
    story.tell(format!(
        "the plugin made {} VFs, bound two to vfio-pci, proved them and registered {FAST}",
        vfs.len()
    ));
    story.quote(plugin::scan_table().await?);
    outside::set_up(OUTSIDE).await?;
    story
        .tell(format!("VF {OUTSIDE} is a kernel netdev with {} in a namespace of its own", outside::ADDRESS));

    let a = start(story, kubelet, "a", "10.9.0.11").await?;
    let b = start(story, kubelet, "b", "10.9.0.12").await?;
    let (device_a, device_b) = (pods::device(kubelet, &a, FAST)?, pods::device(kubelet, &b, FAST)?);
    ensure!(device_a != device_b, "both pods hold {device_a}");

    let Admission::Pending { uid: c, reason } = kubelet.admit(pods::probing("c", FAST, "10.9.0.13")).await?
    else {
        anyhow::bail!("pod c was admitted though both VFs are taken");
    };
    story.tell(format!("pod c asks for a third VF and stays pending: {reason}"));

    ring(story, kubelet, &a, "a", "10.9.0.11").await?;
    ring(story, kubelet, &b, "b", "10.9.0.12").await?;

    kubelet.stop_pod(&a).await?;
    kubelet.remove_pod(&a).await?;
    ensure!(pods::attachment(&device_a)?.is_none(), "DEL left attachment.json of {device_a}");
    ensure!(claim::read(&Host::real(), &device_a)?.is_none(), "DEL left the claim of {device_a}");
    story.tell(format!("pod a is gone; DEL released {device_a}"));
    kubelet.wait_admitted(&c, WITHIN).await?;
    let device_c = pods::device(kubelet, &c, FAST)?;
    ensure!(device_c == device_a, "pod c holds {device_c}, not {device_a}");
    kubelet.start_pod(&c).await?;
    story.tell(format!("pod c is no longer pending: it has {device_c}"));
    ring(story, kubelet, &c, "c", "10.9.0.13").await?;

    for pod in [&b, &c] {
        kubelet.stop_pod(pod).await?;
        kubelet.remove_pod(pod).await?;
    }
    let view = kubelet.view();
    let resource = view.resources.get(FAST).context("the resource is gone")?;
    ensure!(
        resource.allocatable() == 2 && resource.allocated.is_empty(),
        "not allocatable again: {resource:?}"
    );
    let claims = claim::ids(&Host::real())?;
    ensure!(claims.is_empty(), "claims of {claims:?} are left");
    story.tell("all pods are gone: both VFs are allocatable again, no claim is left");
    Ok(())
}

/// Starts a pod and shows what the CNI made of it.
async fn start(story: &Story, kubelet: &Kubelet, name: &str, address: &str) -> Result<PodUid> {
    let pod = kubelet.run_pod(pods::probing(name, FAST, address), WITHIN).await?;
    let device = pods::device(kubelet, &pod, FAST)?;
    let trial = pods::trial(&device)?;
    story.tell(format!(
        "pod {name} runs with {device}; trial mapping: {:#x} bytes at {:#x} of BAR {} after {:.1} ms",
        trial.length,
        trial.offset,
        trial.region,
        trial.micros as f64 / 1000.0
    ));
    let sandbox = kubelet.sandboxes(&pod).await?.into_iter().next().context("the pod has no sandbox")?;
    story.quote(format!("CNI result: {}", cni_result(&sandbox.id)?));
    Ok(pod)
}

/// Lets the outside ping the pod while the pod pings the outside.
async fn ring(story: &Story, kubelet: &Kubelet, pod: &PodUid, name: &str, address: &str) -> Result<()> {
    let up = pods::up(kubelet, pod).await?;
    outside::ping(address).await?;
    let Done { doorbell, ping, answered, .. } = pods::done(kubelet, pod).await?;
    let ping = ping.context("the probe did not ping")?;
    let granularity = doorbell.which.granularity.context("the doorbell has no place")?;
    story.tell(format!(
        "pod {name} ({}) rang its doorbell {} times for sending and {} times for receiving ({granularity}); {} of {} \
         of its pings were answered ({} µs on average), and it answered {answered} from outside",
        up.mac,
        doorbell.writes.tx,
        doorbell.writes.rx,
        ping.received,
        ping.sent,
        ping.rtt_micros_avg.unwrap_or_default(),
    ));
    Ok(())
}

/// What the chain answered for the sandbox, from libcni's cache.
fn cni_result(sandbox: &str) -> Result<serde_json::Value> {
    for entry in std::fs::read_dir(RESULTS)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.contains(sandbox) && name.starts_with("pod-network") {
            let cached: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
            return Ok(cached["result"].clone());
        }
    }
    anyhow::bail!("libcni kept no result of sandbox {sandbox}")
}
