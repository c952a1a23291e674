//! A node in which chance has devices come, go and change, configs swapped and folders removed, under a running plugin:
//! what the kubelet is told is what a look at the node shows.
//!
//! `DOORBELL_SEED` replays one sequence. That the storm finds what it is for is shown by a bug that is planted.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;
mod running;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use doorbell_common::fault::dice::Dice;
use doorbell_common::kernel::netlink::Heard;
use node::{GOOD, Node, PF, Vf};
use running::{FAST, HEALTHY, List, REST, Running, UNHEALTHY, VFS, config};
use tokio::time::{Instant, sleep};

const SEQUENCES: u64 = 8;
const EVENTS: u64 = 15;
/// Far less than it takes until everything is looked at anyway.
const WITHIN: Duration = Duration::from_secs(5);
const OTHER: &str = "- {name: fast, access: vfio, select: {pfNames: ['ens1f0#0']}}\n";

/// A node with its plugin, and what is so of each VF.
struct Sequence {
    running: Running,
    dice: Dice,
    away: BTreeSet<usize>,
    unbound: BTreeSet<usize>,
    /// Whom the plugin has listed, of the pool as it is: only they stay listed as unhealthy.
    listed: BTreeSet<usize>,
    /// VFs of the pool `fast`, and whether there is the pool `rest`.
    fast: Vec<usize>,
    rest: bool,
    version: u64,
    log: Vec<String>,
}

impl Sequence {
    fn of(seed: u64) -> Self {
        let node = Node::with(&[GOOD, Vf { group: 8, ..GOOD }, Vf { group: 9, ..GOOD }]);
        Self {
            running: Running::on(node, &[FAST, REST]),
            dice: Dice::of(seed),
            away: BTreeSet::new(),
            unbound: BTreeSet::new(),
            listed: (0..VFS.len()).collect(),
            fast: vec![0, 1],
            rest: true,
            version: 1,
            log: Vec::new(),
        }
    }

    async fn run(mut self) -> Result<(), String> {
        self.agrees().await?;
        for _ in 0..EVENTS {
            // Which of a config and a uevent is heard first says who stays listed.
            if self.event() || self.dice.one_in(3) {
                self.agrees().await?;
            }
        }
        self.agrees().await?;
        self.running.ends().await;
        Ok(())
    }

    /// Whether it is to be seen through before the next.
    fn event(&mut self) -> bool {
        let kind = self.dice.below(8);
        let vf = usize::try_from(self.dice.below(3)).unwrap();
        let there = !self.away.contains(&vf);
        match kind {
            0 | 1 if there => self.goes(vf),
            0 | 1 => self.comes(vf),
            2..5 if there && self.unbound.is_empty() => {
                self.log.push(format!("VF {vf} is unbound"));
                self.running.unbinds(vf);
                self.unbound.insert(vf);
                self.running.says("unbind", "pci", VFS[vf]);
            }
            2..5 if self.unbound.contains(&vf) && there => {
                self.log.push(format!("VF {vf} is bound"));
                self.running.binds(vf);
                self.unbound.remove(&vf);
                self.running.says("bind", "pci", VFS[vf]);
            }
            5 => {
                self.swaps();
                return true;
            }
            6 => {
                self.log.push("a wrong config".to_owned());
                self.version += 1;
                config(&self.running.node, &self.version.to_string(), &["- {name: fast}\n"]);
            }
            7 => {
                self.log.push("the kubelet's folder is removed".to_owned());
                let _ = fs::remove_dir_all(self.running.node.at("var/lib/kubelet/device-plugins"));
            }
            _ => {
                self.log.push("uevents are lost".to_owned());
                self.running.uevents.send(Heard::Lost).unwrap();
            }
        }
        // Before a config, all that was before.
        self.dice.clone().below(8) == 5
    }

