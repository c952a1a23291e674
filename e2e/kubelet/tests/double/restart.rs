//! What outlives the kubelet, and what its pods meet when it is back.

use doorbell_common::kubelet::deviceplugin::DevicePluginOptions;
use e2e_kubelet::{AdmitError, Phase, StartError};

use crate::{
    fake_plugin::{Asked, device},
    node::{LIMIT, Node, RESOURCE, plugin},
};

#[tokio::test]
async fn a_restart_deletes_every_socket_and_keeps_the_checkpoint() {
    let node = Node::new(&["a"]).await;
    let uid = node.admitted("p", 1).await;
    node.kubelet.restart().await.unwrap();
    let folder = node.folder.path().join("device-plugins");
    assert!(!folder.join("fake.sock").exists());
    assert!(folder.join("kubelet.sock").exists() && folder.join("kubelet_internal_checkpoint").exists());
    // The resource is known, and empty until its plugin registers again.
    assert_eq!(node.kubelet.capacity(RESOURCE), 0);
    assert_eq!(node.held(&uid), ["a"]);
}

#[tokio::test]
async fn a_stopped_kubelet_ends_the_stream_and_listens_no_more() {
    let node = Node::new(&["a"]).await;
    node.plugin.wait_streams(1).await;
    node.kubelet.stop().await;
    tokio::time::timeout(LIMIT, node.plugin.wait_streams(0)).await.unwrap();
    let socket = node.kubelet.config().registration_socket();
    assert!(node.plugin.register(&socket).await.is_err());
    node.kubelet.resume().await.unwrap();
    assert!(matches!(node.kubelet.resume().await, Err(StartError::Running)));
}

#[tokio::test]
async fn the_cached_answer_is_replayed_without_a_second_allocate() {
    let Node { kubelet, plugin: first, folder: _folder } = {
        let node = Node::new(&["a", "b"]).await;
        node.admitted("p", 1).await;
        node
    };
    let uid = kubelet.view().pods.keys().next().unwrap().clone();
    let answer = kubelet.run_options(&uid, "c");
    kubelet.restart().await.unwrap();
    first.kill();
    let second = plugin(&kubelet, &["a", "b"], DevicePluginOptions::default());
    second.register(&kubelet.config().registration_socket()).await.unwrap();
    kubelet.wait_allocatable(RESOURCE, 2, LIMIT).await.unwrap();
    kubelet.readmit(&uid).await.unwrap();
    assert_eq!(kubelet.run_options(&uid, "c"), answer);
    assert_eq!(second.asked(), []);
    // What it holds is held: the other device is the one left.
    let other = kubelet.bind(crate::node::pod("q", 1)).await.unwrap();
    assert_eq!(second.asked(), [Asked::Allocate(vec!["b".to_owned()])]);
    assert_eq!(kubelet.devices(&other, "c")[RESOURCE], ["b"]);
}

/// Re-admits a pod that held "a" and answers why it failed.
async fn refusal(relist: Option<&[(&str, &str)]>, forget: bool) -> String {
    let node = Node::new(&["a", "b"]).await;
    let uid = node.admitted("p", 1).await;
    node.kubelet.stop().await;
    if forget {
        // What a checkpoint of a kubelet whose grace was over looks like: nothing registered.
        let folder = node.folder.path().join("device-plugins");
        std::fs::remove_file(folder.join("kubelet_internal_checkpoint")).unwrap();
    }
    node.kubelet.resume().await.unwrap();
    let again = plugin(&node.kubelet, &[], DevicePluginOptions::default());
    if let Some(devices) = relist {
        again.list(devices.iter().map(|(id, health)| device(id, health, &[])).collect());
        again.register(&node.kubelet.config().registration_socket()).await.unwrap();
        node.kubelet.wait_capacity(RESOURCE, devices.len(), LIMIT).await.unwrap();
    }
    let AdmitError::Refused(error) = node.kubelet.readmit(&uid).await.unwrap_err() else { panic!() };
    assert!(matches!(node.kubelet.view().pods[&uid].phase, Phase::Failed { .. }));
    assert!(node.held(&uid).is_empty());
    error.to_string()
}

#[tokio::test]
async fn a_pod_readmitted_before_its_plugin_is_back_fails() {
    assert!(
        refusal(None, false).await.contains("no healthy devices present; cannot allocate unhealthy devices")
    );
}

#[tokio::test]
async fn a_pod_readmitted_without_a_registered_resource_fails() {
    assert!(refusal(None, true).await.contains("cannot allocate unregistered device example.com/x"));
}

#[tokio::test]
async fn a_pod_whose_device_is_no_longer_healthy_fails() {
    let error = refusal(Some(&[("a", "Unhealthy"), ("b", "Healthy")]), false).await;
    assert!(error.contains("previously allocated devices are no longer healthy"), "{error}");
}
