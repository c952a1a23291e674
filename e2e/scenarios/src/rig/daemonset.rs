//! The plugin as `manifests/doorbell.yaml` installs it: an image, and the pod that the DaemonSet has on this node.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use e2e_kubelet::{ContainerSpec, Kubelet, Manifest, PodSpec, PodUid};

use crate::rig::WITHIN;
use crate::rig::node::{BIN, Node, command};
use crate::rig::plugin;

const MANIFEST: &str = include_str!("../../../../manifests/doorbell.yaml");
const KUBELET: &str = "/var/lib/kubelet";
/// Where the image is made.
const IMAGE: &str = "/run/image";
const PROGRAM: &str = "usr/bin/doorbell-device-plugin";
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
    import_image(node).await
}

/// Makes the Dockerfile's last stage, a layer of static programs, into the image that the manifest names.
async fn import_image(node: &Node) -> Result<()> {
    let layer = Path::new(IMAGE).join("layer").join(PROGRAM);
    let folder = layer.parent().context("no folder")?;
    fs::create_dir_all(folder)?;
    for program in ["doorbell-device-plugin", "doorbell"] {
        fs::copy(Path::new(BIN).join(program), folder.join(program))
            .with_context(|| format!("copy {program}"))?;
    }
    let tar = |arguments: &str| {
        let script = format!("cd {IMAGE} && tar -cf {arguments}");
        async move { command("sh", &["-c", &script]).await }
    };
    tar("layer.tar -C layer usr").await?;
    let digest = command("sha256sum", &[&format!("{IMAGE}/layer.tar")]).await?;
    let digest = digest.split(' ').next().unwrap_or_default();
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Entrypoint": [format!("/{PROGRAM}")], "Cmd": ["run"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    fs::write(format!("{IMAGE}/config.json"), config.to_string())?;
    let name = pod("")?.find(PLUGIN).context("no plugin")?.image.clone();
    let tag = format!("docker.io/library/{name}");
    let manifest =
        serde_json::json!([{ "Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"] }]);
    fs::write(format!("{IMAGE}/manifest.json"), manifest.to_string())?;
    tar("image.tar manifest.json config.json layer.tar").await?;
    node.import_image(&Path::new(IMAGE).join("image.tar")).await
}

/// The DaemonSet's pod with this config.
pub(crate) fn pod(config: &str) -> Result<PodSpec> {
    let mut manifest = Manifest::parse(MANIFEST)?;
    manifest.configure("doorbell", "config.yaml", config)?;
    Ok(manifest.pod(Path::new(KUBELET))?)
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
