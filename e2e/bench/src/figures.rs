//! What is measured, a part a function.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use e2e_bench::load::Load;
use e2e_bench::statistics::{exponent, median, quantile};
use serde_json::{Map, Value, json};

use crate::change::Change;
use crate::programs::Programs;
use crate::report::{Figure, Target};
use crate::start::{self, Start};
use crate::{allocate, call, change, counted, instructions, size};

const SMALL: Load = Load { vfs: 8, pfs: 1, pools: 1 };
const LARGE: Load = Load { vfs: 2048, pfs: 8, pools: 1 };
const MANY_POOLS: Load = Load { vfs: 2048, pfs: 8, pools: 8 };
/// How a start grows with VFs.
const GROWTH: [usize; 7] = [64, 128, 256, 512, 1024, 2048, 4096];
/// VFs that a PF can have on one bus of its own, and on half the next.
const VFS_OF_A_PF: usize = 256;
/// From here on the exponent is fitted: below, what does not depend on VFs weighs.
const FITTED_FROM: usize = 256;
/// So many VFs are lost and come back under callgrind.
const CHANGES: usize = 4;
const VERSIONS_A_RUN: usize = 40;
const MIB: f64 = (1 << 20) as f64;

/// One run of the bench.
pub(crate) struct Bench {
    pub(crate) programs: Programs,
    /// How often each is measured.
    pub(crate) runs: usize,
    /// Where results are put down.
    pub(crate) folder: PathBuf,
    pub(crate) figures: Vec<Figure>,
    /// What is told beside figures.
    pub(crate) besides: Map<String, Value>,
}

impl Bench {
    /// Whether floor and plugin look at what they are said to look at.
    pub(crate) fn counted(&mut self) -> Result<()> {
        let counted = counted::counted(&self.programs)?;
        println!(
            "looks at one VF, counted by strace: {} listed, {} by the floor, {} by the plugin",
            counted.listed, counted.floor, counted.plugin
        );
        let looks = json!({"listed": counted.listed, "floor": counted.floor, "plugin": counted.plugin});
        self.besides.insert("looks_at_a_vf".to_owned(), looks);
        Ok(())
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        let large = self.starts(LARGE)?;
        let many_pools = self.starts(MANY_POOLS)?;
        let small = self.starts(SMALL)?;
        self.figures.push(Figure { target: Target::OfFloor(1.5, 5.0), ..large.again.clone() });
        self.figures.push(Figure {
            name: format!("{}, beside 1 pool", many_pools.again.name),
            floor: Some(large.again.value),
            target: Target::OfFloor(1.2, 0.0),
            ..many_pools.again.clone()
        });
        for start in [large.first, many_pools.again, many_pools.first, small.again, small.first] {
            self.figures.push(Figure { target: Target::OfFloor(1.5, 5.0), ..start });
        }
        self.figures.push(Figure { target: Target::Flat(8.0), ..large.memory });
        self.figures.push(Figure { target: Target::Flat(5.0), ..small.memory });
        Ok(())
    }

    pub(crate) fn growth(&mut self) -> Result<()> {
        let (mut points, mut told) = (Vec::new(), Vec::new());
        for vfs in GROWTH {
            let starts = self.starts(Load { vfs, pfs: vfs.div_ceil(VFS_OF_A_PF), pools: 1 })?;
            println!(
                "{vfs:>5} VFs: {:.1} ms of CPU time, {:.1} ms, the bare loop {:.1} ms",
                starts.cpu,
                starts.again.value,
                starts.again.floor.unwrap_or_default()
            );
            told.push(json!({
                "vfs": vfs,
                "cpu_ms": starts.cpu,
                "wall_ms": starts.again.value,
                "floor_ms": starts.again.floor,
            }));
            if vfs >= FITTED_FROM {
                points.push((f64::from(u32::try_from(vfs)?), starts.cpu));
            }
        }
        self.besides.insert("growth".to_owned(), told.into());
        self.figures.push(Figure {
            name: "CPU time of a start over VFs, 256 to 4096: exponent".to_owned(),
            value: exponent(&points),
            floor: None,
            target: Target::Flat(1.1),
            unit: "",
        });
        Ok(())
    }

