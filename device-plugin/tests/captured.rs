//! A captured node: what `scan` and `explain` say of it is what they said of the node, and it holds nothing else.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use std::fs;
use std::path::{Path, PathBuf};

use doorbell_common::check::Check;
use doorbell_common::formats::capture::Capture;
use doorbell_common::host::Host;
use doorbell_device_plugin::captured::{self, Root};
use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::explain::{self, Explanation};
use doorbell_device_plugin::publish;
use doorbell_device_plugin::scan::{self, Row};

use node::broken::{self, Broken};
use node::{GOOD, Node, Vf, modes};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- {name: fast, access: vfio, select: {pfNames: [ens1f0], acpiIndexes: [101]}}
- {name: rest, access: vfio, select: {pfNames: [ens1f0]}, iommufd: auto}
";

fn config() -> Config {
    Config::parse("pools.yaml", CONFIG).unwrap()
}

fn capture(node: &Node) -> String {
    capture_with(node, &config())
}

fn capture_with(node: &Node, config: &Config) -> String {
    captured::capture(&Root::at(node.root.path()).unwrap(), Some(config)).unwrap()
}

/// A node with all that a plugin at work leaves on it.
fn working() -> Node {
    let node = Node::with_cdevs(&[GOOD, Vf { group: 8, ..GOOD }]);
    node.boot("b1");
    node.write("sys/bus/pci/devices/0000:01:00.1/acpi_index", b"101\n");
    publish::all(&node.host(), &node.inventory(&(CONFIG.to_owned() + "cdi: true\n"))).unwrap();
    node
}

/// A node with a sub-device of each access mode, and a plugin at work on it.
fn with_each_mode() -> (Node, Config) {
    let (node, config) = (modes::node(), Config::parse("pools.yaml", modes::CONFIG).unwrap());
    publish::all(&node.host(), &node.inventory(modes::CONFIG)).unwrap();
    (node, config)
}

/// Everything that is said of a host's sub-devices, but for the limit of the process that looks.
fn said(host: &Host, config: &Config, page: u64) -> (Vec<Row>, Vec<Explanation>) {
    let rows = scan::rows(host, Some(config), page).unwrap();
    let explained = |row: &Row| {
        let mut explanation = explain::explain(host, Some(config), &row.id.parse().unwrap(), page).unwrap();
        explanation.checks.retain(|Check { name, .. }| name != "memlock");
        explanation
    };
    let explanations = rows.iter().map(explained).collect();
    (rows, explanations)
}

/// Lays out what a node's capture holds and asks it what the node is asked.
fn assert_told_alike(node: &Node, config: &Config) {
    let text = capture_with(node, config);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, &text).unwrap();
    let copy = Root::at(file.path()).unwrap();
    let (rows, explanations) = said(&node.host(), config, copy.page);
    assert!(!rows.is_empty());
    assert_eq!(said(&copy.host, config, copy.page), (rows, explanations), "{text}");
}

#[test]
fn of_a_captured_node_is_said_what_was_said_of_the_node() {
    assert_told_alike(&working(), &config());
}

#[test]
fn of_what_stands_on_parents_is_said_what_was_said_of_it() {
    let (node, config) = with_each_mode();
    assert_told_alike(&node, &config);
    // What `run` would do, and what keeps it from that, is no other either.
    let prepared = modes::CONFIG.replace("access: vhost-vdpa, ", "access: virtio-vdpa, prepare: {}, ");
    assert_told_alike(&node, &Config::parse("pools.yaml", &prepared).unwrap());
}

#[test]
fn what_is_wrong_with_a_node_is_wrong_with_its_capture() {
    for Broken { node, .. } in broken::nodes() {
        assert_told_alike(&node, &config());
    }
}

#[test]
fn a_capture_holds_paths_of_devices_and_of_ours_alone() {
    let ours =
        ["/sys", "/dev", "/run", "/var/run", "/var/lib/doorbell", "/proc/sys/kernel/random", "/netlink"];
    let (node, config) = with_each_mode();
    for text in [capture(&working()), capture_with(&node, &config)] {
        let entries = Capture::parse(&text).unwrap().entries;
        let foreign: Vec<&PathBuf> =
            entries.keys().filter(|path| !ours.iter().any(|ours| path.starts_with(ours))).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
    }
}

#[test]
fn a_capture_names_no_path_of_the_machine_that_it_was_made_on() {
    let node = working();
    assert!(!capture(&node).contains(&node.root.path().display().to_string()));
}

/// It may hold the credentials of registries.
#[test]
fn the_runtimes_config_is_no_part_of_a_capture() {
    let node = working();
    let secret = "version = 3\nimports = ['conf.d/*.toml']\n[auth]\npassword = 'hunter2'\n";
    for file in ["config.toml", "conf.d/more.toml"] {
        node.write(&format!("etc/containerd/{file}"), secret.as_bytes());
    }
    let text = capture(&node);
    assert!(!text.contains("hunter2"), "{text}");
    assert!(Capture::parse(&text).unwrap().entries.keys().all(|path| !path.starts_with("/etc")), "{text}");
}

#[test]
fn a_capture_says_how_large_pages_were() {
    let node = working();
    let mut root = Root::at(node.root.path()).unwrap();
    root.page = 0x1_0000;
    let text = captured::capture(&root, Some(&config())).unwrap();
    assert_eq!(Capture::parse(&text).unwrap().page, 0x1_0000);
}

fn refused(path: &Path) -> String {
    format!("{:#}", Root::at(path).map(drop).unwrap_err())
}

#[test]
fn a_file_that_is_no_capture_is_refused_by_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, "hello\n").unwrap();
    assert_eq!(
        refused(file.path()),
        format!("--root {}: no capture: the first line is not `doorbell capture 1`", file.path().display())
    );
}

#[test]
fn a_root_that_is_not_there_is_refused_by_name() {
    assert_eq!(
        refused(Path::new("/nonexistent/capture")),
        "--root /nonexistent/capture: No such file or directory (os error 2)"
    );
}
