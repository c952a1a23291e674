//! The API server is told of devices in use and of pools, where that is asked for, and nothing waits for it.

// Helpers of tests are tests.
#![cfg(feature = "kube")]
#![allow(clippy::unwrap_used)]

mod api;
mod logged;
mod node;
mod pod_resources;
mod running;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use api::{Api, Away, Mood, Objects};
use doorbell_common::claim::{self, Pod};
use doorbell_common::kernel::netlink::Heard;
use doorbell_device_plugin::cluster::{Cluster, Reach, is_uninstalled};
use doorbell_device_plugin::run::Beside;
use logged::Logged;
use node::{GOOD, Node, Vf};
use pod_resources::Kubelet;
use running::{FAST, HEALTHY, REST, Running, UNHEALTHY, VFS, config, list};
use serde_json::Value;

const NODE: &str = "node-1";
const POD: [&str; 3] = ["default", "a", VFS[0]];

fn node() -> Node {
    Node::with(&[GOOD, Vf { group: 8, ..GOOD }, Vf { group: 9, ..GOOD }])
}

fn objects() -> Objects {
    Objects::default().node(NODE).pod("default", "a", "uid-a")
}

/// A plugin that tells of events, labels or both.
fn telling(node: Node, kubeconfig: PathBuf, pools: &[&str], events: bool, labels: bool) -> Running {
    let reach = Reach::Kubeconfig(vec![kubeconfig]);
    let cluster = Some(Cluster { node: NODE.parse().unwrap(), reach, events, labels });
    Running::beside(node, pools, Beside { cluster, ..Beside::default() })
}

/// What `kubectl describe` shows of an event, and of what.
fn shown(event: &Value) -> [&str; 5] {
    let of = &event["involvedObject"];
    [&of["kind"], &of["uid"], &event["type"], &event["reason"], &event["message"]]
        .map(|field| field.as_str().unwrap())
}

#[tokio::test]
async fn node_and_pod_are_told_of_a_device_in_use_when_it_goes_unhealthy_and_when_it_is_back() {
    let (api, node) = (Api::with(objects()), node());
    let _kubelet = Kubelet::on(&node, &[POD]);
    let logged = Logged::here();
    let running = telling(node, api.kubeconfig(), &[FAST], true, false);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    running.unbinds(0);
    running.says("unbind", "pci", VFS[0]);
    fast.next().await;
    let events = api.events(2).await;
    let [on_node, on_pod] = [&events[0], &events[1]].map(shown);
    let has = "device 0000:01:00.1 of pool fast, which default/a has,";
    assert_eq!(on_node[..4], ["Node", NODE, "Warning", "DeviceUnhealthy"]);
    assert_eq!(on_node[4], format!("{has} is unhealthy: not on a VFIO driver but on no driver"));
    assert_eq!(on_pod[..4], ["Pod", "uid-a", "Warning", "DeviceUnhealthy"]);
    assert_eq!(on_pod[4], on_node[4].replace(", which default/a has,", ""));

    // Another reason is no other transition: what comes next is that it is healthy.
    running.node.write("sys/bus/pci/devices/0000:01:00.7/class", b"0x020000\n");
    let stranger = running.node.at("sys/kernel/iommu_groups/7/devices/0000:01:00.7");
    fs::create_dir_all(&stranger).unwrap();
    running.uevents.send(Heard::Lost).unwrap();
    logged.until("on no driver; IOMMU group 7 is shared").await;
    fs::remove_dir(stranger).unwrap();
    running.binds(0);
    running.says("bind", "pci", VFS[0]);
    fast.next().await;
    let events = api.events(4).await;
    let [on_node, on_pod] = [&events[2], &events[3]].map(shown);
    assert_eq!(on_node, ["Node", NODE, "Normal", "DeviceHealthy", &format!("{has} is healthy again")]);
    let message = "device 0000:01:00.1 of pool fast is healthy again";
    assert_eq!(on_pod, ["Pod", "uid-a", "Normal", "DeviceHealthy", message]);
    running.ends().await;
}

#[tokio::test]
async fn nobody_is_told_of_a_device_that_nobody_has() {
    let (api, node) = (Api::with(objects()), node());
    let kubelet = Kubelet::on(&node, &[]);
    let running = telling(node, api.kubeconfig(), &[FAST], true, false);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    running.unbinds(0);
    running.says("unbind", "pci", VFS[0]);
    fast.next().await;
    running.binds(0);
    running.says("bind", "pci", VFS[0]);
    fast.next().await;
    // What comes next is of the other: there was none before.
    kubelet.gives(&[["default", "a", VFS[1]]]);
    running.unbinds(1);
    running.says("unbind", "pci", VFS[1]);
    fast.next().await;
    let events = api.events(1).await;
    assert!(shown(&events[0])[4].contains(VFS[1]), "{events:#?}");
    running.ends().await;
}

