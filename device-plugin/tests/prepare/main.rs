//! What `prepare` would change of a node, what keeps it from that, and what it takes back: on a node of plain files, where
//! nothing moves when it is told to, and what the kernel was told shows.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

#[path = "../node/mod.rs"]
mod node;

mod free;
mod make;
mod plan;
mod withdraw;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::prepare::Allocated;

use node::{GOOD, Node};

const VF: &str = "0000:01:00.1";

fn config(pools: &str) -> Config {
    Config::parse("pools.yaml", &format!("apiVersion: doorbell.dev/v1\npools:\n{pools}")).unwrap()
}

/// A pool with every VF, which it prepares.
fn pool_of_vfs(access: &str, prepare: &str) -> Config {
    config(&format!(
        "- {{name: one, access: {access}, select: {{pfNames: [ens1f0]}}, prepare: {{{prepare}}}}}\n"
    ))
}

/// A pool with these parents, which it prepares.
fn pool_of(access: &str, parents: &str, prepare: &str) -> Config {
    config(&format!(
        "- {{name: one, access: {access}, select: {{parents: [{parents}]}}, prepare: {{{prepare}}}}}\n"
    ))
}

/// A config whose only pool selects nothing that is there.
fn no_pool() -> Config {
    config("- {name: none, access: vfio, select: {pfNames: [ens9]}, prepare: {}}\n")
}

/// A node with one VF on this driver.
fn vf_on(driver: Option<&str>) -> Node {
    let node = Node::with(&[GOOD]);
    if driver != Some("vfio-pci") {
        node.drive(VF, driver);
    }
    node
}

fn to_nobody() -> Allocated {
    Allocated::To(BTreeMap::new())
}

/// Process 42 has this node open.
fn hold(node: &Node, path: &str) {
    node.write("proc/42/comm", b"qemu\n");
    fs::create_dir_all(node.at("proc/42/fd")).unwrap();
    symlink(path, node.at("proc/42/fd/5")).unwrap();
}

/// A claim that can't be read may be anybody's.
fn claim(node: &Node, id: &str) {
    node.write(&format!("var/lib/doorbell/claims/{id}.json"), b"{");
}
