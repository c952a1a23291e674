//! A node in which chance rules: pods come and go, and between them everything fails that can. After each sequence the
//! node is as it was: no device has two owners, none is lost, none half wired, nobody's claim is left, and the plugin sees
//! what the kernel has.
//!
//! The seed is told; `doorbell-scenario storm <seed> <sequences>` replays it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use doorbell_common::claim;
use doorbell_common::fault::dice::Dice;
use doorbell_common::formats::descriptor;
use doorbell_common::host::Host;
use doorbell_common::kernel::pci;
use doorbell_common::subdevice::DeviceId;
use e2e_kubelet::{Admission, PodUid};
use tokio::time::Instant;

use crate::Story;
use crate::rig::node::{self, Node, command};
use crate::rig::plugin::{self, FAST, Plugin};
use crate::rig::{WITHIN, cni, links, pods, until};

const PF: &str = "0000:01:00.0";
const VFS: [&str; 4] = ["0000:01:00.1", "0000:01:00.2", "0000:01:00.3", "0000:01:00.4"];
const POOL: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  pfLinkDown: unhealthy
  select: {pfNames: ['0000:01:00.0']}
  prepare: {numVfs: 4}
";
const WRONG: &str = "apiVersion: doorbell.dev/v1\npools: [{name: fast}]\n";
const SEED: u64 = 1;
const SEQUENCES: u64 = 3;
const EVENTS: u64 = 12;
/// From one look at the plugin to the next.
const LOOK: Duration = Duration::from_secs(2);
/// An ADD has fewer steps; later ones never come.
const STEPS: u64 = 90;
/// What the CNI binary is told to die of, next time.
const FAULT: &str = "/run/doorbell-fault";
const INSTALLED: &str = "/opt/cni/bin/doorbell";

pub(crate) async fn storm(story: Story) -> Result<()> {
    let asked = |place| std::env::args().nth(place).map(|text| text.parse::<u64>()).transpose();
    let (seed, sequences) = (asked(2)?.unwrap_or(SEED), asked(3)?.unwrap_or(SEQUENCES));
    let interface = links::name_of_pf(PF)?;
    command("ip", &["link", "set", &interface, "up"]).await?;
    let node = Node::start().await?;
    breakable()?;
    small_disk().await?;
    let plugin = Plugin::start(POOL).await?;
    node.kubelet.wait_allocatable(FAST, VFS.len(), WITHIN).await?;
    let mut storm =
        Storm { node, plugin, dice: Dice::of(0), pods: BTreeMap::new(), named: 0, log: Vec::new() };
    for seed in seed..seed + sequences {
        storm.dice = Dice::of(seed);
        storm.log.clear();
        let passed = storm.sequence().await;
        passed.with_context(|| format!("seed {seed}:\n  {}", storm.log.join("\n  ")))?;
        story.tell(format!("seed {seed}: {}", storm.log.join(", ")));
    }
    story.tell(format!("{sequences} sequences from seed {seed} on: the node is as it was after each"));
    Ok(())
}

/// Has the CNI binary end at the step that the file says, once.
fn breakable() -> Result<()> {
    fs::rename(INSTALLED, format!("{INSTALLED}.whole"))?;
    let script = format!(
        "#!/bin/sh\nfault=$(cat {FAULT} 2>/dev/null); rm -f {FAULT}\nDOORBELL_FAULT=$fault exec {INSTALLED}.whole\n"
    );
    fs::write(INSTALLED, script)?;
    Ok(fs::set_permissions(INSTALLED, fs::Permissions::from_mode(0o755))?)
}

/// Claims have a disk of their own, which fills up.
async fn small_disk() -> Result<()> {
    fs::create_dir_all(claim::FOLDER)?;
    command("mount", &["-t", "tmpfs", "-o", "size=256k", "none", claim::FOLDER]).await.map(drop)
}

fn ballast() -> String {
    format!("{}/ballast", claim::FOLDER)
}

struct Storm {
    node: Node,
    plugin: Plugin,
    dice: Dice,
    /// Pods that run, as far as anybody was told.
    pods: BTreeMap<String, PodUid>,
    named: u64,
    log: Vec<String>,
}

impl Storm {
    async fn sequence(&mut self) -> Result<()> {
        for _ in 0..EVENTS {
            self.supervised().await?;
            self.event().await?;
            self.whole()?;
        }
        self.calm().await?;
        self.as_before().await
    }

    fn tell(&mut self, what: impl Into<String>) {
        self.log.push(what.into());
    }

