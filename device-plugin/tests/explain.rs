//! What `explain` says of one sub-device: every check, and for each thing wrong the check that fails of it.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use std::fs;

use doorbell_common::check::{Check, Outcome};
use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::explain::{self, Explanation};
use doorbell_device_plugin::scan;

use node::broken::{self, Broken};
use node::{GOOD, Node, PAGE, Vf};

const CONFIG: &str =
    "apiVersion: doorbell.dev/v1\npools:\n- {name: fast, access: vfio, select: {pfNames: [ens1f0]}}\n";
const VF: &str = "0000:01:00.1";

fn config(text: &str) -> Config {
    Config::parse("pools.yaml", text).unwrap()
}

fn explain(node: &Node, text: &str) -> Explanation {
    explain::explain(&node.host(), Some(&config(text)), &VF.parse().unwrap(), PAGE).unwrap()
}

fn failed(explanation: &Explanation) -> Vec<&Check> {
    explanation.checks.iter().filter(|check| check.outcome == Outcome::Failed).collect()
}

fn found<'a>(explanation: &'a Explanation, name: &str) -> &'a str {
    let check = explanation.checks.iter().find(|check| check.name == name);
    &check.unwrap_or_else(|| panic!("no check {name}")).found
}

/// The whole chain of what keeps a VF from being explained.
fn error(node: &Node, address: &str) -> String {
    let explained = explain::explain(&node.host(), Some(&config(CONFIG)), &address.parse().unwrap(), PAGE);
    format!("{:#}", explained.unwrap_err())
}

#[test]
fn a_vf_that_passes_has_passed_every_check() {
    let explanation = explain(&Node::with(&[GOOD]), CONFIG);
    assert!(explanation.advertised && failed(&explanation).is_empty(), "{explanation:#?}");
    let passed = explanation.checks.iter().filter(|check| check.outcome == Outcome::Passed).count();
    assert!(passed >= 15, "{passed} checks passed");
}

#[test]
fn every_check_says_what_it_rests_on() {
    let whole = [Broken { check: "", node: Node::with_cdevs(&[GOOD]) }];
    for Broken { node, .. } in whole.into_iter().chain(broken::nodes()) {
        let checks = explain(&node, CONFIG).checks;
        assert!(checks.iter().all(|check| !check.rests_on.is_empty()), "{checks:#?}");
    }
}

#[test]
fn no_two_checks_have_one_name() {
    let checks = explain(&Node::with(&[GOOD]), CONFIG).checks;
    let mut names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "{names:?}");
}

#[test]
fn what_is_wrong_fails_the_check_that_looks_at_it() {
    for Broken { check, node } in broken::nodes() {
        let explanation = explain(&node, CONFIG);
        let failed: Vec<&str> = failed(&explanation).iter().map(|check| check.name.as_str()).collect();
        assert_eq!(failed, [check]);
        assert!(!explanation.advertised, "{check}");
    }
}

#[test]
fn what_is_wrong_is_told_in_the_words_of_scan() {
    for Broken { check, node } in broken::nodes() {
        let rows = scan::rows(&node.host(), Some(&config(CONFIG)), PAGE).unwrap();
        let explanation = explain(&node, CONFIG);
        let found: Vec<&str> = failed(&explanation).iter().map(|check| check.found.as_str()).collect();
        assert_eq!(found, rows[0].reasons, "{check}");
    }
}

#[test]
fn a_vf_that_two_pools_select_shows_the_overlap() {
    let two = CONFIG.to_owned() + "- {name: rest, access: vfio, select: {vendors: ['1af4']}}\n";
    let explanation = explain(&Node::with(&[GOOD]), &two);
    assert_eq!(explanation.pool.as_deref(), Some("fast"));
    assert_eq!(found(&explanation, "overlap"), "selected by rest too: the first pool in the config has it");
    assert!(explanation.advertised);
}

#[test]
fn a_vf_that_no_pool_selects_fails_for_that_alone() {
    let explanation = explain(&Node::with(&[GOOD]), &CONFIG.replace("ens1f0", "ens9"));
    let [pool] = failed(&explanation)[..] else { panic!("{explanation:#?}") };
    assert_eq!((pool.name.as_str(), pool.found.as_str()), ("pool", "no pool selects it"));
    assert_eq!(pool.rests_on, "the config");
}

#[test]
fn without_a_config_the_pool_is_what_fails() {
    let node = Node::with(&[GOOD]);
    let explanation = explain::explain(&node.host(), None, &VF.parse().unwrap(), PAGE).unwrap();
    let [pool] = failed(&explanation)[..] else { panic!("{explanation:#?}") };
    assert_eq!((pool.name.as_str(), pool.found.as_str()), ("pool", "no pool selects it"));
    assert_eq!(pool.rests_on, "no config was given (--config)");
}

#[test]
fn an_iommufd_pool_shows_the_devices_own_node() {
    let iommufd = CONFIG.replace("[ens1f0]}", "[ens1f0]}, iommufd: true");
    let explanation = explain(&Node::with_cdevs(&[GOOD]), &iommufd);
    assert_eq!(found(&explanation, "nodes"), "/dev/vfio/devices/vfio0 and /dev/iommu");
}

#[test]
fn an_address_of_no_vf_is_an_error() {
    let node = Node::with(&[GOOD]);
    for address in [node::PF, "0000:09:00.0"] {
        assert_eq!(error(&node, address), format!("explain {address}: no such sub-device on this host"));
    }
}

#[test]
fn a_vf_that_cannot_be_read_is_an_error_with_its_file() {
    let node = Node::with(&[GOOD, Vf { group: 8, ..GOOD }]);
    fs::remove_file(node.at("sys/bus/pci/devices/0000:01:00.1/vendor")).unwrap();
    assert_eq!(
        error(&node, VF),
        "explain 0000:01:00.1: read /sys/bus/pci/devices/0000:01:00.1/vendor: No such file or directory (os error 2)"
    );
}

#[test]
fn the_text_has_a_line_a_check_and_one_for_what_it_rests_on() {
    let explanation = explain(&Node::with(&[GOOD]), CONFIG);
    let text = explain::text(&explanation);
    assert_eq!(text.lines().count(), 1 + 2 * explanation.checks.len(), "{text}");
    assert_eq!(text.lines().next(), Some("0000:01:00.1 may be advertised as vfio, pool fast"));
}
