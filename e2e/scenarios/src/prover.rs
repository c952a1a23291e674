//! A plugin in a container that is not privileged: its root is read-only, two capabilities are all that it has, and its
//! device cgroup denies every device node. The prover beside it makes the one attach that it may not.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use doorbell_common::claim;
use doorbell_common::host::Host;
use e2e_kubelet::Kubelet;
use serde_json::json;
use tokio::process::Command;

use crate::Story;
use crate::rig::node::{BIN, Node};
use crate::rig::plugin::{self, CONFIG, FAST, Plugin};
use crate::rig::{WITHIN, outside, pods, stranger};

const POOLS: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  select: {pfNames: ['0000:01:00.0#0-0']}
  prepare: {numVfs: 4}
";
const VF: &str = "0000:01:00.1";
const OUTSIDE: &str = "0000:01:00.4";
const BUNDLE: &str = "/run/unprivileged";
const SHARED: &str = "/run/doorbell-prover";
/// What of the host the container has, besides an empty root: a folder there, and where the container sees it.
const WRITABLE: [(&str, &str); 6] = [
    ("/sys", "/sys"),
    ("/dev", "/dev"),
    ("/run", "/run"),
    ("/run", "/var/run"),
    ("/var/lib/doorbell", "/var/lib/doorbell"),
    ("/var/lib/kubelet", "/var/lib/kubelet"),
];
const READ_ONLY: [&str; 3] = ["/proc", "/etc", BIN];

pub(crate) async fn unprivileged(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;

    let alone = start().await?;
    let line = alone.logged(&["the prover at", "does not answer"]).await?;
    ensure!(line.contains("not permitted"), "{line}");
    let allocatable = kubelet.view().resources.get(FAST).map_or(0, e2e_kubelet::ResourceView::allocatable);
    ensure!(allocatable == 0, "{allocatable} devices are advertised that nobody attached");
    story.tell(format!(
        "in a container that is not privileged, without the prover, nothing is advertised: {line}"
    ));
    alone.terminate().await?;

    fs::create_dir_all(SHARED)?;
    let mut prover = Command::new(plugin::program())
        .arg("prove")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("start the prover")?;
    let running = start().await?;
    kubelet.wait_allocatable(FAST, 1, WITHIN).await?;
    outside::set_up(OUTSIDE).await?;
    ring(kubelet).await?;
    story.tell("with it the VF is proven, and a pod rang its doorbell");

    let node = pods::vfio_nodes(&VF.parse()?)?.own().to_owned();
    let stray = stranger::hold(&node)?;
    kubelet.wait_allocatable(FAST, 0, WITHIN).await?;
    stranger::end(stray).await?;
    kubelet.wait_allocatable(FAST, 1, WITHIN).await?;
    let unwatched = running.warnings().iter().filter(|line| line.contains("nodes are not watched")).count();
    ensure!(unwatched == 1, "said {unwatched} times that nodes are not watched");
    story.tell(format!("who else opens {node} is seen without a watch on it, which is said once"));
    let ended = running.terminate().await?;
    ensure!(ended.success(), "the plugin ended with {ended}");
    prover.kill().await?;
    Ok(())
}

/// A pod drives the VF, and its end leaves nothing.
async fn ring(kubelet: &Kubelet) -> Result<()> {
    let address = "10.9.0.11";
    let pod = kubelet.run_pod(pods::probing("a", FAST, address), WITHIN).await?;
    pods::up(kubelet, &pod).await?;
    outside::ping(address).await?;
    pods::done(kubelet, &pod).await?;
    kubelet.stop_pod(&pod).await?;
    kubelet.remove_pod(&pod).await?;
    let claims = claim::ids(&Host::real())?;
    ensure!(claims.is_empty(), "claims of {claims:?} are left");
    Ok(())
}

/// The plugin by runc.
async fn start() -> Result<Plugin> {
    for (folder, _) in WRITABLE {
        fs::create_dir_all(folder)?;
    }
    fs::create_dir_all(format!("{BUNDLE}/rootfs"))?;
    fs::write(format!("{BUNDLE}/config.json"), bundle().to_string())?;
    let run = format!("exec runc run --bundle {BUNDLE} unprivileged");
    Plugin::start_under(&["sh", "-c", &run], POOLS).await
}

/// A container of the runtime specification: the host's processes and network, and of its devices none.
fn bundle() -> serde_json::Value {
    let capabilities = json!(["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]);
    let mount = |from: &str, to: &str, mode: &str| json!({ "source": from, "destination": to, "type": "bind", "options": ["rbind", mode] });
    let writable = WRITABLE.iter().map(|(from, to)| mount(from, to, "rw"));
    let mounts: Vec<_> = writable.chain(READ_ONLY.iter().map(|folder| mount(folder, folder, "ro"))).collect();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": [plugin::program(), "run", "--config", CONFIG],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "root": { "path": "rootfs", "readonly": true },
        "mounts": mounts,
        "linux": {
            "cgroupsPath": "/unprivileged",
            "namespaces": [{ "type": "mount" }],
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
        },
    })
}
