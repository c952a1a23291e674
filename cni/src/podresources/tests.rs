//! What each answer of the kubelet means, from a PodResources server on a socket of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use doorbell_common::kubelet::podresources::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use doorbell_common::kubelet::podresources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices, ContainerResources,
    GetPodResourcesResponse, ListPodResourcesResponse,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response};

use super::*;

/// A kubelet that answers Get with these in turn, the last of them ever after, and List with the pods that it knows.
struct Kubelet {
    root: tempfile::TempDir,
    calls: Calls,
    _runtime: tokio::runtime::Runtime,
}

type Calls = Arc<Mutex<Vec<&'static str>>>;

struct Service {
    gets: Mutex<VecDeque<Result<Vec<&'static str>, Status>>>,
    listed: Vec<PodResources>,
    calls: Calls,
}

#[tonic::async_trait]
impl PodResourcesLister for Service {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.calls.lock().unwrap().push("List");
        Ok(Response::new(ListPodResourcesResponse { pod_resources: self.listed.clone() }))
    }

    async fn get(
        &self,
        request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        self.calls.lock().unwrap().push("Get");
        let asked = request.into_inner();
        assert_eq!((asked.pod_namespace.as_str(), asked.pod_name.as_str()), ("default", "a"));
        let mut gets = self.gets.lock().unwrap();
        let answer = if gets.len() > 1 { gets.pop_front().unwrap() } else { gets[0].clone() };
        answer.map(|ids| {
            Response::new(GetPodResourcesResponse { pod_resources: Some(pod("default", "a", &ids)) })
        })
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}

/// A pod whose one container holds these devices, an entry each, as the kubelet writes them.
fn pod(namespace: &str, name: &str, ids: &[&str]) -> PodResources {
    let devices = ids.iter().map(|id| ContainerDevices {
        resource_name: "doorbell.dev/fast".to_owned(),
        device_ids: vec![(*id).to_owned()],
        topology: None,
    });
    let container =
        ContainerResources { name: "c".to_owned(), devices: devices.collect(), ..Default::default() };
    let [namespace, name] = [namespace, name].map(str::to_owned);
    PodResources { name, namespace, containers: vec![container], ..Default::default() }
}

impl Kubelet {
    fn new<const N: usize>(gets: [Result<Vec<&'static str>, Status>; N], listed: Vec<PodResources>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let calls = Calls::default();
        let service = Service { gets: Mutex::new(gets.into()), listed, calls: calls.clone() };
        let runtime = serve(&Host::at(root.path()), service);
        Self { root, calls, _runtime: runtime }
    }

    /// What the pod `default/a` holds by this kubelet's word: ids, or the failure as a runtime shows it.
    fn held(&self) -> Result<Vec<String>, (u32, String)> {
        held_by(&Host::at(self.root.path()))
    }

    fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }
}

fn serve(host: &Host, service: Service) -> tokio::runtime::Runtime {
    host.make_folder("/var/lib/kubelet/pod-resources").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(async { UnixListener::bind(host.path(SOCKET)).unwrap() });
    let server = tonic::transport::Server::builder().add_service(PodResourcesListerServer::new(service));
    runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    runtime
}

/// For tests of whole calls: a kubelet that gives `default/a` these devices, for as long as what it returns lives.
pub(crate) fn serve_devices(host: &Host, ids: &[&'static str]) -> tokio::runtime::Runtime {
    let gets = Mutex::new(VecDeque::from([Ok(ids.to_vec())]));
    serve(host, Service { gets, listed: Vec::new(), calls: Calls::default() })
}

fn held_by(host: &Host) -> Result<Vec<String>, (u32, String)> {
    let pod = Pod { namespace: "default".to_owned(), name: "a".to_owned() };
    let held = devices(host, &pod).map_err(|failure| (failure.code, shown(&failure)))?;
    Ok(held.into_iter().map(|held| held.id).collect())
}

fn shown(failure: &Failure) -> String {
    format!("{}; {}", failure.msg, failure.details)
}

fn unknown() -> Result<Vec<&'static str>, Status> {
    Err(Status::unknown("PodResources API Get method disabled"))
}

#[test]
fn one_get_tells_all_sorted_and_once() {
    let kubelet = Kubelet::new([Ok(vec!["b", "a", "a"])], vec![]);
    assert_eq!(kubelet.held(), Ok(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(kubelet.calls(), ["Get"]);
}

#[test]
fn a_pod_that_get_does_not_find_holds_nothing() {
    let kubelet =
        Kubelet::new([Err(Status::not_found("pod a not found"))], vec![pod("default", "a", &["a"])]);
    assert_eq!(kubelet.held(), Ok(vec![]));
    assert_eq!(kubelet.calls(), ["Get"]);
}

#[test]
fn where_get_is_off_or_not_there_list_serves() {
    for refusal in [unknown(), Err(Status::unimplemented("unknown method Get"))] {
        let listed =
            vec![pod("default", "b", &["b"]), pod("default", "a", &["a"]), pod("other", "a", &["c"])];
        let kubelet = Kubelet::new([refusal], listed);
        assert_eq!(kubelet.held(), Ok(vec!["a".to_owned()]));
        assert_eq!(kubelet.calls(), ["Get", "List"]);
    }
}

#[test]
fn a_pod_that_is_not_listed_holds_nothing() {
    let kubelet = Kubelet::new([unknown()], vec![pod("default", "b", &["b"])]);
    assert_eq!(kubelet.held(), Ok(vec![]));
    assert_eq!(kubelet.calls(), ["Get", "List"]);
}

#[test]
fn a_call_that_is_turned_away_by_the_rate_limit_comes_back() {
    let limited = || Err(Status::resource_exhausted("rejected by rate limit"));
    let kubelet = Kubelet::new([limited(), limited(), Ok(vec!["a"])], vec![]);
    assert_eq!(kubelet.held(), Ok(vec!["a".to_owned()]));
    assert_eq!(kubelet.calls(), ["Get", "Get", "Get"]);
}

#[test]
fn of_two_entries_of_one_name_none_is_believed() {
    let kubelet =
        Kubelet::new([unknown()], vec![pod("default", "a", &["old"]), pod("default", "a", &["new"])]);
    let msg = "the kubelet does not say what pod default/a holds; it lists 2 pods of that name, a former one among \
               them";
    assert_eq!(kubelet.held(), Err((code::TRY_AGAIN, msg.to_owned())));
}

#[test]
fn any_other_refusal_is_to_be_tried_again() {
    let kubelet = Kubelet::new([Err(Status::internal("out of order"))], vec![]);
    let msg = "the kubelet does not say what pod default/a holds; Internal: out of order";
    assert_eq!(kubelet.held(), Err((code::TRY_AGAIN, msg.to_owned())));
    assert_eq!(kubelet.calls(), ["Get"]);
}

#[test]
fn without_its_socket_the_kubelet_is_to_be_tried_again() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::at(root.path());
    let msg = "the kubelet does not say what pod default/a holds; connect to \
               /var/lib/kubelet/pod-resources/kubelet.sock: No such file or directory (os error 2)";
    assert_eq!(held_by(&host), Err((code::TRY_AGAIN, msg.to_owned())));
    assert_eq!(reachable(&host).unwrap_err().code, code::NOT_AVAILABLE);
}