#[tokio::test]
async fn a_pod_hears_that_its_device_is_gone_and_who_has_its_name_now_does_not() {
    let mut objects = objects().pod("default", "b", "uid-b");
    objects.pods.get_mut(&("default".to_owned(), "b".to_owned())).unwrap().1 =
        "2200-01-01T00:00:00Z".to_owned();
    let (api, node) = (Api::with(objects), node());
    let _kubelet = Kubelet::on(&node, &[["default", "b", VFS[1]], POD]);
    let running = telling(node, api.kubeconfig(), &[FAST], true, false);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    running.unbinds(1);
    running.says("unbind", "pci", VFS[1]);
    fast.next().await;
    config(&running.node, "2", &[REST]);
    let events = api.events(3).await;
    let about = |event| shown(event)[..2].to_vec();
    assert_eq!(
        events.iter().map(about).collect::<Vec<_>>(),
        [["Node", NODE], ["Node", NODE], ["Pod", "uid-a"]]
    );
    assert!(shown(&events[2])[4].ends_with("it is gone, or no pool wants it"), "{events:#?}");
    running.ends().await;
}

#[tokio::test]
async fn while_the_kubelet_does_not_say_whose_a_device_is_its_claim_does() {
    let (api, node) = (Api::with(objects()), node());
    let text = serde_json::json!({
        "apiVersion": "doorbell.dev/v1", "id": VFS[0], "boot": "b1", "undo": [],
        "holder": {
            "network": "net", "containerId": "c1", "interface": "eth0", "netns": "/var/run/netns/a",
            "pod": Pod { namespace: "default".to_owned(), name: "a".to_owned() },
        },
    });
    node.write(claim::path(&VFS[0].parse().unwrap()).trim_start_matches('/'), text.to_string().as_bytes());
    let running = telling(node, api.kubeconfig(), &[FAST], true, false);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    running.unbinds(0);
    running.says("unbind", "pci", VFS[0]);
    assert_eq!(shown(&api.events(2).await[1])[..2], ["Pod", "uid-a"]);
    running.ends().await;
}

#[tokio::test]
async fn an_api_server_that_hangs_keeps_no_list_and_no_answer_waiting() {
    let (api, node) = (Api::with(objects()), node());
    let _kubelet = Kubelet::on(&node, &[POD]);
    api.is(Mood::Hangs);
    let running = telling(node, api.kubeconfig(), &[FAST], true, true);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    running.unbinds(0);
    running.says("unbind", "pci", VFS[0]);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], UNHEALTHY), (VFS[1], HEALTHY)])));
    api.until("asked for both", |objects| objects.requests >= 2).await;
    assert!(running.allocates("fast", VFS[1]).await.is_ok());
    running.binds(0);
    running.says("bind", "pci", VFS[0]);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], HEALTHY)])));
    assert!(running.allocates("fast", VFS[0]).await.is_ok());

    api.is(Mood::Well);
    let events = api.events(4).await;
    let reasons = events.iter().map(|event| shown(event)[3]);
    let (unhealthy, healthy) = ("DeviceUnhealthy", "DeviceHealthy");
    assert_eq!(reasons.collect::<Vec<_>>(), [unhealthy, unhealthy, healthy, healthy]);
    api.until("labelled", |objects| !objects.labels(NODE).is_empty()).await;
    running.ends().await;
}

#[tokio::test]
async fn an_api_server_that_comes_later_is_told_then() {
    let (away, node) = (Away::new(), node());
    let _kubelet = Kubelet::on(&node, &[POD]);
    let logged = Logged::here();
    let running = telling(node, away.kubeconfig(), &[FAST], true, false);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    running.unbinds(0);
    running.says("unbind", "pci", VFS[0]);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], UNHEALTHY), (VFS[1], HEALTHY)])));
    logged.until("the API server is not told of events").await;
    let api = away.comes(objects());
    api.events(2).await;
    logged.until("the API server is told of events again").await;
    assert_eq!(logged.count("the API server is not told"), 1);
    assert_eq!(logged.count("ERROR"), 0, "nor does the client say so: {}", logged.text());
    running.ends().await;
}