    pub(crate) fn allocate(&mut self) -> Result<()> {
        let calls = allocate::calls(&self.programs, LARGE)?;
        for (name, part, times) in [("p50", 0.5, 1.3), ("p99", 0.99, 2.0)] {
            self.figures.push(Figure {
                name: format!("Allocate {name}, {LARGE}"),
                value: quantile(&calls.plugin, part) * 1e3,
                floor: Some(quantile(&calls.floor, part) * 1e3),
                target: Target::OfFloor(times, 0.0),
                unit: "ms",
            });
        }
        Ok(())
    }

    pub(crate) fn change(&mut self) -> Result<()> {
        let changes = change::changes(&self.programs, LARGE, self.runs.max(8))?;
        let of = |part: fn(&Change) -> Duration| median_of(&changes, |one| part(one).as_secs_f64() * 1e3);
        for (name, value, target) in [
            ("a VF is lost → list", of(|change| change.lost), Target::Flat(5.0)),
            ("a VF is back → list", of(|change| change.back), Target::Flat(5.0)),
            ("CPU time of both, with what follows", of(|change| change.cpu), Target::None),
        ] {
            self.figures.push(Figure {
                name: format!("{name}, {LARGE}"),
                value,
                floor: None,
                target,
                unit: "ms",
            });
        }
        Ok(())
    }

    pub(crate) fn instructions(&mut self) -> Result<()> {
        let count = |name: &str, changes| {
            let file = self.folder.join(format!("callgrind.{name}"));
            instructions::instructions(&self.programs, LARGE, changes, &file)
        };
        let start = count("start", 0)?;
        let changes = count("changes", CHANGES)?.saturating_sub(start) / u64::try_from(2 * CHANGES)?;
        #[expect(clippy::cast_precision_loss, reason = "counts of instructions")]
        for (name, value) in [
            ("a start, and of what follows", start as f64),
            ("a change, and of what follows", changes as f64),
        ] {
            self.figures.push(Figure {
                name: format!("instructions of {name}, {LARGE}"),
                value: value / 1e6,
                floor: None,
                target: Target::None,
                unit: "million",
            });
        }
        Ok(())
    }

    pub(crate) fn cni(&mut self) -> Result<()> {
        let versions = call::versions(&self.programs, self.runs * VERSIONS_A_RUN)?;
        self.figures.push(Figure {
            name: "CNI VERSION".to_owned(),
            value: median(&versions.cni) * 1e3,
            floor: Some(median(&versions.floor) * 1e3),
            target: Target::OfFloor(2.0, 0.0),
            unit: "ms",
        });
        #[expect(clippy::cast_precision_loss, reason = "a few MiB")]
        let [value, floor] = [versions.memory, versions.floor_memory].map(|bytes| bytes as f64 / MIB);
        self.figures.push(Figure {
            name: "CNI VERSION, resident memory".to_owned(),
            value,
            floor: Some(floor),
            target: Target::Flat(4.0),
            unit: "MiB",
        });
        Ok(())
    }

    pub(crate) fn size(&mut self) -> Result<()> {
        self.figures.extend(size::sizes(&self.programs)?);
        Ok(())
    }

    fn starts(&self, load: Load) -> Result<Starts> {
        let mut starts = start::starts(&self.programs, load, self.runs + 1)?;
        // A first start has a node of its own each time.
        for _ in 1..self.runs {
            starts.extend(start::starts(&self.programs, load, 1)?);
        }
        let (again, first) = starts.into_iter().partition::<Vec<_>, _>(|start| start.again);
        let figure = |what: &str, starts: &[Start]| Figure {
            name: format!("start → first list, {load}, {what}"),
            value: median_of(starts, |start| start.wall.as_secs_f64() * 1e3),
            floor: Some(median_of(starts, |start| start.floor.as_secs_f64() * 1e3)),
            target: Target::None,
            unit: "ms",
        };
        #[expect(clippy::cast_precision_loss, reason = "a few MiB")]
        let memory = Figure {
            name: format!("resident memory, {load}"),
            value: median_of(&again, |start| start.memory as f64 / MIB),
            floor: None,
            target: Target::None,
            unit: "MiB",
        };
        Ok(Starts {
            first: figure("the first on a node", &first),
            again: figure("again", &again),
            memory,
            cpu: median_of(&again, |start| start.cpu.as_secs_f64() * 1e3),
        })
    }
}

/// The figures of starts on one load.
struct Starts {
    first: Figure,
    again: Figure,
    memory: Figure,
    /// In milliseconds, to the first list.
    cpu: f64,
}

fn median_of<T>(all: &[T], of: impl Fn(&T) -> f64) -> f64 {
    median(&all.iter().map(of).collect::<Vec<_>>())
}
