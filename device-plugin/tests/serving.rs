//! Serving: streams begin whole, and end with the plugin; sockets go with it.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use std::sync::Arc;
use std::time::Duration;

use doorbell_common::kubelet::deviceplugin::Empty;
use doorbell_common::kubelet::deviceplugin::device_plugin_client::DevicePluginClient;
use doorbell_device_plugin::inventory::Inventory;
use doorbell_device_plugin::listening::Listening;
use doorbell_device_plugin::metrics::Counts;
use doorbell_device_plugin::{kubelet, publish};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use node::{GOOD, Node, Vf};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- {name: fast, access: vfio, select: {pfNames: ['ens1f0#0']}}
- {name: rest, access: vfio, select: {pfNames: ['ens1f0#1']}}
";
const SOCKET: &str = "/var/lib/kubelet/device-plugins/doorbell-fast.sock";
const WITHIN: Duration = Duration::from_secs(10);

/// Dials as the kubelet does, once the socket is there.
async fn dial(node: &Node) -> DevicePluginClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", node.host().path(SOCKET).display())).unwrap();
    loop {
        if let Ok(channel) = endpoint.connect().await {
            return DevicePluginClient::new(channel);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_kubelet_is_told_of_numa_nodes_unless_the_pool_excludes_them() {
    for (more, told) in [("", true), (", excludeTopology: true", false)] {
        let node = Node::with(&[GOOD]);
        node.write("sys/bus/pci/devices/0000:01:00.1/numa_node", b"1\n");
        let config = format!(
            "apiVersion: doorbell.dev/v1\npools:\n- {{name: fast, access: vfio, select: {{pfNames: [ens1f0]}}{more}}}\n"
        );
        let (_sender, inventory) = watch::channel(Arc::new(node.inventory(&config)));
        let closing = CancellationToken::new();
        let serving = tokio::spawn(kubelet::serve(
            node.host(),
            inventory,
            Listening::default(),
            Counts::default(),
            closing.clone(),
        ));
        let test = async {
            let mut lists = dial(&node).await.list_and_watch(Empty {}).await.unwrap().into_inner();
            let devices = lists.message().await.unwrap().unwrap().devices;
            let nodes = devices[0].topology.as_ref().map(|topology| topology.nodes[0].id);
            assert_eq!(nodes, told.then_some(1));
        };
        tokio::time::timeout(WITHIN, test).await.unwrap();
        closing.cancel();
        serving.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_stream_says_each_change_of_its_pool_and_ends_with_the_plugin() {
    let node = Node::with(&[GOOD, Vf { group: 8, ..GOOD }]);
    let whole = node.inventory(CONFIG);
    let (sender, inventory) = watch::channel(Arc::new(whole.clone()));
    let closing = CancellationToken::new();
    let serving = tokio::spawn(kubelet::serve(
        node.host(),
        inventory,
        Listening::default(),
        Counts::default(),
        closing.clone(),
    ));

    let test = async {
        let mut lists = dial(&node).await.list_and_watch(Empty {}).await.unwrap().into_inner();
        let first = lists.message().await.unwrap().unwrap().devices;
        assert_eq!(first.len(), 1);
        assert_eq!((first[0].id.as_str(), first[0].health.as_str()), ("0000:01:00.1", "Healthy"));

        let without = |pool: &str| -> Arc<Inventory> {
            let mut inventory = whole.clone();
            inventory.pools.get_mut(&pool.parse().unwrap()).unwrap().devices = Arc::default();
            Arc::new(inventory)
        };
        // A change of the other pool says nothing here: the next message is the one after it.
        sender.send(without("rest")).unwrap();
        tokio::task::yield_now().await;
        sender.send(without("fast")).unwrap();
        assert!(lists.message().await.unwrap().unwrap().devices.is_empty());

        closing.cancel();
        assert!(lists.message().await.unwrap().is_none(), "the stream ends, and is not torn");
    };
    tokio::time::timeout(WITHIN, test).await.unwrap();
    tokio::time::timeout(WITHIN, serving).await.unwrap().unwrap().unwrap();
    assert!(!node.host().exists(SOCKET));
}

#[test]
fn descriptors_come_and_go_with_what_is_advertised() {
    let node = Node::with(&[GOOD, Vf { group: 8, ..GOOD }]);
    let both = ["0000:01:00.1", "0000:01:00.2"].map(|id| format!("/run/doorbell/devices/{id}"));
    let described = |folder: &str| node.host().exists(format!("{folder}/device.json"));

    publish::all(&node.host(), &node.inventory(CONFIG)).unwrap();
    assert!(both.iter().all(|folder| described(folder)));
    let one = CONFIG.lines().take(3).collect::<Vec<_>>().join("\n");
    publish::all(&node.host(), &node.inventory(&one)).unwrap();
    assert!(described(&both[0]) && !described(&both[1]));
    assert!(node.host().exists(&both[1]), "a container may have the folder mounted");
    // A claim that nobody can read is no reason to describe nothing at all.
    node.write("var/lib/doorbell/claims/0000:01:00.2.json", b"{");
    publish::all(&node.host(), &node.inventory(&one)).unwrap();
}
