//! What stays for pods that have devices which the config wants no more: the specifications that their sandboxes are made
//! by. The kubelet of these tests is silent, so whatever was ever given away may be a pod's.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;
mod running;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use doorbell_common::allocation::{self, Allocation, By};
use doorbell_common::formats::cdi::{self, Spec};
use doorbell_common::subdevice::DeviceId;
use node::Node;
use running::{HEALTHY, REST, Running, VFS, WITHIN, config, list};
use tokio::time::{sleep, timeout};

const VM: &str = "- {name: vm, access: vfio, runtime: kata, select: {pfNames: ['ens1f0#0-1']}}\n";
const FEWER: &str = "- {name: vm, access: vfio, runtime: kata, select: {pfNames: ['ens1f0#1']}}\n";
const OTHERS: &str = "resourcePrefix: example.com\n";

fn id(vf: usize) -> DeviceId {
    VFS[vf].parse().unwrap()
}

/// The kubelet was once answered so.
fn given(node: &Node, vf: usize) {
    let record = Allocation::new(id(vf), "doorbell.dev/vm".to_owned(), By::Cdi);
    allocation::keep(&node.host(), &record).unwrap();
}

fn not_given(node: &Node, vf: usize) {
    node.remove(allocation::path(&id(vf)).trim_start_matches('/'));
}

/// A plugin with the first VF of the pool given away.
async fn running() -> Running {
    let running = Running::start(&[VM, REST]);
    let all = list(&[(VFS[0], HEALTHY), (VFS[1], HEALTHY)]);
    assert_eq!(running.lists("vm").await.next().await, Some(all));
    given(&running.node, 0);
    running
}

/// Names by which containers can ask, once the plugin has come as far as `config`.
async fn specified(running: &Running, version: &str, pools: &[&str]) -> Vec<String> {
    // Another pool of that config is served last, and what is written is written before that.
    let last = format!("- {{name: last-{version}, access: vfio, select: {{pfNames: ['ens1f0#2']}}}}\n");
    config(&running.node, version, &[&[last.as_str()], pools].concat());
    running.lists(&format!("last-{version}")).await.next().await;
    names(&running.node)
}

/// What is not needed any more is taken away behind the list, and what somebody took away comes back by itself.
async fn until(running: &Running, file: &str, there: bool) {
    let waiting = async {
        while running.node.at(file).exists() != there {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WITHIN, waiting).await.unwrap_or_else(|_| panic!("{file} is there: {}", !there));
}

fn names(node: &Node) -> Vec<String> {
    let specs: Vec<Spec> = cdi::read(&node.host()).unwrap();
    specs.iter().flat_map(|spec| spec.ids().map(|id| cdi::qualified(spec.kind(), id))).collect()
}

#[tokio::test]
async fn a_pool_that_leaves_the_config_leaves_a_pod_what_is_its() {
    let running = running().await;
    let before = running.node.text("var/run/cdi/doorbell-vm.json");
    let after = specified(&running, "2", &[]).await;
    assert_eq!(after, ["doorbell.dev/vm=0000:01:00.1"]);
    let [before, after]: [serde_json::Value; 2] = [before, running.node.text("var/run/cdi/doorbell-vm.json")]
        .map(|text| serde_json::from_str(&text).unwrap());
    assert_eq!(after["devices"][0], before["devices"][0], "word for word");
    assert!(running.node.at("run/doorbell/devices/0000:01:00.1/device.json").exists());
    until(&running, "run/doorbell/devices/0000:01:00.2/device.json", false).await;
    running.ends().await;
}

#[tokio::test]
async fn a_device_that_leaves_its_pool_stays_beside_those_that_do_not() {
    let running = running().await;
    let after = specified(&running, "2", &[FEWER]).await;
    assert_eq!(after, ["doorbell.dev/vm=0000:01:00.2", "doorbell.dev/vm=0000:01:00.1"]);
    running.ends().await;
}

#[tokio::test]
async fn what_is_left_goes_once_no_pod_has_it() {
    let running = running().await;
    assert_eq!(specified(&running, "2", &[FEWER]).await.len(), 2);
    not_given(&running.node, 0);
    assert_eq!(specified(&running, "3", &[FEWER]).await, ["doorbell.dev/vm=0000:01:00.2"]);
    running.ends().await;
}

#[tokio::test]
async fn under_another_prefix_both_names_lead_to_the_device() {
    let running = running().await;
    let after = specified(&running, "2", &[VM, OTHERS]).await;
    let names =
        ["doorbell.dev/vm=0000:01:00.1", "example.com/vm=0000:01:00.1", "example.com/vm=0000:01:00.2"];
    assert_eq!(after, names);
    running.ends().await;
}

#[tokio::test]
async fn names_of_two_prefixes_stay_apart_when_their_pool_goes_too() {
    let running = running().await;
    given(&running.node, 1);
    assert_eq!(specified(&running, "2", &[FEWER, OTHERS]).await.len(), 3);
    let after = specified(&running, "3", &[OTHERS]).await;
    let names =
        ["doorbell.dev/vm=0000:01:00.1", "doorbell.dev/vm=0000:01:00.2", "example.com/vm=0000:01:00.2"];
    assert_eq!(after.into_iter().collect::<BTreeSet<_>>(), names.map(str::to_owned).into());
    running.ends().await;
}

#[tokio::test]
async fn what_somebody_takes_away_comes_back() {
    let running = running().await;
    assert_eq!(specified(&running, "2", &[]).await.len(), 1);
    let file = "var/run/cdi/doorbell-vm.json";
    fs::remove_file(running.node.at(file)).unwrap();
    until(&running, file, true).await;
    assert_eq!(names(&running.node), ["doorbell.dev/vm=0000:01:00.1"]);
    running.ends().await;
}

#[tokio::test]
async fn a_plugin_that_starts_with_another_config_leaves_it_too() {
    let node =
        Node::with(&[node::GOOD, node::Vf { group: 8, ..node::GOOD }, node::Vf { group: 9, ..node::GOOD }]);
    let config = format!("{}{VM}", running::HEAD);
    doorbell_device_plugin::publish::all(&node.host(), &node.inventory(&config)).unwrap();
    given(&node, 0);
    let running = Running::on(node, &[REST]);
    running.lists("rest").await.next().await;
    assert_eq!(names(&running.node), ["doorbell.dev/vm=0000:01:00.1"]);
    running.ends().await;
}