    async fn event(&mut self) -> Result<()> {
        match self.dice.below(17) {
            0..4 => self.pod().await,
            4..6 => self.end_pod().await,
            6 => {
                self.tell("kubelet restart");
                Ok(self.node.kubelet.restart().await?)
            }
            7 => {
                self.tell("plugin SIGKILL");
                self.plugin.kill().await?;
                self.plugin = Plugin::start_as_configured().await?;
                Ok(())
            }
            8 => {
                self.tell("containerd restart");
                self.node.restart_containerd().await
            }
            9 => self.rebind().await,
            10 if self.pods.is_empty() => self.vfs_gone().await,
            11 if self.pods.is_empty() => self.unplug().await,
            10 | 11 => self.late_del().await,
            12 => {
                self.tell("config swap");
                // The same but for a comment, a wrong one, or one without the caring for links.
                let text = match self.dice.below(3) {
                    0 => format!("# another\n{POOL}"),
                    1 => WRONG.to_owned(),
                    _ => POOL.replace("  pfLinkDown: unhealthy\n", ""),
                };
                plugin::write_config(&text)
            }
            13 => {
                let up = if self.dice.one_in(2) { "up" } else { "down" };
                self.tell(format!("PF link {up}"));
                command("ip", &["link", "set", &links::name_of_pf(PF)?, up]).await.map(drop)
            }
            14 => {
                self.tell("full disk");
                // It takes what it has, and fails.
                let _ = fs::write(ballast(), vec![0; 512 * 1024]);
                Ok(())
            }
            15 => self.reboot().await,
            _ => {
                self.tell("disk freed");
                let _ = fs::remove_file(ballast());
                Ok(())
            }
        }
    }

    /// A pod, whose ADD may be killed; one that can't start goes.
    async fn pod(&mut self) -> Result<()> {
        self.named += 1;
        let name = format!("p{}", self.named);
        let address = format!("10.9.0.{}", 10 + self.named % 200);
        let spec = pods::answering(&name, FAST, &address);
        let pod = match self.node.kubelet.admit(spec).await {
            Ok(Admission::Admitted(pod)) => pod,
            Ok(Admission::Pending { uid, .. }) => {
                self.tell(format!("{name} pending"));
                self.node.kubelet.remove_pod(&uid).await?;
                return Ok(());
            }
            Err(error) => {
                self.tell(format!("{name} not admitted"));
                ensure!(!error.to_string().is_empty(), "without a word");
                return Ok(());
            }
        };
        if self.dice.one_in(2) {
            let step = 1 + self.dice.below(STEPS);
            self.tell(format!("{name}: CNI killed at {step}"));
            fs::write(FAULT, format!("kill:{step}"))?;
        }
        let started = self.node.kubelet.start_pod(&pod).await;
        let _ = fs::remove_file(FAULT);
        match started {
            Ok(_) => {
                self.tell(format!("{name} runs"));
                pods::up(&self.node.kubelet, &pod).await?;
                self.pods.insert(name, pod);
            }
            Err(_) => {
                self.tell(format!("{name} does not start"));
                self.remove(&pod).await?;
            }
        }
        Ok(())
    }

    async fn end_pod(&mut self) -> Result<()> {
        let names: Vec<String> = self.pods.keys().cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        let name = self.dice.pick(&names);
        if self.dice.one_in(2) {
            let step = 1 + self.dice.below(STEPS);
            self.tell(format!("{name} ends, CNI killed at {step}"));
            fs::write(FAULT, format!("kill:{step}"))?;
        } else {
            self.tell(format!("{name} ends"));
        }
        let pod = self.pods.remove(&name).context("a pod was lost")?;
        self.remove(&pod).await
    }

    /// As the kubelet does: again, until it is done.
    async fn remove(&self, pod: &PodUid) -> Result<()> {
        for _ in 0..3 {
            if self.node.kubelet.remove_pod(pod).await.is_ok() {
                return Ok(());
            }
            // A call that was killed is made anew, without its fault.
            let _ = fs::remove_file(FAULT);
        }
        Ok(self.node.kubelet.remove_pod(pod).await?)
    }

    fn held(&self) -> Result<BTreeSet<DeviceId>> {
        self.pods.values().map(|pod| pods::device(&self.node.kubelet, pod, FAST)).collect()
    }

    /// A free VF is taken off its driver and bound back.
    async fn rebind(&mut self) -> Result<()> {
        let held = self.held()?;
        let mut free: Vec<&str> = VFS.to_vec();
        free.retain(|vf| vf.parse().is_ok_and(|id: DeviceId| !held.contains(&id)));
        if free.is_empty() {
            return Ok(());
        }
        let vf = self.dice.pick(&free);
        self.tell(format!("{vf} rebound"));
        pci::bind(&Host::real(), vf.parse()?, "virtio-pci")?;
        if self.dice.one_in(2) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(pci::bind(&Host::real(), vf.parse()?, "vfio-pci")?)
    }

    async fn vfs_gone(&mut self) -> Result<()> {
        self.tell("numVfs 0 and back");
        let folder = pci::folder(PF.parse()?);
        Host::real().write_attribute(format!("{folder}/sriov_numvfs"), "0")?;
        if self.dice.one_in(2) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(Host::real().write_attribute(format!("{folder}/sriov_numvfs"), "4")?)
    }

