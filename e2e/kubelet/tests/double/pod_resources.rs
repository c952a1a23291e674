//! PodResources v1 as a client sees it.

use doorbell_common::kubelet::podresources::{
    AllocatableResourcesRequest, ContainerDevices, GetPodResourcesRequest, ListPodResourcesRequest,
    pod_resources_lister_client::PodResourcesListerClient,
};
use e2e_kubelet::{Admission, ContainerSpec};
use tonic::{Code, Status, transport::Channel};

use crate::{
    fake_plugin::device,
    node::{LIMIT, Node, RESOURCE, pod},
};

async fn client(node: &Node) -> PodResourcesListerClient<Channel> {
    let socket = node.kubelet.config().pod_resources_socket();
    PodResourcesListerClient::connect(format!("unix://{}", socket.display())).await.unwrap()
}

fn get(name: &str) -> GetPodResourcesRequest {
    GetPodResourcesRequest { pod_name: name.to_owned(), pod_namespace: "default".to_owned() }
}

fn ids(devices: &[ContainerDevices]) -> Vec<&str> {
    devices.iter().flat_map(|devices| devices.device_ids.iter().map(String::as_str)).collect()
}

#[tokio::test]
async fn list_and_get_tell_a_pods_devices_container_by_container() {
    let node = Node::new(&["a", "b", "c"]).await;
    let container = |name| ContainerSpec::new(name).resource(RESOURCE, 1);
    let spec = pod("p", 1).init_container(container("init")).init_container(container("side").restartable());
    let Admission::Admitted(_) = node.kubelet.admit(spec).await.unwrap() else { panic!("pending") };
    let mut client = client(&node).await;
    let list = client.list(ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources;
    let got = client.get(get("p")).await.unwrap().into_inner().pod_resources.unwrap();
    assert_eq!(list, std::slice::from_ref(&got));
    // The sidecar is listed, the init container that ends is not.
    let names: Vec<_> = got.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["side", "c"]);
    // The sidecar took over what the init container before it held.
    assert_eq!(ids(&got.containers[0].devices), ["a"]);
    assert_eq!(ids(&got.containers[1].devices), ["b"]);
}

#[tokio::test]
async fn there_is_one_entry_for_each_device_and_numa_node() {
    let node = Node::new(&["x"]).await;
    node.plugin.list(vec![device("a", "Healthy", &[0, 1]), device("b", "Healthy", &[])]);
    node.kubelet.wait_allocatable(RESOURCE, 2, LIMIT).await.unwrap();
    node.admitted("p", 2).await;
    let mut client = client(&node).await;
    let got = client.get(get("p")).await.unwrap().into_inner().pod_resources.unwrap();
    let devices = &got.containers[0].devices;
    assert_eq!(ids(devices), ["b", "a", "a"]);
    assert!(devices.iter().all(|devices| devices.resource_name == RESOURCE));
    let free = client.get_allocatable_resources(AllocatableResourcesRequest {}).await.unwrap();
    assert_eq!(ids(&free.into_inner().devices), ["a", "a", "b"]);
}

#[tokio::test]
async fn pods_that_wait_or_have_ended_are_not_listed() {
    let node = Node::new(&["a"]).await;
    let first = node.admitted("p", 1).await;
    let Admission::Pending { .. } = node.admit("q", 2).await else { panic!("admitted") };
    let mut client = client(&node).await;
    let count = client.list(ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources.len();
    assert_eq!(count, 1);
    node.kubelet.stop_pod(&first).await.unwrap();
    assert!(client.list(ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources.is_empty());
}

#[tokio::test]
async fn get_of_an_unknown_pod_is_an_unknown_error() {
    let node = Node::new(&["a"]).await;
    let status = client(&node).await.get(get("nobody")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unknown, "pod nobody in namespace default not found")
    );
}

#[tokio::test]
async fn a_disabled_get_is_unknown_and_not_unimplemented() {
    let node = Node::new(&["a"]).await;
    node.admitted("p", 1).await;
    node.kubelet.set_get_enabled(false);
    let mut client = client(&node).await;
    let status = client.get(get("p")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "PodResources API Get method disabled"));
    node.kubelet.set_get_enabled(true);
    client.get(get("p")).await.unwrap();
}

#[tokio::test]
async fn a_burst_beyond_the_limit_is_rejected() {
    let node = Node::new(&["a"]).await;
    let client = client(&node).await;
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.list(ListPodResourcesRequest {}).await.map(|_| ()) })
        })
        .collect();
    let mut rejected: Vec<Status> = Vec::new();
    for call in calls {
        rejected.extend(call.await.unwrap().err());
    }
    assert!(!rejected.is_empty(), "1000 calls at once went through");
    for status in rejected {
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "rejected by rate limit"));
    }
}

#[tokio::test]
async fn the_next_calls_are_rejected_as_told_and_no_more() {
    let node = Node::new(&["a"]).await;
    let mut client = client(&node).await;
    node.kubelet.limit_next(2);
    let get = client.get(get("p")).await.unwrap_err();
    let list = client.list(ListPodResourcesRequest {}).await.unwrap_err();
    for status in [get, list] {
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "rejected by rate limit"));
    }
    client.list(ListPodResourcesRequest {}).await.unwrap();
}

#[tokio::test]
async fn every_list_and_get_counts() {
    let node = Node::new(&["a"]).await;
    let mut client = client(&node).await;
    node.kubelet.limit_next(1);
    let _ = client.list(ListPodResourcesRequest {}).await;
    let _ = client.get(get("nobody")).await;
    node.kubelet.restart().await.unwrap();
    assert_eq!(node.kubelet.pod_resources_calls(), 2);
}

#[tokio::test]
async fn a_pod_that_ended_is_listed_with_its_former_devices_where_told() {
    let node = Node::new(&["a", "b"]).await;
    let first = node.admitted("p", 1).await;
    node.kubelet.remove_pod(&first).await.unwrap();
    // The device is another's by now, and the name another pod's.
    node.admitted("q", 1).await;
    node.admitted("p", 1).await;
    let mut client = client(&node).await;
    node.kubelet.set_list_terminated(true);
    let list = client.list(ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources;
    let mut seen: Vec<_> =
        list.iter().map(|pod| (pod.name.as_str(), ids(&pod.containers[0].devices))).collect();
    assert_eq!(seen.remove(0), ("p", vec!["a"]));
    seen.sort();
    assert_eq!(seen, [("p", vec!["b"]), ("q", vec!["a"])]);
    node.kubelet.set_list_terminated(false);
    let list = client.list(ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources;
    assert_eq!(list.len(), 2);
}
