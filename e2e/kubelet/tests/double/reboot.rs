//! A reboot, without a runtime: what the checkpoint and the API server remember.

use doorbell_common::kubelet::deviceplugin::DevicePluginOptions;
use e2e_kubelet::{Admission, AdmissionError, Kubelet, Phase, PodError};

use crate::{
    fake_plugin::FakePlugin,
    node::{LIMIT, Node, RESOURCE, plugin, pod},
};

/// The plugin starts with the node again.
async fn plugin_again(kubelet: &Kubelet) -> FakePlugin {
    let plugin = plugin(kubelet, &["a", "b"], DevicePluginOptions::default());
    plugin.register(&kubelet.config().registration_socket()).await.unwrap();
    kubelet.wait_allocatable(RESOURCE, 2, LIMIT).await.unwrap();
    plugin
}

#[tokio::test]
async fn a_rebooted_nodes_pod_is_admitted_anew_with_its_answer_and_no_second_allocate() {
    let Node { kubelet, plugin: before, folder: _folder } = {
        let node = Node::new(&["a", "b"]).await;
        node.admitted("p", 1).await;
        node
    };
    let uid = kubelet.view().pods.keys().next().unwrap().clone();
    let answer = kubelet.run_options(&uid, "c");
    before.kill();
    kubelet.reboot().await.unwrap();
    assert_eq!(kubelet.view().pods[&uid].phase, Phase::Bound);
    assert!(matches!(kubelet.start_pod(&uid).await, Err(PodError::NotAdmitted { .. })));
    let plugin = plugin_again(&kubelet).await;
    kubelet.readmit(&uid).await.unwrap();
    assert_eq!(kubelet.view().pods[&uid].phase, Phase::Admitted);
    assert_eq!((kubelet.run_options(&uid, "c"), plugin.asked()), (answer, vec![]));
}

#[tokio::test]
async fn a_new_process_admits_an_adopted_pod_from_the_checkpoint() {
    let Node { kubelet, plugin: before, folder } = Node::new(&["a", "b"]).await;
    let spec = pod("p", 1);
    let Admission::Admitted(uid) = kubelet.admit(spec.clone()).await.unwrap() else { panic!("pending") };
    let (config, answer) = (kubelet.config().clone(), kubelet.run_options(&uid, "c"));
    drop(kubelet);
    before.kill();

    let kubelet = Kubelet::start(config).await.unwrap();
    let plugin = plugin_again(&kubelet).await;
    let told = pod("p", 1).uid(uid.clone());
    assert_eq!(kubelet.adopt(told).unwrap(), uid);
    assert!(matches!(kubelet.adopt(spec), Err(AdmissionError::Exists { .. })));
    kubelet.readmit(&uid).await.unwrap();
    assert_eq!((kubelet.run_options(&uid, "c"), plugin.asked()), (answer, vec![]));
    drop(folder);
}

#[tokio::test]
async fn a_bound_pod_counts_and_waits_for_nobody_but_readmit() {
    let node = Node::new(&["a"]).await;
    let uid = node.admitted("p", 1).await;
    node.kubelet.reboot().await.unwrap();
    let _plugin = plugin_again(&node.kubelet).await;
    let Admission::Pending { reason, .. } = node.admit("q", 2).await else { panic!("admitted") };
    assert_eq!(reason, "Insufficient example.com/x");
    node.kubelet.retry_pending().await;
    assert_eq!(node.kubelet.view().pods[&uid].phase, Phase::Bound);
}
