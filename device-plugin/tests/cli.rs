//! The program from outside: exit codes, and one line on stderr.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

fn run(config: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_doorbell-device-plugin"))
        .args(["run", "--config"])
        .arg(config)
        .output()
        .unwrap()
}

/// The pools below stand from line 3 on.
fn refused(pools: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pools.yaml");
    std::fs::write(&file, format!("apiVersion: doorbell.dev/v1\npools:\n{pools}")).unwrap();
    let output = run(&file);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    said.replace(&file.display().to_string(), "pools.yaml").trim_end().to_owned()
}

const SELECT: &str = "  access: vfio\n  select: {vendors: ['1af4']}\n";

#[test]
fn an_unknown_field_ends_it_with_2() {
    let said = refused(&format!("- name: fast\n  colour: red\n{SELECT}"));
    assert!(
        said.starts_with("doorbell-device-plugin: pools.yaml:4: pools[0].colour: unknown field"),
        "{said}"
    );
}

#[test]
fn a_bad_address_ends_it_with_2() {
    let said = refused("- name: fast\n  access: vfio\n  select:\n    pciAddresses: ['1:0.1']\n");
    assert!(
        said.starts_with("doorbell-device-plugin: pools.yaml:6: pools[0].select.pciAddresses[0]: `1:0.1`"),
        "{said}"
    );
}

#[test]
fn a_duplicate_pool_ends_it_with_2() {
    let said = refused(&format!("- name: fast\n{SELECT}- name: fast\n{SELECT}"));
    assert_eq!(said, "doorbell-device-plugin: pools.yaml:6: pools[1].name: pool `fast` is there already");
}

#[test]
fn a_pool_that_starts_with_a_digit_ends_it_with_2() {
    let said = refused(&format!("- name: 10g\n{SELECT}"));
    assert!(
        said.starts_with("doorbell-device-plugin: pools.yaml:3: pools[0].name: `10g` is no pool name"),
        "{said}"
    );
}

#[test]
fn a_missing_file_ends_it_with_2() {
    let output = run(Path::new("/nonexistent/pools.yaml"));
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    assert!(said.contains("/nonexistent/pools.yaml: No such file"), "{said}");
}

#[cfg(feature = "kube")]
#[test]
fn events_and_labels_are_of_a_node_that_has_a_name() {
    for asked in ["--events", "--node-labels"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorbell-device-plugin"));
        let output = command.args(["run", asked]).env_remove("NODE_NAME").output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("--node-name <NODE_NAME>"), "{said}");
    }
}
