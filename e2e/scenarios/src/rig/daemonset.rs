//! The plugin as the chart installs it: the image of the Dockerfile, and the pod that the DaemonSet has on this node.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use e2e_kubelet::{ContainerSpec, Kubelet, Manifest, PodSpec, PodUid};

use crate::rig::WITHIN;
use crate::rig::node::{BIN, Node, command};
use crate::rig::plugin;
use crate::{installed_vdpa, main_job};

/// An installation: its name, the config whose pools the chart is given, and other values of the chart's.
type Installed = (&'static str, &'static str, &'static str);
pub(crate) const INSTALLED: [Installed; 5] = [
    ("fast", main_job::CONFIG, "{}"),
    ("other", plugin::WITHOUT, "{}"),
    ("rings", installed_vdpa::CONFIG, "{}"),
    ("no-rings", plugin::WITHOUT, "{vdpa: true}"),
    ("chained", main_job::CONFIG, "{cni: {chain: true, removeAtUninstall: true}}"),
];
/// The image, as the host has made it.
const IMAGE: &str = "image.tar";
const KUBELET: &str = "/var/lib/kubelet";
/// Names of its containers.
pub(crate) const PLUGIN: &str = "plugin";
pub(crate) const PROVER: &str = "prover";

/// Made at a system's first boot, which the testbed's has not had.
const MACHINE_ID: &str = "4f0c2b8e6d1a4c3b9e7f5a1d2c3b4e5f\n";

/// Makes of the testbed's system what an installed node is, with the image on it.
pub(crate) async fn prepare(node: &Node) -> Result<()> {
    fs::write("/etc/machine-id", MACHINE_ID)?;
    // There systemd makes all mounts shared. Here the first `ip netns` does it for this one, by mounting it on itself; later,
    // it would do so with the namespaces of pods in it.
    command("ip", &["netns", "add", "first"]).await?;
    node.import_image(&Path::new(BIN).join(IMAGE)).await
}

/// The file with what the chart makes for an installation.
pub(crate) fn file(installation: &str) -> String {
    format!("chart-{installation}.yaml")
}

/// The file with the pod of `helm test`.
pub(crate) fn test_file(installation: &str) -> String {
    format!("chart-{installation}-test.yaml")
}

/// The pod of `helm test` for an installation.
pub(crate) fn test_pod(installation: &str) -> Result<PodSpec> {
    Ok(read(&test_file(installation))?.user_pod()?)
}

fn read(file: &str) -> Result<Manifest> {
    let file = Path::new(BIN).join(file);
    let manifest = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    Ok(Manifest::parse(&manifest)?)
}

/// SHA-256 of a file in the image's one layer.
pub(crate) async fn digest_in_image(path: &str) -> Result<String> {
    let image = Path::new(BIN).join(IMAGE);
    let layer = format!("tar -tf '{0}' | grep '^[0-9a-f]*[.]tar$'", image.display());
    let unpack = format!(
        "tar -xOf '{0}' \"$({layer})\" | tar -xOf - '{path}' | sha256sum | cut -d' ' -f1",
        image.display()
    );
    Ok(command("sh", &["-c", &unpack]).await?.trim().to_owned())
}

/// The DaemonSet's pod of an installation.
pub(crate) fn pod(installation: &str) -> Result<PodSpec> {
    Ok(read(&file(installation))?.pod(Path::new(KUBELET))?)
}

/// Its plugin's container.
pub(crate) fn plugin_of(pod: &mut PodSpec) -> Result<&mut ContainerSpec> {
    pod.containers.iter_mut().find(|container| container.name == PLUGIN).context("no container of the plugin")
}

/// Runs it. The node's administrator has loaded the driver.
pub(crate) async fn run(kubelet: &Kubelet, pod: PodSpec) -> Result<PodUid> {
    command("modprobe", &["vfio-pci"]).await?;
    Ok(kubelet.run_pod(pod, WITHIN).await?)
}

/// Waits for a line of a container's log that has all of these in it; the line from its level on.
pub(crate) async fn logged(
    kubelet: &Kubelet,
    pod: &PodUid,
    container: &str,
    words: &[&str],
) -> Result<String> {
    let has_all = |line: &str| words.iter().all(|word| line.contains(word));
    let line = kubelet.wait_log_line(pod, container, has_all, WITHIN).await?;
    Ok(plugin::from_level(&line).to_owned())
}

/// Ends it.
pub(crate) async fn end(kubelet: &Kubelet, pod: &PodUid) -> Result<()> {
    kubelet.stop_pod(pod).await?;
    Ok(kubelet.remove_pod(pod).await?)
}
