//! `make bench`: the figures of the shipped programs, each beside its floor.

mod allocate;
mod call;
mod change;
mod counted;
mod figures;
mod instructions;
mod programs;
mod report;
mod size;
mod start;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use figures::Bench;
use programs::Programs;

const USAGE: &str = "usage: doorbell-bench RESULTS.json [RUNS [PART…]], parts being counted, start, growth, allocate, \
                     change, instructions, cni, size";

/// A part of the bench, by its name.
type Part = (&'static str, fn(&mut Bench) -> Result<()>);

const PARTS: [Part; 8] = [
    ("counted", Bench::counted),
    ("start", Bench::start),
    ("growth", Bench::growth),
    ("allocate", Bench::allocate),
    ("change", Bench::change),
    ("instructions", Bench::instructions),
    ("cni", Bench::cni),
    ("size", Bench::size),
];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let results = PathBuf::from(arguments.next().context(USAGE)?);
    let runs: usize = arguments.next().map_or(Ok(5), |runs| runs.parse()).context(USAGE)?;
    let wanted: Vec<String> = arguments.collect();
    for name in &wanted {
        ensure!(PARTS.iter().any(|(part, _)| part == name), "no part `{name}`; {USAGE}");
    }
    ensure!(runs > 0, "RUNS is 0; {USAGE}");
    let folder = results.parent().unwrap_or(Path::new(".")).to_owned();
    let mut bench =
        Bench { programs: Programs::beside()?, runs, folder, figures: Vec::new(), besides: Map::new() };
    for (name, part) in
        PARTS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|one| one == name))
    {
        println!("{name} …");
        part(&mut bench).with_context(|| format!("part {name}"))?;
    }
    println!("{}", report::table(&bench.figures));
    bench.besides.insert("runs".to_owned(), runs.into());
    report::write(&results, &bench.figures, Value::Object(bench.besides))?;
    println!("{}", results.display());
    Ok(())
}