    fn goes(&mut self, vf: usize) {
        // What is unbound has its folder's parts elsewhere.
        if self.unbound.contains(&vf) {
            return;
        }
        self.log.push(format!("VF {vf} goes"));
        let node = &self.running.node;
        fs::remove_file(node.at(&format!("sys/bus/pci/devices/{PF}/virtfn{vf}"))).unwrap();
        let folder = node.at(&format!("sys/bus/pci/devices/{}", VFS[vf]));
        fs::rename(folder, node.at(&format!("away{vf}"))).unwrap();
        self.away.insert(vf);
        self.listed.remove(&vf);
        self.running.says("remove", "pci", VFS[vf]);
    }

    fn comes(&mut self, vf: usize) {
        self.log.push(format!("VF {vf} comes"));
        let node = &self.running.node;
        let folder = node.at(&format!("sys/bus/pci/devices/{}", VFS[vf]));
        fs::rename(node.at(&format!("away{vf}")), folder).unwrap();
        symlink(format!("../{}", VFS[vf]), node.at(&format!("sys/bus/pci/devices/{PF}/virtfn{vf}"))).unwrap();
        self.away.remove(&vf);
        self.listed.insert(vf);
        self.running.says("add", "pci", VFS[vf]);
    }

    fn swaps(&mut self) {
        let (narrow, rest) = (self.dice.one_in(2), self.dice.one_in(2));
        self.log.push(format!("config: fast narrow {narrow}, rest {rest}"));
        self.version += 1;
        let fast: Vec<usize> = if narrow { vec![0] } else { vec![0, 1] };
        let pools: &[&str] = &[if narrow { OTHER } else { FAST }, if rest { REST } else { "" }];
        config(&self.running.node, &self.version.to_string(), pools);
        // Who is not healthy when a pool becomes another is not listed in it.
        let changed = |was: &[usize], is: &[usize], vf: &usize| was != is && is.contains(vf);
        for vf in self.unbound.clone() {
            let of_rest: (&[usize], &[usize]) =
                (if self.rest { &[2] } else { &[] }, if rest { &[2] } else { &[] });
            if changed(&self.fast, &fast, &vf) || changed(of_rest.0, of_rest.1, &vf) {
                self.listed.remove(&vf);
            }
        }
        self.fast = fast;
        self.rest = rest;
    }

    fn expected(&self, vfs: &[usize]) -> List {
        let of = |vf: &usize| {
            let healthy = !self.unbound.contains(vf);
            let there = !self.away.contains(vf) && (healthy || self.listed.contains(vf));
            there.then(|| (VFS[*vf].to_owned(), if healthy { HEALTHY } else { UNHEALTHY }.to_owned()))
        };
        vfs.iter().filter_map(of).collect()
    }

    /// Whether each pool comes to say what is so.
    async fn agrees(&mut self) -> Result<(), String> {
        // What is healthy now is listed from now on.
        let healthy: Vec<usize> = (0..VFS.len()).filter(|vf| !self.unbound.contains(vf)).collect();
        self.agree("fast", &self.fast).await?;
        if self.rest {
            self.agree("rest", &[2]).await?;
        }
        self.listed.extend(healthy);
        Ok(())
    }

    async fn agree(&self, pool: &str, vfs: &[usize]) -> Result<(), String> {
        let expected = self.expected(vfs);
        let deadline = Instant::now() + WITHIN;
        loop {
            let said = self.running.said(pool).await;
            if said.as_ref() == Some(&expected) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let log = self.log.join("\n  ");
                return Err(format!("{pool} says {said:?}, and it is {expected:?}\n  {log}"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn whatever_happens_the_kubelet_is_told_what_is_so() {
    let seed =
        std::env::var("DOORBELL_SEED").ok().map(|seed| seed.parse().expect("DOORBELL_SEED is a number"));
    for seed in seed.map_or(0..SEQUENCES, |seed| seed..seed + 1) {
        Sequence::of(seed).run().await.unwrap_or_else(|what| panic!("DOORBELL_SEED={seed}: {what}"));
    }
}

#[test]
fn a_uevent_that_is_missed_is_found() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "whatever_happens_the_kubelet_is_told_what_is_so"])
        .env("DOORBELL_PLANT", "missed-uevent")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("DOORBELL_SEED="), "it is not found: {said}");
}
