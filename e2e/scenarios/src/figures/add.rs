//! An ADD of a VF by VFIO, behind another plugin, beside its floor: the same opens, ioctls, fsyncs and renames on the same
//! VF alone ([`e2e_probe::floor`]).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use doorbell_common::kernel::vfio::Nodes;
use doorbell_common::subdevice::DeviceId;
use e2e_kubelet::{Kubelet, PodUid};
use tokio::time::Instant;

use super::document::{Adds, Calls, Step, Target};
use super::processor::OneProcessor;
use super::{steps, trace};
use crate::Story;
use crate::rig::node::{BIN, CNI_BIN, command};
use crate::rig::plugin::FAST;
use crate::rig::times::Times;
use crate::rig::{cni, pods};

/// ADD may take so many times its floor.
const TARGET: f64 = 1.2;
/// On the same disks as what ADD writes, and out of the plugin's sight.
const LASTING: &str = "/var/lib/doorbell-floor";
const PASSING: &str = "/run/doorbell-floor";
const TRACE: &str = "/run/doorbell-trace";
const SANDBOX: &str = "c1";
const POD: &str = "a";
/// What the plugin before ours says, which ours says again.
const PREVIOUS: &str = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"}],"dns":{}}"#;

/// What came of it.
pub(super) struct Added {
    pub(super) target: Target,
    pub(super) times: Adds,
    pub(super) steps: Vec<Step>,
    pub(super) calls: Calls,
}

/// A pod that has a device, and whose sandbox is made by hand: with both programs, on the guest's own disk.
pub(super) struct Wired {
    pod: PodUid,
    device: DeviceId,
    add: String,
    floor: Vec<String>,
}

impl Wired {
    /// Has the pod admitted.
    pub(super) async fn begin(kubelet: &Kubelet) -> Result<Self> {
        let pod = pods::admitted(kubelet, pods::probing(POD, FAST, "10.9.0.11")).await?;
        let device = pods::device(kubelet, &pod, FAST)?;
        let Nodes::Group { group, container } = pods::vfio_nodes(&device)? else {
            bail!("{device} is not handed out by its group, which the floor is for");
        };
        let area = pods::described(&device)?.doorbell.area.context("the device has no doorbell")?;
        for folder in [LASTING, PASSING] {
            fs::create_dir_all(folder)?;
        }
        let [add, floor] = ["doorbell", "doorbell-floor"].map(|name| format!("{CNI_BIN}/{name}"));
        fs::copy(Path::new(BIN).join("doorbell-floor"), &floor).context("install the floor")?;
        fs::set_permissions(&floor, fs::Permissions::from_mode(0o755))?;
        let region = area.region.to_string();
        let [lasting, passing] = [LASTING, PASSING].map(str::to_owned);
        let floor = vec![floor, container.into_owned(), group, device.to_string(), region, lasting, passing];
        Ok(Self { pod, device, add, floor })
    }

    /// So many of each, timed, and as many ADDs by their steps.
    pub(super) async fn measure(&self, story: &Story, count: u32) -> Result<Added> {
        // Once each to begin with, so that what is read of the disk is in memory for all others.
        let (mut adds, mut floors) = (Times::new(), Times::new());
        self.pair(0, &mut adds, &mut floors).await?;
        let (mut adds, mut floors) = (Times::new(), Times::new());
        for turn in 0..count {
            self.pair(turn, &mut adds, &mut floors).await?;
        }
        let times = Adds { add: adds.spread()?, floor: floors.spread()? };
        let (value, floor) = (times.add.p50, times.floor.p50);
        let ratio = value / floor;
        story.tell(format!(
            "ADD of {}: p50 {value:.1} ms, its floor {floor:.1} ms, of {count} each: {ratio:.2}x",
            self.device
        ));

        let _one = OneProcessor::begin()?;
        let mut traced = Vec::new();
        for _ in 0..count {
            traced.push(self.traced_add(trace::MARKS).await?);
        }
        let steps = steps::medians(&traced)?;
        let (add, floor_calls) = (self.traced_add(trace::OF_FLOOR).await?, self.traced_floor().await?);
        let calls = Calls { add: trace::count(&add), floor: trace::count(&floor_calls) };
        let (name, unit) = ("cni add (vfio)".to_owned(), "ms".to_owned());
        let target = Target { name, value, floor, ratio, target: TARGET, unit };
        Ok(Added { target, times, steps, calls })
    }

    /// The pod is gone.
    pub(super) async fn end(self, kubelet: &Kubelet) -> Result<()> {
        Ok(kubelet.remove_pod(&self.pod).await?)
    }

    /// One of each, in an order that changes with each turn.
    async fn pair(&self, turn: u32, adds: &mut Times, floors: &mut Times) -> Result<()> {
        if turn.is_multiple_of(2) {
            self.add(adds).await?;
            self.floor(floors).await
        } else {
            self.floor(floors).await?;
            self.add(adds).await
        }
    }

    /// An ADD, timed, and its DEL, which is not.
    async fn add(&self, times: &mut Times) -> Result<()> {
        let began = Instant::now();
        let answer = cni::add_chained_by(&[&self.add], SANDBOX, POD, PREVIOUS).await?;
        times.since(began);
        answer.succeeded()?;
        cni::del(SANDBOX).await?.succeeded().map(drop)
    }

    /// The floor, timed, after what it left is gone, as it is after a DEL.
    async fn floor(&self, times: &mut Times) -> Result<()> {
        forget()?;
        let words: Vec<&str> = self.floor.iter().map(String::as_str).collect();
        let began = Instant::now();
        command(words[0], &words[1..]).await?;
        times.since(began);
        Ok(())
    }

    async fn traced_add(&self, calls: &str) -> Result<Vec<trace::Call>> {
        let words = [trace::command(calls, TRACE), vec![&self.add]].concat();
        cni::add_chained_by(&words, SANDBOX, POD, PREVIOUS).await?.succeeded()?;
        cni::del(SANDBOX).await?.succeeded()?;
        traced()
    }

    async fn traced_floor(&self) -> Result<Vec<trace::Call>> {
        forget()?;
        let mut words = trace::command(trace::OF_FLOOR, TRACE);
        words.extend(self.floor.iter().map(String::as_str));
        command(words[0], &words[1..]).await?;
        traced()
    }
}

fn traced() -> Result<Vec<trace::Call>> {
    let calls = trace::read(Path::new(TRACE))?;
    ensure!(!calls.is_empty(), "strace saw nothing");
    Ok(calls)
}

/// Removes what the floor left in place of what a DEL removes.
fn forget() -> Result<()> {
    for file in [Path::new(LASTING).join("claim"), Path::new(PASSING).join("attachment")] {
        if file.exists() {
            fs::remove_file(file)?;
        }
    }
    Ok(())
}
