//! Pods that run the probe on an allocated VF, and what they say.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use doorbell_common::formats::descriptor::{self, Attachment, Device, Mapped, Nodes, Trial, Vdpa};
use doorbell_common::host::Host;
use doorbell_common::kernel::vfio;
use doorbell_common::subdevice::DeviceId;
use e2e_kubelet::{Admission, ContainerSpec, Kubelet, PodSpec, PodUid};
use e2e_probe::report::{Benched, Done, Event, Opened, Up};

use crate::rig::node::BIN;
use crate::rig::outside;

/// The one container of a probe pod.
pub(crate) const CONTAINER: &str = "probe";
pub(crate) const PROBE: &str = "/doorbell-probe";
const UP_WITHIN: Duration = Duration::from_secs(60);
const DONE_WITHIN: Duration = Duration::from_secs(90);

/// A pod with one device of `resource`, whose container drives it: it pings the outside, then answers pings itself
/// until as many were answered.
pub(crate) fn probing(name: &str, resource: &str, address: &str) -> PodSpec {
    let (count, serve) = (outside::COUNT.to_string(), outside::COUNT.to_string());
    let arguments = [
        PROBE,
        "--ip",
        address,
        "--ping",
        outside::ADDRESS,
        "--count",
        &count,
        "--serve-replies",
        &serve,
        "--seconds",
        "80",
        // An emulated machine on a busy host stalls for a second now and then.
        "--reply-ms",
        "5000",
    ];
    pod(name, resource, &arguments)
}

/// A pod whose container answers pings until it is stopped.
pub(crate) fn answering(name: &str, resource: &str, address: &str) -> PodSpec {
    pod(name, resource, &[PROBE, "--ip", address, "--linger", "--seconds", "0"])
}

fn pod(name: &str, resource: &str, command: &[&str]) -> PodSpec {
    PodSpec::new(name).container(probe(CONTAINER, resource, command))
}

/// A container with one device of `resource` that runs the probe with these arguments behind its name.
pub(crate) fn probe(name: &str, resource: &str, command: &[&str]) -> ContainerSpec {
    ContainerSpec::new(name)
        .command(command.iter().copied())
        .mount_ro(format!("{BIN}/doorbell-probe"), PROBE)
        .resource(resource, 1)
}

/// Has the pod admitted, with its devices, and started nothing of it.
pub(crate) async fn admitted(kubelet: &Kubelet, spec: PodSpec) -> Result<PodUid> {
    match kubelet.admit(spec).await? {
        Admission::Admitted(pod) => Ok(pod),
        Admission::Pending { reason, .. } => bail!("the pod is not admitted: {reason}"),
    }
}

/// The one device that the kubelet gave the pod.
pub(crate) fn device(kubelet: &Kubelet, pod: &PodUid, resource: &str) -> Result<DeviceId> {
    device_of(kubelet, pod, CONTAINER, resource)
}

/// The one device that the kubelet gave a container of the pod.
pub(crate) fn device_of(
    kubelet: &Kubelet,
    pod: &PodUid,
    container: &str,
    resource: &str,
) -> Result<DeviceId> {
    let devices = kubelet.devices(pod, container).remove(resource).unwrap_or_default();
    let [id] = devices.as_slice() else {
        bail!("container {container} of pod {pod} holds {devices:?} of {resource}, not one")
    };
    Ok(id.parse()?)
}

/// What the plugin says of the device in its descriptor.
pub(crate) fn described(id: &DeviceId) -> Result<Device> {
    descriptor::read_device(&Host::real(), id)?.with_context(|| format!("nobody describes {id}"))
}

/// The nodes of a device that is driven through VFIO, by its descriptor.
pub(crate) fn vfio_nodes(id: &DeviceId) -> Result<vfio::Nodes> {
    match described(id)?.nodes {
        Nodes::Vfio(nodes) => Ok(nodes),
        other => bail!("{id} is at {other}"),
    }
}

/// The trial mapping that ADD made of a device that is driven through VFIO.
pub(crate) fn trial(id: &DeviceId) -> Result<Mapped> {
    let attachment = attachment(id)?.with_context(|| format!("ADD left no attachment.json of {id}"))?;
    match attachment.trial {
        Some(Trial::Mapped(mapped)) => Ok(mapped),
        other => bail!("{id} was tried otherwise: {other:?}"),
    }
}

