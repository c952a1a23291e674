//! What things cost on the testbed: a CNI ADD beside its floor, and its steps; a pod's start with our CNI and device and
//! without; a ring and a round trip by each way to ring.
//!
//! The machine is emulated, with two processors of a busy host: of its times the ratios are what says something. So the
//! two of a pair take turns, each in a process of its own, and medians are told. What is measured goes to the job's
//! results as one [`Document`]. By default it is measured a time or two, which shows that it can be measured; how often is
//! the arguments' to say: ADDs, pods, rings, round trips.

mod add;
mod data_path;
mod document;
mod pod_start;
mod processor;
mod steps;
mod trace;

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::{Node, Setup};
use crate::rig::plugin::{FAST, Plugin};

pub use document::{Adds, Calls, DataPath, Document, FILE, PodStart, Ratios, Step, Target};

const PROCESSORS: &str = "/proc/cpuinfo";
/// Two VFs to hand out, of four as in the main job.
const CONFIG: &str = crate::main_job::CONFIG;
const VFS: usize = 2;
/// The network of pods without our plugin: the rest of the chain.
const WITHOUT_OURS: (&str, &str) = (
    "plain",
    r#"{
  "cniVersion": "1.0.0",
  "name": "plain",
  "plugins": [
    { "type": "ptp", "ipam": { "type": "host-local", "subnet": "10.89.0.0/16", "routes": [{ "dst": "0.0.0.0/0" }] } }
  ]
}
"#,
);

/// How often each thing is measured.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// ADDs, and as many of its floor.
    pub adds: u32,
    /// Pods with our device, and as many without.
    pub pods: u32,
    /// Rings, each way.
    pub rings: u32,
    /// Round trips, each way.
    pub round_trips: u32,
}

impl Counts {
    /// Enough to see that all of it can be measured.
    pub const FEW: Self = Self { adds: 1, pods: 1, rings: 200, round_trips: 10 };

    /// As the words of a command line, which [`Counts::parse`] reads.
    #[must_use]
    pub fn words(self) -> [String; 4] {
        [self.adds, self.pods, self.rings, self.round_trips].map(|count| count.to_string())
    }

    /// From such words; few where there are none.
    fn parse(words: &[String]) -> Result<Self> {
        if words.is_empty() {
            return Ok(Self::FEW);
        }
        let count = |word: &String| {
            let count = word.parse().with_context(|| format!("`{word}` is no count"))?;
            ensure!(count > 0, "nothing is measured 0 times");
            Ok(count)
        };
        let counts = words.iter().map(count).collect::<Result<Vec<u32>>>()?;
        let [adds, pods, rings, round_trips] = counts[..] else {
            anyhow::bail!("ADDs, pods, rings and round trips are wanted, not {} counts", words.len())
        };
        Ok(Self { adds, pods, rings, round_trips })
    }
}

pub(crate) async fn figures(story: Story) -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let counts = Counts::parse(&arguments)?;
    let node = Node::with(Setup { apart: Some(WITHOUT_OURS), ..Setup::default() }).await?;
    let kubelet = &node.kubelet;
    let plugin = Plugin::start(CONFIG).await?;
    kubelet.wait_allocatable(FAST, VFS, WITHIN).await?;
    let wired = add::Wired::begin(kubelet).await?;
    // It looks at who opens VFs, which takes a processor from whoever does.
    plugin.terminate().await?;
    let added = wired.measure(&story, counts.adds).await?;
    wired.end(kubelet).await?;

    let _plugin = Plugin::start(CONFIG).await?;
    kubelet.wait_allocatable(FAST, VFS, WITHIN).await?;
    let pod_start = pod_start::measure(&story, kubelet, WITHOUT_OURS.0, counts.pods).await?;
    let data_path = data_path::measure(&story, kubelet, counts).await?;

    let document = Document {
        machine: processors()?,
        binaries: None,
        targets: vec![added.target],
        adds: added.times,
        steps: added.steps,
        calls: added.calls,
        pod_start,
        data_path: DataPath::of(data_path),
    };
    document.check()?;
    std::fs::write(Path::new("/job/out").join(FILE), serde_json::to_vec_pretty(&document)?)?;
    Ok(())
}

/// How many processors there are, and of which model.
fn processors() -> Result<String> {
    let text = std::fs::read_to_string(PROCESSORS).with_context(|| format!("read {PROCESSORS}"))?;
    let models: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("model name")).collect();
    let model = models.first().map(|model| model.trim_start_matches([' ', '\t', ':']));
    Ok(format!("{} of {}", models.len(), model.with_context(|| format!("{PROCESSORS} names no model"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_four_or_few() {
        let parse = |words: &[&str]| {
            Counts::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>()).map(Counts::words)
        };
        assert_eq!(parse(&["5", "20", "1000", "30"]).unwrap(), ["5", "20", "1000", "30"]);
        assert_eq!(parse(&[]).unwrap(), Counts::FEW.words());
        for (words, error) in [
            (&["5"][..], "ADDs, pods, rings and round trips are wanted, not 1 counts"),
            (&["5", "x", "1", "1"], "`x` is no count"),
            (&["5", "0", "1", "1"], "nothing is measured 0 times"),
        ] {
            assert_eq!(parse(words).unwrap_err().to_string(), error);
        }
    }
}
