//! A VM in the machine: QEMU with a VF of this node, and a guest of nothing but busybox. It stands for Kata's, which needs
//! KVM.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use doorbell_common::kernel::pci::PciAddress;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::rig::node::command;

/// Where the testbed's shares are mounted: QEMU, and the kernel.
const QEMU: &str = "/run/vmm/qemu";
const KERNEL: &str = "/run/vmm/kernel";
const BUSYBOX: &str = "/usr/bin/busybox";
/// An emulator in an emulator.
const WITHIN: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(200);
/// What the guest leaves in its root: what ping said, then how it ended.
const PINGED: &str = "pinged";
const ENDED: &str = "ended";

/// A network interface as the guest is to have it.
#[derive(Debug, Clone)]
pub(crate) struct Interface {
    /// By which it is found.
    pub(crate) mac: String,
    pub(crate) name: String,
    pub(crate) mtu: u64,
    pub(crate) ips: Vec<String>,
    /// Destination and gateway, as Kata's agent gets them: an empty destination is the default one.
    pub(crate) routes: Vec<(String, String)>,
}

/// A VM, killed when dropped.
pub(crate) struct Vm {
    child: Child,
    folder: PathBuf,
}

/// Mounts what a VM is made of.
pub(crate) async fn prepare() -> Result<()> {
    for (tag, folder) in [("vmm", QEMU), ("kernel", KERNEL)] {
        fs::create_dir_all(folder)?;
        let options = "ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose";
        command("mount", &["-t", "9p", "-o", options, tag, folder]).await?;
    }
    Ok(())
}

impl Vm {
    /// Starts one whose guest sets up the interface of the function and pings from it.
    pub(crate) fn start(
        name: &str,
        function: PciAddress,
        interface: &Interface,
        target: &str,
    ) -> Result<Self> {
        let folder = PathBuf::from(format!("/tmp/vm-{name}"));
        let root = folder.join("root");
        fill(&root, &init(interface, target))?;
        let log = fs::File::create(folder.join("qemu.log"))?;
        let lib = format!("{QEMU}/lib");
        let child = Command::new(format!("{lib}/ld-linux-x86-64.so.2"))
            .args(["--library-path", &lib, &format!("{QEMU}/bin/qemu-system-x86_64")])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-L", &format!("{QEMU}/firmware"), "-machine", "q35", "-accel", "tcg", "-cpu", "max"])
            .args(["-m", "192", "-kernel", &format!("{KERNEL}/bzImage"), "-append", COMMAND_LINE])
            .args(["-serial", &format!("file:{}", folder.join("console").display())])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", monitor(&folder).display())])
            .args(["-fsdev", &format!("local,id=root,security_model=none,path={}", root.display())])
            .args(["-device", "virtio-9p-pci,fsdev=root,mount_tag=root"])
            // As Kata plugs it: behind a root port.
            .args(["-device", "pcie-root-port,id=below,chassis=1"])
            .args(["-device", &format!("vfio-pci,host={function},bus=below")])
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("start QEMU")?;
        Ok(Self { child, folder })
    }

    /// Waits until the guest has pinged; what ping said.
    pub(crate) async fn pinged(&mut self) -> Result<String> {
        let root = self.folder.join("root");
        let waiting = async {
            while !root.join(ENDED).exists() {
                if let Some(status) = self.child.try_wait()? {
                    bail!("QEMU ended: {status}");
                }
                sleep(PAUSE).await;
            }
            Ok(())
        };
        let waited = timeout(WITHIN, waiting).await.context("the guest has not pinged yet");
        if let Err(error) = waited.and_then(|waited| waited) {
            let read = |name: &str| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
            return Err(error.context(format!("{}\n{}", read("qemu.log"), tail(&read("console")))));
        }
        let said = fs::read_to_string(root.join(PINGED))?;
        let ended = fs::read_to_string(root.join(ENDED))?;
        ensure!(ended.trim() == "0", "ping in the guest ended with {}:\n{said}", ended.trim());
        Ok(said)
    }

    /// Where every byte of the guest's memory goes, as QEMU's `info mtree -f` prints it.
    pub(crate) async fn memory_map(&self) -> Result<String> {
        let stream = UnixStream::connect(monitor(&self.folder)).await.context("connect to QEMU's monitor")?;
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let asked = [
            json!({ "execute": "qmp_capabilities" }),
            json!({ "execute": "human-monitor-command", "arguments": { "command-line": "info mtree -f" } }),
        ];
        let mut answer = Value::Null;
        for asked in asked {
            write.write_all(format!("{asked}\n").as_bytes()).await?;
            // Its greeting and its events come between.
            answer = loop {
                let line = lines.next_line().await?.context("QEMU's monitor has hung up")?;
                let mut said: Value = serde_json::from_str(&line)?;
                match said["return"].take() {
                    Value::Null => ensure!(said.get("error").is_none(), "{asked}: {said}"),
                    answer => break answer,
                }
            };
        }
        Ok(answer.as_str().context("QEMU's monitor said no text")?.to_owned())
    }

    /// Ends it, as the end of its sandbox does.
    pub(crate) async fn end(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// No time is lost on what an emulated guest need not be kept from.
const COMMAND_LINE: &str = "root=root rootfstype=9p rootflags=trans=virtio,version=9p2000.L rw init=/init \
                            console=ttyS0 panic=-1 no_timer_check nowatchdog nokaslr mitigations=off";

fn monitor(folder: &Path) -> PathBuf {
    folder.join("monitor")
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// The guest's root: busybox, and what it runs.
fn fill(root: &Path, init: &str) -> Result<()> {
    for folder in ["bin", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).context("copy busybox")?;
    for applet in ["sh", "mount", "cat", "ip", "ping", "sleep", "mv"] {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    let file = root.join("init");
    fs::write(&file, init)?;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o755))?)
}

/// What Kata's agent does with an interface: it is found by its MAC address, and named, addressed and switched on.
fn init(interface: &Interface, target: &str) -> String {
    let Interface { mac, name, mtu, ips, routes } = interface;
    let ips: String = ips.iter().map(|ip| format!("ip addr add {ip} dev {name}\n")).collect();
    let routes: String = routes
        .iter()
        .map(|(destination, gateway)| {
            let destination = if destination.is_empty() { "default" } else { destination };
            let via = if gateway.is_empty() { String::new() } else { format!("via {gateway} ") };
            format!("ip route add {destination} {via}dev {name}\n")
        })
        .collect();
    format!(
        "#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
for link in /sys/class/net/*; do
    [ \"$(cat $link/address)\" != {mac} ] || found=${{link##*/}}
done
{{
    ip link set $found name {name} mtu {mtu}
    {ips}    ip link set {name} up
    {routes}    ip addr
    ip route
    ping -c 5 -W 20 {target}
}} >/{PINGED} 2>&1
echo $? >/{ENDED}.new
mv /{ENDED}.new /{ENDED}
while :; do sleep 1000; done
"
    )
}
