//! Calls in an order that chance makes, some killed on the way, some side by side, on a disk that fills up and a node
//! that is booted: whatever happened, the device has one owner, who has all of it, and in the end nobody has anything.
//!
//! `DOORBELL_SEED` replays one sequence. That the storm finds what it is for is shown by bugs that are planted.

use std::fs;
use std::process::Command;

use doorbell_common::fault::dice::Dice;
use doorbell_common::kernel::link::{self as kernel_link, LinkChange};
use serde_json::json;

use super::{End, NEVER, SANDBOXES, World};
use crate::netdev;
use crate::rig::link;

/// Sequences of a storm.
const SEQUENCES: u64 = 40;
/// What happens in one.
const EVENTS: u64 = 12;
/// An ADD has a few less.
const STEPS: u64 = 60;

/// A sequence under way.
struct Sequence {
    world: World,
    dice: Dice,
    /// The sandbox whose ADD went through last, and that was not touched since.
    owner: Option<&'static str>,
    log: Vec<String>,
}

impl Sequence {
    fn of(seed: u64) -> Self {
        Self { world: World::new(), dice: Dice::of(seed), owner: None, log: Vec::new() }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..EVENTS {
            self.event()?;
            if let Some(owner) = self.owner {
                self.world.is_wired(owner).map_err(|what| format!("{owner}: {what}"))?;
            }
        }
        for sandbox in SANDBOXES {
            let end = self.call(sandbox, "DEL", NEVER);
            if end != End::Succeeded {
                return Err(format!("the last DEL of {sandbox}: {end:?}"));
            }
        }
        self.world.is_restored()
    }

    fn event(&mut self) -> Result<(), String> {
        let sandbox = self.dice.pick(&SANDBOXES);
        let step = if self.dice.one_in(2) { 1 + self.dice.below(STEPS) } else { NEVER };
        match self.dice.below(10) {
            0..4 => self.add(sandbox, step),
            // Most often of who has something to give back.
            4..6 => self.del(self.owner.filter(|_| step % 3 != 0).unwrap_or(sandbox), step),
            6 => self.gc(step),
            7 => self.side_by_side(sandbox),
            8 => return self.check(sandbox),
            _ => self.boot(),
        }
        Ok(())
    }

    fn call(&mut self, sandbox: &'static str, verb: &str, step: u64) -> End {
        let end = self.world.call(sandbox, verb, step);
        self.log.push(format!("{verb} {sandbox} at step {step}: {end:?}"));
        end
    }

    fn add(&mut self, sandbox: &'static str, step: u64) {
        // A runtime never asks twice for one sandbox.
        if self.owner == Some(sandbox) {
            return;
        }
        match self.call(sandbox, "ADD", step) {
            End::Succeeded => self.owner = Some(sandbox),
            // Of what it took over it may have undone part; its own is undone by the DEL that runtimes make.
            End::Failed => {
                self.owner = None;
                self.call(sandbox, "DEL", NEVER);
            }
            End::Killed => self.owner = None,
        }
    }

    fn del(&mut self, sandbox: &'static str, step: u64) {
        self.call(sandbox, "DEL", step);
        if self.owner == Some(sandbox) {
            self.owner = None;
        }
    }

    fn gc(&mut self, step: u64) {
        let valid: Vec<&str> = self.owner.into_iter().collect();
        let end = self.world.gc(&valid, step);
        self.log.push(format!("GC at step {step}, valid {valid:?}: {end:?}"));
    }

    /// A late DEL of one beside the ADD of another.
    fn side_by_side(&mut self, late: &'static str) {
        let next = self.dice.pick(&SANDBOXES);
        if next == late || self.owner == Some(next) {
            return;
        }
        let conf = super::network();
        let (add, del) =
            (self.world.start(next, "ADD", &conf, NEVER), self.world.start(late, "DEL", &conf, NEVER));
        let (added, deleted) = (self.world.end(add), self.world.end(del));
        self.log.push(format!("ADD {next} beside DEL {late}: {added:?}, {deleted:?}"));
        self.owner = (added == End::Succeeded).then_some(next);
        if added == End::Failed {
            self.call(next, "DEL", NEVER);
        }
    }

    /// Of whoever; it finds what its owner has, and nothing of the others.
    fn check(&mut self, sandbox: &'static str) -> Result<(), String> {
        let mut conf = super::network();
        let interface = json!({ "name": "net1", "sandbox": super::netns(sandbox), "mac": conf["mac"] });
        conf["prevResult"] = json!({ "cniVersion": "1.1.0", "interfaces": [interface] });
        let end = self.world.end(self.world.start(sandbox, "CHECK", &conf, NEVER));
        self.log.push(format!("CHECK {sandbox}: {end:?}"));
        match (self.owner == Some(sandbox), end) {
            (true, End::Failed) => Err(format!("CHECK finds nothing of {sandbox}, which is wired")),
            (false, End::Succeeded) if self.owner.is_some() => Err(format!("CHECK finds {sandbox} wired")),
            _ => Ok(()),
        }
    }

    /// Namespaces are gone, interfaces are on the host as drivers make them, /run is empty but for what the plugin
    /// publishes anew.
    fn boot(&mut self) {
        self.log.push("boot".to_owned());
        let World { node, sandboxes, before } = &self.world;
        for netns in sandboxes {
            let mut inside = netdev::open(netns).unwrap();
            if let Some(link) = link(&mut inside, "net1") {
                kernel_link::move_to(netns, link.index, &node.rig.own, &"d0".parse().unwrap()).unwrap();
            }
        }
        let mut own = node.rig.links();
        if let Some(link) = link(&mut own, "d0") {
            kernel_link::set(&mut own, link.index, &LinkChange { up: Some(false), ..Default::default() })
                .unwrap();
            let (mac, mtu) = (before.mac, Some(before.mtu));
            kernel_link::set(&mut own, link.index, &LinkChange { mac, mtu, ..Default::default() }).unwrap();
        }
        for file in [
            "/run/doorbell/devices/0000:01:00.1/attachment.json",
            "/var/run/k8s.cni.cncf.io/devinfo/cni/a.json",
        ] {
            let _ = fs::remove_file(node.rig.host.path(file));
        }
        let boot = format!("b{}\n", self.dice.below(1 << 32));
        crate::rig::write(&node.rig.host, "/proc/sys/kernel/random/boot_id", &boot);
        self.owner = None;
    }
}

/// Runs sequences until one fails; tells it.
fn storm() -> Result<(), String> {
    let seed =
        std::env::var("DOORBELL_SEED").ok().map(|seed| seed.parse().expect("DOORBELL_SEED is a number"));
    for seed in seed.map_or(0..SEQUENCES, |seed| seed..seed + 1) {
        let mut sequence = Sequence::of(seed);
        sequence
            .run()
            .map_err(|what| format!("DOORBELL_SEED={seed}: {what}\n  {}", sequence.log.join("\n  ")))?;
    }
    Ok(())
}

#[test]
fn whatever_happens_the_device_has_one_owner_and_in_the_end_none() {
    storm().unwrap_or_else(|what| panic!("{what}"));
}

/// Whether the storm above fails in a process in which a bug is planted.
fn finds(bug: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::storm::whatever_happens_the_device_has_one_owner_and_in_the_end_none"])
        .env("DOORBELL_PLANT", bug)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("DOORBELL_SEED="), "{bug} is not found: {said}");
}

#[test]
fn an_undo_step_that_is_lost_is_found() {
    finds("lost-undo");
}

#[test]
fn a_claim_that_is_released_too_early_is_found() {
    finds("early-release");
}
