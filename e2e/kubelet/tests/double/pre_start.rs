//! PreStartContainer, where a plugin requires it.

use doorbell_common::kubelet::deviceplugin::DevicePluginOptions;
use e2e_kubelet::PreStartError;
use tonic::Status;

use crate::{
    fake_plugin::Asked,
    node::{LIMIT, Node, RESOURCE},
};

const REQUIRED: DevicePluginOptions =
    DevicePluginOptions { pre_start_required: true, get_preferred_allocation_available: false };

#[tokio::test]
async fn it_is_called_at_every_start_with_what_the_container_holds() {
    let node = Node::with(&["a", "b"], REQUIRED, |_| {}).await;
    let uid = node.admitted("p", 2).await;
    for _ in 0..2 {
        let options = node.kubelet.pre_start(&uid, "c").await.unwrap();
        assert_eq!(options.envs["DEVICES"], "a,b");
    }
    let held = vec!["a".to_owned(), "b".to_owned()];
    let (pre_start, allocate) = (Asked::PreStart(held.clone()), Asked::Allocate(held));
    assert_eq!(node.plugin.asked(), [allocate, pre_start.clone(), pre_start]);
}

#[tokio::test]
async fn a_plugin_that_does_not_require_it_is_not_asked() {
    let node = Node::new(&["a"]).await;
    let uid = node.admitted("p", 1).await;
    node.kubelet.pre_start(&uid, "c").await.unwrap();
    assert!(!node.plugin.asked().iter().any(|asked| matches!(asked, Asked::PreStart(_))));
}

#[tokio::test]
async fn a_refusal_is_passed_on() {
    let node = Node::with(&["a"], REQUIRED, |_| {}).await;
    let uid = node.admitted("p", 1).await;
    node.plugin.refuse("PreStart", Status::failed_precondition("group 7 is now group 9"));
    let error = node.kubelet.pre_start(&uid, "c").await.unwrap_err();
    let text = "device plugin PreStartContainer rpc failed with err: rpc error: code = FailedPrecondition desc = \
                group 7 is now group 9";
    assert_eq!(error.to_string(), text);
    node.plugin.permit("PreStart");
    node.kubelet.pre_start(&uid, "c").await.unwrap();
}

#[tokio::test]
async fn no_container_starts_while_a_plugin_that_requires_it_is_down() {
    let Node { kubelet, plugin, folder: _folder } = {
        let node = Node::with(&["a"], REQUIRED, |_| {}).await;
        node.admitted("p", 1).await;
        node
    };
    let uid = kubelet.view().pods.keys().next().unwrap().clone();
    plugin.kill();
    kubelet.wait_allocatable(RESOURCE, 0, LIMIT).await.unwrap();
    let error = kubelet.pre_start(&uid, "c").await.unwrap_err();
    assert_eq!(error, PreStartError::Stopped(RESOURCE.to_owned()));
}
