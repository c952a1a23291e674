//! The kubelet's pod-resources API on a node of files: which pod has which device.

// Each test program uses its part; helpers of tests are tests.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use doorbell_common::kubelet::podresources::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use doorbell_common::kubelet::podresources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices, ContainerResources,
    GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest, ListPodResourcesResponse,
    PodResources, SOCKET,
};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::node::Node;

/// A kubelet that answers while this lives.
pub(crate) struct Kubelet {
    given: Given,
    task: JoinHandle<()>,
}

/// Namespace, name and a device of pods.
type Given = Arc<Mutex<Vec<[String; 3]>>>;

struct Service(Given);

impl Kubelet {
    pub(crate) fn on(node: &Node, given: &[[&str; 3]]) -> Self {
        let socket = node.host().path(SOCKET);
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let given: Given = Arc::new(Mutex::new(given.iter().map(|one| one.map(str::to_owned)).collect()));
        let service = PodResourcesListerServer::new(Service(Arc::clone(&given)));
        let server = tonic::transport::Server::builder().add_service(service);
        let serving = server.serve_with_incoming(UnixListenerStream::new(listener));
        Self { given, task: tokio::spawn(async { serving.await.unwrap() }) }
    }

    pub(crate) fn gives(&self, given: &[[&str; 3]]) {
        *self.given.lock().unwrap() = given.iter().map(|one| one.map(str::to_owned)).collect();
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Service {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let pod = |[namespace, name, id]: [String; 3]| {
            let device = ContainerDevices {
                resource_name: "doorbell.dev/fast".to_owned(),
                device_ids: vec![id],
                ..Default::default()
            };
            let container =
                ContainerResources { name: "c".to_owned(), devices: vec![device], ..Default::default() };
            PodResources { namespace, name, containers: vec![container], ..Default::default() }
        };
        let pod_resources = self.0.lock().unwrap().iter().cloned().map(pod).collect();
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get(
        &self,
        _: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}