    async fn unplug(&mut self) -> Result<()> {
        self.tell("PF unplugged and plugged in");
        Host::real().write_attribute(format!("{}/remove", pci::folder(PF.parse()?)), "1")?;
        Host::real().write_attribute("/sys/bus/pci/rescan", "1")?;
        let interface = || links::name_of_pf(PF);
        until("the PF has its interface", || interface().is_ok()).await?;
        command("ip", &["link", "set", &interface()?, "up"]).await?;
        self.settled().await
    }

    /// Nothing runs, the boot is another, the VFs are made anew and the PF's link is up; then the kubelet starts its pods again by
    /// what it was answered before.
    async fn reboot(&mut self) -> Result<()> {
        self.tell("reboot");
        self.plugin.kill().await?;
        self.node.kubelet.reboot().await?;
        node::reboot().await?;
        Host::real().write_attribute(format!("{}/sriov_numvfs", pci::folder(PF.parse()?)), "0")?;
        command("ip", &["link", "set", &links::name_of_pf(PF)?, "up"]).await?;
        self.settled().await?;
        for (name, pod) in std::mem::take(&mut self.pods) {
            self.node.kubelet.readmit(&pod).await?;
            if self.node.kubelet.start_pod(&pod).await.is_ok() {
                pods::up(&self.node.kubelet, &pod).await?;
                self.pods.insert(name, pod);
            } else {
                self.tell(format!("{name} does not start again"));
                self.remove(&pod).await?;
            }
        }
        Ok(())
    }

    /// DEL of a sandbox that was long ago, beside another.
    async fn late_del(&mut self) -> Result<()> {
        self.tell("late DELs");
        let (one, other) = tokio::join!(cni::del("long-gone"), cni::del("longer-gone"));
        one?.succeeded()?;
        other?.succeeded().map(drop)
    }

    /// Every pod that runs has its own device, claimed and told of.
    fn whole(&self) -> Result<()> {
        let held = self.held()?;
        ensure!(held.len() == self.pods.len(), "{} devices for {} pods", held.len(), self.pods.len());
        for (name, pod) in &self.pods {
            let id = pods::device(&self.node.kubelet, pod, FAST)?;
            let Some(claim) = claim::read(&Host::real(), &id)? else { bail!("{id} of {name} has no claim") };
            ensure!(claim.holder.pod.name == *name, "{id} of {name} is claimed by {}", claim.holder.pod.name);
            ensure!(pods::attachment(&id)?.is_some(), "{id} of {name} has no attachment");
        }
        Ok(())
    }

    /// Everything that fails is mended, and every pod ends.
    async fn calm(&mut self) -> Result<()> {
        let _ = fs::remove_file(ballast());
        let _ = fs::remove_file(FAULT);
        for pod in std::mem::take(&mut self.pods).into_values() {
            self.remove(&pod).await?;
        }
        command("ip", &["link", "set", &links::name_of_pf(PF)?, "up"]).await?;
        plugin::write_config(POOL)?;
        self.settled().await
    }

    /// Killed while the config is wrong the plugin does not start again: somebody mends it, and the kubelet tries on.
    async fn supervised(&mut self) -> Result<()> {
        if self.plugin.has_ended()? {
            self.tell("config mended, plugin started");
            plugin::write_config(POOL)?;
            self.plugin = Plugin::start_as_configured().await?;
        }
        Ok(())
    }

    async fn settled(&mut self) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        loop {
            self.supervised().await?;
            match self.node.kubelet.wait_allocatable(FAST, VFS.len(), LOOK).await {
                Ok(_) => return Ok(()),
                Err(late) if Instant::now() >= deadline => return Err(late.into()),
                Err(_) => {}
            }
        }
    }

    async fn as_before(&self) -> Result<()> {
        let claims = claim::ids(&Host::real())?;
        ensure!(claims.is_empty(), "claims are left: {claims:?}");
        for vf in VFS {
            let folder = descriptor::folder(&vf.parse()?);
            ensure!(!Path::new(&folder).join(descriptor::ATTACHMENT_FILE).exists(), "{vf} has an attachment");
            let driver = pci::driver(&Host::real(), vf.parse()?)?;
            ensure!(driver.as_deref() == Some("vfio-pci"), "{vf} is on {driver:?}");
        }
        let rows = plugin::scan().await?;
        ensure!(rows.len() == VFS.len(), "scan shows {} VFs", rows.len());
        ensure!(rows.iter().all(|row| row["advertised"] == true), "scan: {rows:?}");
        ensure!(self.node.kubelet.capacity(FAST) == VFS.len(), "the kubelet knows another number");
        Ok(())
    }
}
