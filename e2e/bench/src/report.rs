//! The figures, as a table and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What `doorbell-figures` has measured on real VFs.
const TESTBED: &str = "testbed.json";

/// What a figure is to be at most.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// So many times its floor, and so much more in the figure's unit.
    OfFloor(f64, f64),
    /// So much.
    Flat(f64),
    /// It is told, and no more.
    None,
}

/// One figure, smaller being better.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// What it is of.
    pub(crate) name: String,
    /// The median.
    pub(crate) value: f64,
    /// That of its floor, in the same run.
    pub(crate) floor: Option<f64>,
    /// What it is to be.
    pub(crate) target: Target,
    /// Of all of these.
    pub(crate) unit: &'static str,
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        Some(self.value / self.floor?)
    }

    /// What it is to be at most; `None` where it is only told.
    fn limit(&self) -> Option<f64> {
        match self.target {
            Target::OfFloor(times, more) => Some(self.floor? * times + more),
            Target::Flat(limit) => Some(limit),
            Target::None => None,
        }
    }

    /// Whether it is what it is to be.
    pub(crate) fn is_met(&self) -> Option<bool> {
        Some(self.value <= self.limit()?)
    }

    fn target(&self) -> String {
        match self.target {
            Target::OfFloor(times, 0.0) => format!("≤ {times} × floor"),
            Target::OfFloor(times, more) => format!("≤ {times} × floor + {more} {}", self.unit),
            Target::Flat(limit) => format!("≤ {limit} {}", self.unit),
            Target::None => "told".to_owned(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.value,
            "floor": self.floor,
            "ratio": self.ratio(),
            "target": self.target(),
            "limit": self.limit(),
            "met": self.is_met(),
            "unit": self.unit,
        })
    }
}

/// For people.
pub(crate) fn table(figures: &[Figure]) -> String {
    let width = figures.iter().map(|figure| figure.name.chars().count()).max().unwrap_or_default();
    let mut text = format!("{:<width$}  {:>10}  {:>10}  {:>6}  target\n", "", "figure", "floor", "ratio");
    for figure in figures {
        let floor = figure.floor.map_or_else(String::new, |floor| format!("{floor:.3}"));
        let ratio = figure.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let met = match figure.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let Figure { name, value, unit, .. } = figure;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{name:<width$}  {value:>10.3}  {floor:>10}  {ratio:>6}  {} {met} [{unit}]",
            figure.target()
        );
    }
    text
}

/// For programs: all of it replaces what was there. What the testbed's figures are is taken in, where they lie beside it.
pub(crate) fn write(file: &Path, figures: &[Figure], mut besides: Value) -> Result<()> {
    let mut targets: Vec<Value> = figures.iter().map(Figure::json).collect();
    let testbed = file.with_file_name(TESTBED);
    if testbed.exists() {
        let text = fs::read(&testbed).with_context(|| format!("read {}", testbed.display()))?;
        let document: Value =
            serde_json::from_slice(&text).with_context(|| format!("read {}", testbed.display()))?;
        targets.extend(document["targets"].as_array().into_iter().flatten().cloned());
        besides["testbed"] = document;
    }
    let mut document = json!({ "targets": targets });
    if let (Value::Object(document), Value::Object(besides)) = (&mut document, besides) {
        document.extend(besides);
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(&document)? + "\n";
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, target: Target) -> Figure {
        Figure { name: "one".to_owned(), value, floor: Some(2.0), target, unit: "ms" }
    }

    #[test]
    fn a_figure_is_held_to_its_floor() {
        assert_eq!(figure(3.0, Target::OfFloor(1.5, 0.0)).is_met(), Some(true));
        assert_eq!(figure(3.1, Target::OfFloor(1.5, 0.0)).is_met(), Some(false));
        assert_eq!(figure(7.9, Target::OfFloor(1.5, 5.0)).is_met(), Some(true));
        assert_eq!(figure(7.9, Target::Flat(5.0)).is_met(), Some(false));
        assert_eq!(figure(7.9, Target::None).is_met(), None);
    }

    #[test]
    fn what_is_missed_is_said() {
        assert!(table(&[figure(3.1, Target::OfFloor(1.5, 0.0))]).contains("≤ 1.5 × floor MISSED [ms]"));
    }
}
