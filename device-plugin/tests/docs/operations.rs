//! docs/operations.md names what there is, and nothing else: kinds of reasons, refusals, codes, metrics, lines of the log.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use doorbell_common::calls;
use doorbell_common::subdevice::Kind;
use doorbell_device_plugin::metrics::{self, Counts};
use tokio::sync::watch;

use crate::node::{GOOD, Node};
use crate::{code, first_cells, prose, read, root, sources};

const PAGE: &str = "docs/operations.md";
const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- {name: fast, access: vfio, select: {pfNames: [ens1f0]}}
";

#[test]
fn every_kind_of_reason_is_told() {
    let kinds: BTreeSet<String> = Kind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    assert_eq!(first_cells(PAGE, "| kind |"), kinds);
}

/// What errors of a file say, with an ellipsis for each thing that they name.
fn messages(file: &str) -> Vec<String> {
    let text = read(file);
    let attributes = text.split("#[error(").skip(1);
    let literals = attributes.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    let message = |literal: &str| {
        let pieces = literal.split('{').map(|piece| piece.split_once('}').map_or(piece, |(_, rest)| rest));
        pieces.collect::<Vec<_>>().join("…").replace('`', "")
    };
    literals.map(message).collect()
}

#[test]
fn every_refusal_is_told() {
    let of_records = messages("src-common/src/allocation.rs");
    // The others of that file are told to nobody but the CNI plugin.
    let replayed = of_records.into_iter().filter(|message| message.contains("delete the pod"));
    let known: BTreeSet<String> =
        messages("device-plugin/src/guard.rs").into_iter().chain(replayed).collect();
    assert_eq!(known.len(), 13, "{known:#?}");
    assert_eq!(first_cells(PAGE, "| refusal |"), known);
}

/// Values of the lines `pub const NAME: u32 = <value>;`.
fn codes(file: &str) -> Vec<String> {
    let text = read(file);
    let constants =
        text.lines().filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(": u32 = "));
    constants.map(|(_, value)| value.trim_end_matches(';').to_owned()).collect()
}

#[test]
fn every_code_of_the_cni_plugin_is_told() {
    let known: BTreeSet<String> =
        [codes("cni/src/failure.rs"), codes("src-common/src/formats/cni.rs")].concat().into_iter().collect();
    assert!(known.len() > 10, "{known:?}");
    assert_eq!(first_cells(PAGE, "| code |"), known);
}

/// As a scrape has them: of a histogram, and of an info, what is asked for by name.
fn metrics_of_a_plugin() -> BTreeSet<String> {
    let node = Node::with(&[GOOD]);
    let (host, counts) = (node.host(), Counts::default());
    let pool = "fast".parse().unwrap();
    counts.allocated(&pool, true);
    counts.started(&pool, true);
    calls::count(&host, "ADD", 0, Duration::ZERO);
    let (_inventories, inventory) = watch::channel(Arc::new(node.inventory(CONFIG)));
    let page = metrics::page(&metrics::registry(&host, &counts, inventory)).unwrap();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let name = |(name, kind): (&str, &str)| match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    };
    types.map(name).collect()
}

/// Only a PF of hardware's counts what its VFs carry, so the names are taken from where they stand.
fn metrics_of_vfs() -> Vec<String> {
    let text = read("device-plugin/src/metrics/traffic.rs");
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("(\"vf_")?.split_once('"'));
    names.map(|(name, _)| format!("doorbell_vf_{name}_total")).collect()
}

#[test]
fn every_metric_is_told_and_rules_are_about_these() {
    let mut known = metrics_of_a_plugin();
    known.extend(metrics_of_vfs());
    assert_eq!(known.len(), 16, "{known:#?}");
    assert_eq!(first_cells(PAGE, "| metric |"), known);
    let text = read(PAGE);
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    for word in words.filter(|word| word.starts_with("doorbell_")) {
        assert!(known.contains(word.trim_end_matches("_bucket")), "{word}");
    }
}

#[test]
fn every_alert_of_the_table_is_a_rule() {
    let text = read(PAGE);
    let rules: BTreeSet<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let prose = prose(PAGE);
    let named: BTreeSet<&str> = code(&prose).filter(|name| name.starts_with("Doorbell")).collect();
    assert!(!rules.is_empty());
    assert_eq!(named, rules);
}

#[test]
fn every_line_of_the_log_that_is_told_is_said() {
    let mut files = Vec::new();
    sources(&root().join("device-plugin/src"), &mut files);
    let texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let rows = read(PAGE);
    let rows = rows.lines().skip_while(|line| !line.starts_with("| message |")).skip(2);
    let cells = rows.map_while(|row| row.strip_prefix("| ")?.split(" | ").next());
    let told: Vec<&str> = cells.flat_map(code).collect();
    assert!(told.len() > 10, "{told:?}");
    for line in told {
        assert!(texts.iter().any(|text| text.contains(&format!("\"{line}\""))), "{line}");
    }
}
