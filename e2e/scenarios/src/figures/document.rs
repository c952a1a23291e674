//! What was measured, as one JSON document and as a table.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, ensure};
use e2e_probe::report::Benched;
use e2e_probe::spread::Spread;
use serde::{Deserialize, Serialize};

/// Its name among a job's results.
pub const FILE: &str = "figures.json";

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// What the guest's processors are, as they say: emulated ones say so.
    pub machine: String,
    /// The cargo profile of the CNI binary, its floor and the probe, where the host says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binaries: Option<String>,
    /// What there is a bound for.
    pub targets: Vec<Target>,
    /// Times of ADDs and of their floor.
    pub adds: Adds,
    /// Where an ADD's time goes, in its order.
    pub steps: Vec<Step>,
    /// System calls of the kinds that the floor is made of.
    pub calls: Calls,
    /// The start of pods.
    pub pod_start: PodStart,
    /// What ringing costs.
    pub data_path: DataPath,
}

/// A figure with its floor, and the most that it may be of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// What was measured.
    pub name: String,
    /// The median.
    pub value: f64,
    /// The median of its floor, in the same run.
    pub floor: f64,
    /// `value` by `floor`.
    pub ratio: f64,
    /// The most that the ratio may be.
    pub target: f64,
    /// Of value and floor.
    pub unit: String,
}

/// From the start of the process to its end, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adds {
    /// Of an ADD.
    pub add: Spread,
    /// Of its floor.
    pub floor: Spread,
}

/// A step of an ADD, the median of those that ran under strace: slower than the others, by what strace takes for each call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it does.
    pub name: String,
    /// How long it took.
    pub millis: f64,
}

/// How often each system call was made that the floor is made of, by what it was about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    /// By an ADD.
    pub add: BTreeMap<String, u32>,
    /// By its floor.
    pub floor: BTreeMap<String, u32>,
}

/// From a pod's admission until its container runs, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodStart {
    /// With our plugin in the chain, and a device of ours in the container.
    pub with: Spread,
    /// With neither.
    pub without: Spread,
    /// Of the medians: ours.
    pub difference: f64,
}

/// Rings and round trips, and what they are to those by the mapped page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataPath {
    /// As measured, in nanoseconds.
    pub measured: Benched,
    /// Medians, by that of the mapped page.
    pub ratios: Ratios,
}

/// Medians of the other ways to ring, by that of the mapped page.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratios {
    /// Of a ring by `pwrite`.
    pub ring_pwrite: f64,
    /// Of a kick of an eventfd.
    pub ring_eventfd: f64,
    /// Of a round trip by `pwrite`.
    pub round_trip_pwrite: f64,
    /// Of one by an eventfd that a thread relays.
    pub round_trip_relayed: f64,
}

impl DataPath {
    /// With its ratios.
    #[must_use]
    pub fn of(measured: Benched) -> Self {
        let Benched { rings, round_trips, .. } = &measured;
        let ratios = Ratios {
            ring_pwrite: rings.pwrite.p50 / rings.mapped.p50,
            ring_eventfd: rings.eventfd.p50 / rings.mapped.p50,
            round_trip_pwrite: round_trips.pwrite.p50 / round_trips.mapped.p50,
            round_trip_relayed: round_trips.relayed.p50 / round_trips.mapped.p50,
        };
        Self { measured, ratios }
    }
}

