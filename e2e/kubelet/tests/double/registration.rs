//! Registration and the lists that follow it.

use std::time::Duration;

use doorbell_common::kubelet::deviceplugin::DevicePluginOptions;
use tonic::Code;

use crate::{
    fake_plugin::{device, healthy, register},
    node::{LIMIT, Node, RESOURCE, plugin},
};

#[tokio::test]
async fn a_registered_plugins_devices_are_capacity_and_the_healthy_ones_allocatable() {
    let node = Node::new(&["a", "b"]).await;
    node.plugin.list(vec![device("a", "Healthy", &[0]), device("b", "Unhealthy", &[1])]);
    let view = node.kubelet.wait_allocatable(RESOURCE, 1, LIMIT).await.unwrap();
    assert_eq!(node.kubelet.capacity(RESOURCE), 2);
    let resource = &view.resources[RESOURCE];
    assert_eq!(resource.devices["b"].numa, [1]);
    assert!(resource.connected && resource.violations.is_empty());
}

#[tokio::test]
async fn a_refusal_is_in_the_kubelets_words() {
    let node = Node::new(&["a"]).await;
    let socket = node.kubelet.config().registration_socket();
    let status = register(&socket, "v1alpha", "fake.sock", RESOURCE).await.unwrap_err();
    assert!(status.message().contains("requested API version \"v1alpha\" is not supported"), "{status}");
    let status = register(&socket, "v1beta1", "fake.sock", "x").await.unwrap_err();
    assert_eq!(status.message(), "the ResourceName \"x\" is invalid");
    assert_eq!(status.code(), Code::Unknown);
}

#[tokio::test]
async fn a_plugin_that_does_not_serve_yet_is_refused() {
    let node = Node::new(&["a"]).await;
    let socket = node.kubelet.config().registration_socket();
    let status = register(&socket, "v1beta1", "late.sock", "example.com/late").await.unwrap_err();
    assert!(status.message().contains("failed to dial device plugin"), "{status}");
    assert_eq!(node.kubelet.registrations("example.com/late"), 0);
}

#[tokio::test]
async fn a_registration_anew_replaces_the_endpoint() {
    let node = Node::new(&["a"]).await;
    let folder = node.kubelet.config().plugins();
    let second = crate::fake_plugin::FakePlugin::serve(
        &folder,
        "second.sock",
        RESOURCE,
        &["b", "c"],
        DevicePluginOptions::default(),
    );
    second.register(&node.kubelet.config().registration_socket()).await.unwrap();
    node.kubelet.wait_registrations(RESOURCE, 2, LIMIT).await.unwrap();
    node.kubelet.wait_allocatable(RESOURCE, 2, LIMIT).await.unwrap();
    // The one before is not heard any more, not even in its end.
    node.plugin.list(healthy(&["x", "y", "z"]));
    node.plugin.kill();
    second.list(healthy(&["b", "c", "d", "e"]));
    let view = node.kubelet.wait_capacity(RESOURCE, 4, LIMIT).await.unwrap();
    assert!(view.resources[RESOURCE].connected);
}

#[tokio::test]
async fn a_gone_plugins_devices_linger_unhealthy() {
    let node = Node::new(&["a", "b"]).await;
    node.plugin.kill();
    let view = node.kubelet.wait_allocatable(RESOURCE, 0, LIMIT).await.unwrap();
    assert_eq!(view.resources[RESOURCE].capacity(), 2);
    assert!(!view.resources[RESOURCE].connected);
}

#[tokio::test]
async fn a_plugin_that_stays_away_for_longer_than_the_grace_loses_its_capacity() {
    let options = DevicePluginOptions::default();
    let node = Node::with(&["a", "b"], options, |config| config.stop_grace = Duration::from_millis(50)).await;
    node.plugin.kill();
    node.kubelet.wait_capacity(RESOURCE, 0, LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_plugin_that_is_back_within_the_grace_keeps_its_resource() {
    let options = DevicePluginOptions::default();
    let node = Node::with(&["a"], options, |config| config.stop_grace = Duration::from_millis(200)).await;
    let Node { kubelet, plugin: first, folder: _folder } = node;
    first.kill();
    kubelet.wait_allocatable(RESOURCE, 0, LIMIT).await.unwrap();
    let second = plugin(&kubelet, &["a"], options);
    second.register(&kubelet.config().registration_socket()).await.unwrap();
    kubelet.wait_allocatable(RESOURCE, 1, LIMIT).await.unwrap();
    let vanished = kubelet.wait_until(
        "a loss",
        |node| node.resources[RESOURCE].capacity() == 0,
        Duration::from_millis(400),
    );
    vanished.await.unwrap_err();
}