#[tokio::test]
async fn who_may_not_make_events_says_so_once_and_makes_them_once_allowed() {
    let (api, node) = (Api::with(objects()), node());
    let _kubelet = Kubelet::on(&node, &[POD]);
    api.is(Mood::Answers(403));
    let logged = Logged::here();
    let running = telling(node, api.kubeconfig(), &[FAST], true, false);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    running.unbinds(0);
    running.says("unbind", "pci", VFS[0]);
    fast.next().await;
    api.until("asked three times", |objects| objects.requests >= 3).await;
    assert_eq!(logged.count("WARN the API server is not told of events"), 1, "{}", logged.text());
    assert_eq!(logged.count("the API server answers 403 Forbidden"), 1, "{}", logged.text());
    api.is(Mood::Well);
    api.events(2).await;
    running.ends().await;
}

#[tokio::test]
async fn the_node_has_labels_of_its_pools_and_of_no_others() {
    let api = Api::with(objects());
    let running = telling(node(), api.kubeconfig(), &[FAST, REST], false, true);
    let of = |pool: &str, devices: &str| {
        let key = |what| format!("doorbell.dev/{pool}.{what}");
        let labels = [(key("access"), "vfio"), (key("devices"), devices), (key("doorbell"), "direct")];
        labels.map(|(key, value)| (key, value.to_owned()))
    };
    let become_ = async |labels: BTreeMap<String, String>| {
        let labels: BTreeMap<_, _> =
            labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        api.until("labelled so", |objects| objects.labels(NODE) == labels).await;
    };
    become_([of("fast", "2"), of("rest", "1")].concat().into_iter().collect()).await;
    // Health is no label's: nothing is applied for it.
    running.unbinds(0);
    running.says("unbind", "pci", VFS[0]);
    running.counts(r#"doorbell_devices{pool="fast",state="unhealthy",reason="driver"} 1"#).await;
    config(&running.node, "2", &["- {name: fast, access: vfio, select: {pfNames: ['ens1f0#1']}}\n", REST]);
    become_([of("fast", "1"), of("rest", "1")].concat().into_iter().collect()).await;
    config(&running.node, "3", &[REST]);
    become_(of("rest", "1").into()).await;
    let objects = api.until("applied", |objects| objects.applied >= 3).await;
    assert_eq!(objects.applied, 3);
    assert_eq!(objects.nodes[NODE]["kubernetes.io/hostname"], NODE, "what is not ours stays");
    running.ends().await;
}

#[tokio::test]
async fn a_node_that_is_not_there_is_not_made() {
    let api = Api::with(Objects::default());
    let logged = Logged::here();
    let running = telling(node(), api.kubeconfig(), &[FAST], false, true);
    logged.until("the node is not labelled").await;
    assert!(api.until("asked", |objects| objects.requests == 1).await.nodes.is_empty());
    running.ends().await;
}

#[tokio::test]
async fn what_is_not_asked_for_is_not_connected_for() {
    let (api, node) = (Api::with(objects()), node());
    let _kubelet = Kubelet::on(&node, &[POD]);
    let running = telling(node, api.kubeconfig(), &[FAST], false, false);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    running.unbinds(0);
    running.says("unbind", "pci", VFS[0]);
    fast.next().await;
    running.ends().await;
    assert_eq!(api.requests(), 0);
}

#[tokio::test]
async fn a_plugin_is_uninstalled_whose_daemon_set_or_service_account_is_gone() {
    let api = Api::with(Objects::default());
    let reach = Reach::Kubeconfig(vec![api.kubeconfig()]);
    let asked = async || {
        is_uninstalled(&reach, &"kube-system/doorbell".parse().unwrap(), Duration::from_secs(3)).await
    };
    let set = |deleted: Option<&str>| {
        let key = ("kube-system".to_owned(), "doorbell".to_owned());
        api.change(|objects| drop(objects.daemon_sets.insert(key, deleted.map(str::to_owned))));
    };
    assert!(asked().await, "there is none");
    set(None);
    assert!(!asked().await, "it stands");
    set(Some("2026-01-01T00:00:00Z"));
    assert!(asked().await, "it is going");
    set(None);
    api.is(Mood::Answers(401));
    assert!(asked().await, "the service account is gone");
    // A 404 of who does not say of what is none of the API server's.
    for mood in [Mood::Answers(403), Mood::Answers(404), Mood::Answers(500), Mood::Hangs] {
        api.is(mood);
        assert!(!asked().await, "not known: {mood:?}");
    }
}

/// The role goes before the service account.
#[tokio::test]
async fn who_is_forbidden_to_know_asks_again() {
    let api = Api::with(Objects::default());
    api.is(Mood::Answers(403));
    let reach = Reach::Kubeconfig(vec![api.kubeconfig()]);
    let set = "kube-system/doorbell".parse().unwrap();
    let asking = is_uninstalled(&reach, &set, Duration::from_secs(20));
    let going = async {
        api.until("asked", |objects| objects.requests == 2).await;
        api.is(Mood::Answers(401));
    };
    assert!(tokio::join!(asking, going).0);
}
