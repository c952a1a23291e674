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
use node::standing::Vdpa;
use node::{GOOD, Node, PAGE, Vf, modes};

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

fn explain_each_mode(node: &Node) -> Vec<Explanation> {
    let config = config(modes::CONFIG);
    let explain = |id: &str| explain::explain(&node.host(), Some(&config), &id.parse().unwrap(), PAGE);
    modes::IDS.iter().map(|id| explain(id).unwrap()).collect()
}

#[test]
fn of_each_mode_is_said_how_it_is_driven_and_rung() {
    let explained = explain_each_mode(&modes::node());
    let not_advertised: Vec<&Explanation> = explained.iter().filter(|one| !one.advertised).collect();
    assert!(not_advertised.is_empty(), "{not_advertised:#?}");
    let access: Vec<&str> = explained[1..].iter().map(|one| found(one, "access")).collect();
    assert_eq!(
        access,
        [
            "vhost-vdpa by /dev/vhost-vdpa-0; rung eventfd: vp-vdpa maps a doorbell only where the notify multiplier is \
             the page size, and it is 0x4",
            "vhost-vdpa by /dev/vhost-vdpa-1; rung direct: vp-vdpa maps it into the consumer",
            "virtio-vdpa by no node; rung kernel: the kernel drives the rings",
            "netdev by no node; rung kernel: the kernel drives the rings",
            "mdev by /dev/vfio/40 and /dev/vfio/vfio; rung none: there are no rings",
            "vhost-vdpa by /dev/vhost-vdpa-5; rung eventfd: a simulator maps no doorbell",
            "vhost-vdpa by /dev/vhost-vdpa-2; rung eventfd: a simulator maps no doorbell",
            "vhost-vdpa by /dev/vhost-vdpa-3; rung eventfd: a simulator maps no doorbell",
        ]
    );
}

#[test]
fn what_keeps_a_mode_from_its_pod_fails_in_the_words_of_scan() {
    let node = modes::node();
    node.remove("sys/devices/pci0000:00/0000:01:00.2/0000:01:00.2/driver");
    node.remove("dev/vhost-vdpa-1");
    fs::remove_dir_all(node.at("sys/devices/pci0000:00/0000:01:00.4/virtio4")).unwrap();
    fs::remove_dir_all(node.at("sys/bus/pci/devices/0000:01:00.5/virtio5")).unwrap();
    fs::remove_dir_all(node.at(&format!("sys/devices/virtual/mtty/mtty/{}/vfio-dev", modes::MDEV))).unwrap();
    let rows = scan::rows(&node.host(), Some(&config(modes::CONFIG)), PAGE).unwrap();
    let explained = explain_each_mode(&node);
    let reasons = [
        "vDPA device 0000:01:00.2 is not on vhost_vdpa but on no driver",
        "/dev/vhost-vdpa-1 is not there",
        "virtio_vdpa has made nothing of vDPA device 0000:01:00.4",
        "it has no network interface: it is on virtio-pci",
        "an mdev is handed out on a VFIO driver only, and it is on mtty",
    ];
    for ((row, explanation), reason) in rows[1..].iter().zip(&explained[1..]).zip(reasons) {
        assert_eq!(row.reasons, [reason]);
        let failed: Vec<(&str, &str)> =
            failed(explanation).iter().map(|check| (check.name.as_str(), check.found.as_str())).collect();
        assert_eq!(failed, [("access", reason)]);
    }
}

/// It gives each consumer memory keys of its own, and knows alone where its doorbells are.
#[test]
fn what_a_function_lacks_does_not_count_where_its_driver_makes_up_for_it() {
    let node = Node::with(&[GOOD, GOOD]);
    node.write("sys/bus/pci/devices/0000:01:00.1/vendor", b"0x15b3\n");
    node.drive(VF, Some("mlx5_core"));
    let device = Vdpa { name: "a", of: "pci/0000:01:00.1", driver: Some("vhost_vdpa"), kind: 1, number: 0 };
    node.has_vdpa(&[device]);
    let rings = CONFIG.replace("access: vfio", "access: vhost-vdpa");
    let rows = scan::rows(&node.host(), Some(&config(&rings)), PAGE).unwrap();
    assert!(rows[0].advertised, "{:?}", rows[0].reasons);
    let explanation = explain(&node, &rings);
    assert!(explanation.advertised, "{explanation:#?}");
    let noted = explanation.checks.iter().filter(|check| check.outcome == Outcome::Noted);
    let noted: Vec<&str> = noted.map(|check| check.name.as_str()).collect();
    assert!(noted.contains(&"virtio-type") && noted.contains(&"group-members"), "{noted:?}");
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
