//! A node: containerd and the kubelet double, with our CNI binary chained after ptp.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use doorbell_common::host::Host;
use doorbell_common::kernel::pci;
use e2e_kubelet::{Containerd, ContainerdConfig, Kubelet, KubeletConfig, PodUid};

/// Where the testbed puts the programs under test.
pub(crate) const BIN: &str = "/job/bin";
const CNI_CONF: &str = "/etc/cni/net.d";
const CNI_CONF_APART: &str = "/etc/cni/apart.d";
/// The main CNI plugin's.
pub(crate) const CONFLIST: &str = "/etc/cni/net.d/10-pod-network.conflist";
pub(crate) const CNI_BIN: &str = "/opt/cni/bin";
/// What stands for the id of a boot after a reboot that the kernel did not make.
const BOOT_ID: &str = "/run/boot-id";
const NETWORK_READY_WITHIN: Duration = Duration::from_secs(30);

/// The chain of a cluster whose pods have a network of their own, and our plugin behind it.
pub(crate) const CHAINED: &str = r#"{
  "cniVersion": "1.0.0",
  "name": "pod-network",
  "plugins": [
    { "type": "ptp", "ipam": { "type": "host-local", "subnet": "10.88.0.0/16", "routes": [{ "dst": "0.0.0.0/0" }] } },
    { "type": "doorbell" }
  ]
}
"#;

/// containerd and the kubelet, running.
pub(crate) struct Node {
    pub kubelet: Kubelet,
    containerd: Option<Containerd>,
}

/// How a node differs from most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// Whether containerd takes CDI names.
    pub(crate) cdi: bool,
    /// The pods' network.
    pub(crate) conflist: &'static str,
    /// Whether our CNI binary is there.
    pub(crate) cni: bool,
    /// A handler of a RuntimeClass, which is runc all the same.
    pub(crate) handler: Option<&'static str>,
    /// Another one, whose pods have a network of their own: its name and that network.
    pub(crate) apart: Option<(&'static str, &'static str)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { cdi: true, conflist: CHAINED, cni: true, handler: None, apart: None }
    }
}

impl Node {
    /// Installs the CNI binary and the chain, and starts both.
    pub(crate) async fn start() -> Result<Self> {
        Self::with(Setup::default()).await
    }

    /// Likewise, on a node that differs.
    pub(crate) async fn with(Setup { cdi, conflist, cni, handler, apart }: Setup) -> Result<Self> {
        install_cni(conflist, cni)?;
        let mut config = ContainerdConfig { cdi, ..ContainerdConfig::new(CNI_CONF, CNI_BIN) };
        config.handlers.extend(handler.map(str::to_owned));
        if let Some((name, conflist)) = apart {
            fs::create_dir_all(CNI_CONF_APART)?;
            fs::write(Path::new(CNI_CONF_APART).join("10-apart.conflist"), conflist)?;
            config.handlers.push(name.to_owned());
            config.handler_networks.insert(name.to_owned(), CNI_CONF_APART.into());
        }
        let containerd = Containerd::start(config).await?;
        let mut config = KubeletConfig::new("/var/lib/kubelet");
        config.runtime = Some(containerd.socket());
        let kubelet = Kubelet::start(config).await?;
        kubelet.wait_network_ready(NETWORK_READY_WITHIN).await?;
        Ok(Self { kubelet, containerd: Some(containerd) })
    }
}

impl Node {
    /// Gives containerd an image, from a docker archive.
    pub(crate) async fn import_image(&self, archive: &Path) -> Result<()> {
        let containerd = self.containerd.as_ref().context("there is no containerd")?;
        Ok(containerd.import_image(archive).await?)
    }

    /// Restarts containerd; pods stay.
    pub(crate) async fn restart_containerd(&mut self) -> Result<()> {
        let config = self.containerd.take().context("there is no containerd")?.stop().await;
        self.containerd = Some(Containerd::start(config).await?);
        Ok(self.kubelet.wait_network_ready(NETWORK_READY_WITHIN).await?)
    }
}

fn install_cni(conflist: &str, cni: bool) -> Result<()> {
    fs::create_dir_all(CNI_CONF)?;
    fs::create_dir_all(CNI_BIN)?;
    fs::write(CONFLIST, conflist)?;
    if cni {
        let installed = Path::new(CNI_BIN).join("doorbell");
        fs::copy(Path::new(BIN).join("doorbell"), &installed).context("install the CNI binary")?;
        fs::set_permissions(&installed, fs::Permissions::from_mode(0o755))?;
    }
    // ptp routes between the pods and the node.
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    Ok(())
}

/// Loads what vDPA pools need, as an administrator would.
pub(crate) async fn vdpa_modules() -> Result<()> {
    for module in ["vdpa", "vp_vdpa", "vhost_vdpa", "virtio_vdpa"] {
        command("modprobe", &[module]).await?;
    }
    Ok(())
}

/// Makes VFs without a driver, as somebody does who is not the plugin; the kernel takes another number by way of 0 only.
pub(crate) fn make_vfs(pf: &str, count: u32) -> Result<()> {
    let folder = pci::folder(pf.parse()?);
    Host::real().write_attribute(format!("{folder}/sriov_drivers_autoprobe"), "0")?;
    Ok(Host::real().write_attribute(format!("{folder}/sriov_numvfs"), &count.to_string())?)
}

/// What a reboot does besides ending all processes: /run has nothing of ours, and the boot has another id.
pub(crate) async fn reboot() -> Result<()> {
    for folder in ["/run/doorbell", "/run/cdi", "/run/k8s.cni.cncf.io"] {
        // Where devices go by DeviceSpec there is no /run/cdi.
        let _ = fs::remove_dir_all(folder);
    }
    let is_first = !Path::new(BOOT_ID).exists();
    fs::write(BOOT_ID, PodUid::generate().as_str())?;
    if is_first {
        command("mount", &["--bind", BOOT_ID, "/proc/sys/kernel/random/boot_id"]).await?;
    }
    Ok(())
}

/// Runs a program of the guest to its end; its stdout, if it ended well.
pub(crate) async fn command(program: &str, arguments: &[&str]) -> Result<String> {
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}: {said}", arguments.join(" "), output.status);
    Ok(String::from_utf8(output.stdout)?)
}