impl Document {
    /// Fails unless all of it was measured: every number finite and above zero, but for what a difference or a count of
    /// exceptions may be; and ADD and its floor made the same calls.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.targets.is_empty() && !self.steps.is_empty(), "there is no target or no step");
        let of_targets =
            self.targets.iter().flat_map(|target| [target.value, target.floor, target.ratio, target.target]);
        let of_steps = self.steps.iter().map(|step| step.millis);
        let Benched { rings, round_trips, .. } = &self.data_path.measured;
        let spreads = [
            self.adds.add,
            self.adds.floor,
            self.pod_start.with,
            self.pod_start.without,
            rings.mapped,
            rings.pwrite,
            rings.eventfd,
            round_trips.mapped,
            round_trips.pwrite,
            round_trips.relayed,
        ];
        let of_spreads = spreads.iter().flat_map(|spread| [spread.min, spread.p50, spread.p99, spread.max]);
        let Ratios { ring_pwrite, ring_eventfd, round_trip_pwrite, round_trip_relayed } =
            self.data_path.ratios;
        let of_ratios = [ring_pwrite, ring_eventfd, round_trip_pwrite, round_trip_relayed];
        let numbers: Vec<f64> = of_targets.chain(of_steps).chain(of_spreads).chain(of_ratios).collect();
        ensure!(
            numbers.iter().all(|number| number.is_finite() && *number > 0.0),
            "not all is measured: {self:?}"
        );
        ensure!(self.pod_start.difference.is_finite(), "the difference of pods' starts is no number");
        let Calls { add, floor } = &self.calls;
        ensure!(!add.is_empty() && add == floor, "ADD makes the calls {add:?}, and its floor {floor:?}");
        Ok(())
    }

    /// Reads one.
    pub fn parse(text: &[u8]) -> Result<Self> {
        serde_json::from_slice(text).context("read the figures")
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let profile = self.binaries.as_deref().unwrap_or("unknown");
        writeln!(f, "binaries of profile {profile}; processors: {}", self.machine)?;
        for Target { name, value, floor, ratio, target, unit } in &self.targets {
            let met = if ratio <= target { "met" } else { "MISSED" };
            writeln!(
                f,
                "{name:<40} {value:8.1} {unit}, floor {floor:.1} {unit}: {ratio:.2}x, at most {target}x: {met}"
            )?;
        }
        for (what, spread) in [("ADD", self.adds.add), ("floor", self.adds.floor)] {
            let Spread { count, min, p50, max, .. } = spread;
            writeln!(f, "  {what:<38} min {min:.1}, p50 {p50:.1}, max {max:.1} ms of {count}")?;
        }
        let all: f64 = self.steps.iter().map(|step| step.millis).sum();
        writeln!(f, "steps of an ADD, {all:.1} ms under strace:")?;
        for Step { name, millis } in &self.steps {
            writeln!(f, "  {name:<45} {millis:8.2} ms")?;
        }
        let calls: Vec<String> =
            self.calls.add.iter().map(|(call, count)| format!("{count} {call}")).collect();
        writeln!(f, "calls of ADD and of its floor: {}", calls.join(", "))?;
        let PodStart { with, without, difference } = &self.pod_start;
        writeln!(f, "pod start, p50 of {} with ours           {:8.0} ms", with.count, with.p50)?;
        writeln!(
            f,
            "pod start, p50 of {} without             {:8.0} ms: ours is {difference:.0} ms",
            without.count, without.p50
        )?;
        let DataPath { measured: Benched { rings, round_trips, .. }, ratios } = &self.data_path;
        for (what, Spread { p50, p99, .. }, ratio) in [
            ("ring by the mapped page", &rings.mapped, 1.0),
            ("ring by pwrite", &rings.pwrite, ratios.ring_pwrite),
            ("kick of an eventfd that a thread reads", &rings.eventfd, ratios.ring_eventfd),
            ("round trip by the mapped page", &round_trips.mapped, 1.0),
            ("round trip by pwrite", &round_trips.pwrite, ratios.round_trip_pwrite),
            ("round trip by a thread that is kicked", &round_trips.relayed, ratios.round_trip_relayed),
        ] {
            writeln!(f, "{what:<40} p50 {p50:9.0} ns, p99 {p99:9.0} ns: {ratio:.2}x")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use e2e_probe::report::{Rings, RoundTrips};

    use super::*;

    fn document() -> Document {
        let spread = |p50| Spread { count: 2, min: p50 / 2.0, p50, p99: 2.0 * p50, max: 3.0 * p50 };
        let calls: BTreeMap<String, u32> = [("fsync".to_owned(), 8)].into();
        Document {
            machine: "2 of QEMU TCG".to_owned(),
            binaries: Some("release".to_owned()),
            targets: vec![Target {
                name: "cni add (vfio)".to_owned(),
                value: 330.0,
                floor: 300.0,
                ratio: 1.1,
                target: 1.2,
                unit: "ms".to_owned(),
            }],
            adds: Adds { add: spread(330.0), floor: spread(300.0) },
            steps: vec![Step { name: "open".to_owned(), millis: 150.0 }],
            calls: Calls { add: calls.clone(), floor: calls },
            pod_start: PodStart { with: spread(900.0), without: spread(500.0), difference: 400.0 },
            data_path: DataPath::of(Benched {
                device: "0000:01:00.1".to_owned(),
                rings: Rings { mapped: spread(1000.0), pwrite: spread(1500.0), eventfd: spread(3000.0) },
                rings_a_sample: 100,
                round_trips: RoundTrips { mapped: spread(1e5), pwrite: spread(2e5), relayed: spread(3e5) },
                unasked: 0,
            }),
        }
    }

    #[test]
    fn a_document_reads_back_and_shows_its_ratios() {
        let document = document();
        document.check().unwrap();
        assert_eq!(Document::parse(&serde_json::to_vec(&document).unwrap()).unwrap(), document);
        let table = document.to_string();
        for words in ["1.10x, at most 1.2x: met", "ours is 400 ms", "1500 ns, p99      3000 ns: 1.50x"] {
            assert!(table.contains(words), "no `{words}`:\n{table}");
        }
        assert!(Document::parse(b"{}").is_err());
    }

    #[test]
    fn what_is_not_measured_is_seen() {
        let damages: [fn(&mut Document); 6] = [
            |it| it.targets.clear(),
            |it| it.steps.clear(),
            |it| it.targets[0].ratio = f64::NAN,
            |it| it.data_path.measured.rings.eventfd.p50 = 0.0,
            |it| it.pod_start.difference = f64::INFINITY,
            |it| *it.calls.floor.entry("rename".to_owned()).or_default() += 1,
        ];
        for damage in damages {
            let mut damaged = document();
            damage(&mut damaged);
            assert!(damaged.check().is_err(), "{damaged:?}");
        }
    }
}
