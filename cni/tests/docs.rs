//! docs/cni.md names every code that a call can fail with, and no other, and every key of a configuration.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use doorbell_cni::attributes;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// Values of the lines `pub const NAME: u32 = <value>;`.
fn codes(source: &str) -> BTreeSet<u32> {
    let constants = source.lines().filter_map(|line| line.trim().strip_prefix("pub const "));
    let values = constants.filter_map(|constant| constant.split_once(": u32 = "));
    values.map(|(_, value)| value.trim_end_matches(';').parse().unwrap()).collect()
}

#[test]
fn the_table_of_errors_is_that_of_the_code() {
    let text = read("docs/cni.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    let documented: BTreeSet<u32> = rows.filter_map(|(code, _)| code.parse().ok()).collect();
    let mut known = codes(&read("cni/src/failure.rs"));
    assert_eq!(known.len(), 9);
    known.append(&mut codes(&read("src-common/src/formats/cni.rs")));
    assert_eq!(documented, known);
}

#[test]
fn every_key_that_asks_something_of_a_device_is_in_the_table() {
    let text = read("docs/cni.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let documented: BTreeSet<&str> = rows.flat_map(|(keys, _)| keys.split("`, `")).collect();
    for key in attributes::KEYS {
        assert!(documented.contains(key), "{key}: {documented:?}");
    }
}