/// What a device that is driven through vhost-vdpa said at ADD.
pub(crate) fn vdpa_trial(id: &DeviceId) -> Result<Vdpa> {
    let attachment = attachment(id)?.with_context(|| format!("ADD left no attachment.json of {id}"))?;
    match attachment.trial {
        Some(Trial::Vdpa(vdpa)) => Ok(vdpa),
        other => bail!("{id} was tried otherwise: {other:?}"),
    }
}

/// Names below the container's /dev that lead to a device of ours: of VFIO, iommufd and vhost.
pub(crate) async fn device_nodes(kubelet: &Kubelet, pod: &PodUid, container: &str) -> Result<Vec<String>> {
    let listed = kubelet.exec(pod, container, ["ls", "/dev"], UP_WITHIN).await?;
    ensure!(listed.exit == 0, "list the container's /dev: {listed:?}");
    let ours = |name: &&str| ["vfio", "iommu", "vhost"].iter().any(|prefix| name.starts_with(prefix));
    Ok(listed.stdout.lines().filter(ours).map(str::to_owned).collect())
}

/// What the CNI left in the device's descriptor, if anything.
pub(crate) fn attachment(id: &DeviceId) -> Result<Option<Attachment>> {
    let file = format!("{}/{}", descriptor::folder(id), descriptor::ATTACHMENT_FILE);
    let text = Host::real().read_text_if_any(file)?;
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}

/// Waits until the container drives its device.
pub(crate) async fn up(kubelet: &Kubelet, pod: &PodUid) -> Result<Up> {
    up_in(kubelet, pod, CONTAINER).await
}

/// Waits until a container of the pod drives its device.
pub(crate) async fn up_in(kubelet: &Kubelet, pod: &PodUid, container: &str) -> Result<Up> {
    match event(kubelet, pod, container, "up", UP_WITHIN).await? {
        Event::Up(up) => Ok(up),
        other => bail!("the probe said {other:?} instead of up"),
    }
}

/// Waits until the container has its device open.
pub(crate) async fn opened(kubelet: &Kubelet, pod: &PodUid) -> Result<Opened> {
    match event(kubelet, pod, CONTAINER, "opened", UP_WITHIN).await? {
        Event::Opened(opened) => Ok(opened),
        other => bail!("the probe said {other:?} instead of opened"),
    }
}

/// Waits until the container has mapped what it was to map, or could not: the event either way.
pub(crate) async fn mapped(kubelet: &Kubelet, pod: &PodUid) -> Result<Event> {
    event(kubelet, pod, CONTAINER, "mapped", UP_WITHIN).await
}

/// Waits until the container has measured what ringing costs.
pub(crate) async fn benched(kubelet: &Kubelet, pod: &PodUid) -> Result<Benched> {
    match event(kubelet, pod, CONTAINER, "bench", DONE_WITHIN).await? {
        Event::Bench(benched) => Ok(benched),
        other => bail!("the probe said {other:?} instead of bench"),
    }
}

/// Waits until the container is done: it drove its device, rang its doorbell and had every ping answered.
pub(crate) async fn done(kubelet: &Kubelet, pod: &PodUid) -> Result<Done> {
    let done = match event(kubelet, pod, CONTAINER, "done", DONE_WITHIN).await? {
        Event::Done(done) => done,
        other => bail!("the probe said {other:?} instead of done"),
    };
    let exit = kubelet.wait_exit(pod, CONTAINER, DONE_WITHIN).await?;
    ensure!(exit == 0, "the probe exited with {exit}: {done:?}");
    let ping = done.ping.context("the probe did not ping")?;
    ensure!(u64::from(ping.received) == outside::COUNT, "pings from the container: {ping:?}");
    ensure!(done.answered >= outside::COUNT, "pings to the container answered: {}", done.answered);
    ensure!(
        done.doorbell.writes.tx > 0 && done.doorbell.writes.rx > 0,
        "the doorbell was not rung: {done:?}"
    );
    Ok(done)
}

/// The first line of the container's log that is this event or an error.
async fn event(
    kubelet: &Kubelet,
    pod: &PodUid,
    container: &str,
    wanted: &str,
    within: Duration,
) -> Result<Event> {
    let is = |line: &str, event: &str| line.contains(&format!(r#""event":"{event}""#));
    let line = kubelet
        .wait_log_line(pod, container, |line| is(line, wanted) || is(line, "error"), within)
        .await
        .with_context(|| format!("wait for `{wanted}` of the probe"))?;
    serde_json::from_str(&line).with_context(|| format!("the probe printed {line}"))
}
