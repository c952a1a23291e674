//! Who gets which devices.

use std::collections::BTreeSet;

use doorbell_common::kubelet::deviceplugin::{ContainerAllocateResponse, DevicePluginOptions};
use e2e_kubelet::{Admission, AdmissionError, AdmitError, ContainerSpec, Phase, PodSpec};
use tonic::Status;

use crate::{
    fake_plugin::{Asked, device, healthy},
    node::{LIMIT, Node, RESOURCE, pod},
};

#[tokio::test]
async fn no_device_is_given_out_twice() {
    let node = Node::new(&["a", "b", "c"]).await;
    let (first, second, third) =
        tokio::join!(node.admitted("p", 1), node.admitted("q", 1), node.admitted("r", 1));
    let held: BTreeSet<_> = [first, second, third].iter().flat_map(|uid| node.held(uid)).collect();
    assert_eq!(held, BTreeSet::from(["a", "b", "c"].map(str::to_owned)));
}

#[tokio::test]
async fn allocate_is_called_once_for_each_container() {
    let node = Node::new(&["a", "b", "c"]).await;
    node.plugin.answer(ContainerAllocateResponse {
        envs: [("MODE".to_owned(), "vfio".to_owned())].into(),
        ..Default::default()
    });
    let container = |name, count| ContainerSpec::new(name).resource(RESOURCE, count);
    let spec = PodSpec::new("p").container(container("one", 2)).container(container("two", 1));
    let Admission::Admitted(uid) = node.kubelet.admit(spec).await.unwrap() else { panic!("pending") };
    let allocate = |ids: &[&str]| Asked::Allocate(ids.iter().map(|&id| id.to_owned()).collect());
    assert_eq!(node.plugin.asked(), [allocate(&["a", "b"]), allocate(&["c"])]);
    let options = node.kubelet.run_options(&uid, "one");
    assert_eq!([&options.envs["MODE"], &options.envs["DEVICES"]], ["vfio", "a,b"]);
    assert_eq!(node.kubelet.run_options(&uid, "two").cdi_devices, ["example.com/x=c"]);
}

#[tokio::test]
async fn a_pod_that_asks_for_too_much_waits_until_devices_are_free() {
    let node = Node::new(&["a", "b"]).await;
    let first = node.admitted("p", 2).await;
    let Admission::Pending { uid, reason } = node.admit("q", 1).await else { panic!("admitted") };
    assert_eq!(reason, "Insufficient example.com/x");
    assert!(node.kubelet.retry_pending().await.is_empty());
    node.kubelet.stop_pod(&first).await.unwrap();
    node.kubelet.wait_admitted(&uid, LIMIT).await.unwrap();
    assert_eq!(node.held(&uid), ["a"]);
    assert!(node.held(&first).is_empty());
}

#[tokio::test]
async fn a_pending_pod_is_admitted_when_capacity_appears() {
    let node = Node::new(&["a"]).await;
    let Admission::Pending { uid, .. } = node.admit("p", 2).await else { panic!("admitted") };
    node.plugin.list(healthy(&["a", "b"]));
    node.kubelet.wait_admitted(&uid, LIMIT).await.unwrap();
    assert_eq!(node.held(&uid), ["a", "b"]);
}

#[tokio::test]
async fn unhealthy_devices_are_not_given_out() {
    let node = Node::new(&["a", "b"]).await;
    node.plugin.list(vec![device("a", "Unhealthy", &[]), device("b", "Healthy", &[])]);
    node.kubelet.wait_allocatable(RESOURCE, 1, LIMIT).await.unwrap();
    let uid = node.admitted("p", 1).await;
    assert_eq!(node.held(&uid), ["b"]);
}

#[tokio::test]
async fn a_refused_allocation_fails_the_pod_for_good_and_frees_its_devices() {
    let node = Node::new(&["a"]).await;
    node.plugin.refuse("Allocate", Status::failed_precondition("the driver has changed"));
    let spec = pod("p", 1);
    let uid = spec.uid.clone();
    let error = node.kubelet.admit(spec).await.unwrap_err();
    let text = "UnexpectedAdmissionError: Allocate failed due to rpc error: code = FailedPrecondition desc = \
                the driver has changed, which is unexpected";
    assert_eq!(error.to_string(), text);
    let view = node.kubelet.view();
    assert!(
        matches!(&view.pods[&uid].phase, Phase::Failed { reason, .. } if reason == "UnexpectedAdmissionError")
    );
    assert!(view.resources[RESOURCE].allocated.is_empty());
    let refused = node.kubelet.wait_admitted(&uid, LIMIT).await.unwrap_err();
    assert!(matches!(refused, AdmitError::Refused(AdmissionError::Unexpected { .. })));
}

#[tokio::test]
async fn a_bound_pod_does_not_wait() {
    let node = Node::new(&["a"]).await;
    let error = node.kubelet.bind(pod("p", 2)).await.unwrap_err();
    let text = "requested number of devices unavailable for example.com/x. Requested: 2, Available: 1";
    assert!(error.to_string().contains(text), "{error}");
}

#[tokio::test]
async fn the_plugins_preference_is_followed_where_it_offers_one() {
    let options = DevicePluginOptions { get_preferred_allocation_available: true, ..Default::default() };
    let node = Node::with(&["a", "b", "c"], options, |_| {}).await;
    node.plugin.prefer(&["c"]);
    let uid = node.admitted("p", 1).await;
    assert_eq!(node.held(&uid), ["c"]);
    let available = ["a", "b", "c"].map(str::to_owned).to_vec();
    assert_eq!(node.plugin.asked()[0], Asked::Preferred { available, must_include: vec![], size: 1 });
}

#[tokio::test]
async fn an_init_containers_device_is_given_to_the_container_after_it() {
    let node = Node::new(&["a"]).await;
    let spec = pod("p", 1).init_container(ContainerSpec::new("init").resource(RESOURCE, 1));
    let Admission::Admitted(uid) = node.kubelet.admit(spec).await.unwrap() else { panic!("pending") };
    assert_eq!(node.kubelet.devices(&uid, "init"), node.kubelet.devices(&uid, "c"));
    // Allocate comes twice for the one device.
    let once = Asked::Allocate(vec!["a".to_owned()]);
    assert_eq!(node.plugin.asked(), [once.clone(), once]);
}

#[tokio::test]
async fn a_sidecar_keeps_its_device() {
    let node = Node::new(&["a", "b"]).await;
    let spec = pod("p", 1).init_container(ContainerSpec::new("side").resource(RESOURCE, 1).restartable());
    let Admission::Admitted(uid) = node.kubelet.admit(spec).await.unwrap() else { panic!("pending") };
    assert_ne!(node.kubelet.devices(&uid, "side"), node.kubelet.devices(&uid, "c"));
}

#[tokio::test]
async fn two_pods_of_one_name_do_not_exist() {
    let node = Node::new(&["a", "b"]).await;
    node.admitted("p", 1).await;
    assert!(matches!(node.kubelet.admit(pod("p", 1)).await, Err(AdmissionError::Exists { .. })));
    assert!(node.kubelet.admit(pod("p", 1).namespace("other")).await.is_ok());
}
