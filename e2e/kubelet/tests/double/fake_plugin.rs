//! A device plugin that lists what it is told and remembers what it was asked.

use std::{
    collections::BTreeMap,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
};

use doorbell_common::kubelet::deviceplugin::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateResponse,
    ContainerPreferredAllocationResponse, Device, DevicePluginOptions, Empty, ListAndWatchResponse, NumaNode,
    PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse, RegisterRequest, TopologyInfo,
    device_plugin_server::{DevicePlugin, DevicePluginServer},
    registration_client::RegistrationClient,
};
use tokio::{net::UnixListener, sync::watch};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{UnixListenerStream, WatchStream},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Request, Response, Status, transport::Server};

/// What the plugin was asked, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Preferred { available: Vec<String>, must_include: Vec<String>, size: i32 },
    Allocate(Vec<String>),
    PreStart(Vec<String>),
}

/// The plugin. Dropping it, or [`FakePlugin::kill`], ends its server and its streams.
pub(crate) struct FakePlugin {
    endpoint: String,
    devices: watch::Sender<Vec<Device>>,
    service: Arc<Service>,
    stop: CancellationToken,
    _server: AbortOnDropHandle<()>,
}

#[derive(Default)]
pub(crate) struct Service {
    resource: String,
    options: DevicePluginOptions,
    devices: Option<watch::Receiver<Vec<Device>>>,
    stop: CancellationToken,
    asked: Mutex<Vec<Asked>>,
    /// Refusals of the calls, by "Allocate" and "PreStart".
    refusals: Mutex<BTreeMap<&'static str, Status>>,
    preferred: Mutex<Vec<String>>,
    /// What Allocate answers beside the list of devices and their CDI names.
    answer: Mutex<ContainerAllocateResponse>,
    /// How many ListAndWatch streams are open.
    streams: Arc<watch::Sender<usize>>,
}

/// Counts an open stream for as long as it lives.
struct OpenStream(Arc<watch::Sender<usize>>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl FakePlugin {
    /// Serves on `<folder>/<endpoint>`, with all of the devices healthy.
    pub(crate) fn serve(
        folder: &Path,
        endpoint: &str,
        resource: &str,
        ids: &[&str],
        options: DevicePluginOptions,
    ) -> Self {
        let (devices, listed) = watch::channel(healthy(ids));
        let stop = CancellationToken::new();
        let service = Arc::new(Service {
            resource: resource.to_owned(),
            options,
            devices: Some(listed),
            stop: stop.clone(),
            ..Default::default()
        });
        let socket = folder.join(endpoint);
        let _ = std::fs::remove_file(&socket);
        let connections = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        let server = Server::builder()
            .add_service(DevicePluginServer::from_arc(Arc::clone(&service)))
            .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
        let server = AbortOnDropHandle::new(tokio::spawn(async move { server.await.unwrap() }));
        Self { endpoint: endpoint.to_owned(), devices, service, stop, _server: server }
    }

    /// Registers with the kubelet whose registration socket is given.
    pub(crate) async fn register(&self, kubelet: &Path) -> Result<(), Status> {
        register(kubelet, "v1beta1", &self.endpoint, &self.service.resource).await
    }

    pub(crate) fn list(&self, devices: Vec<Device>) {
        self.devices.send_replace(devices);
    }

    /// Ends the server and the streams, as the death of the plugin's process would.
    pub(crate) fn kill(self) {
        self.stop.cancel();
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.service.asked.lock().unwrap().clone()
    }

    pub(crate) async fn wait_streams(&self, count: usize) {
        self.service.streams.subscribe().wait_for(|open| *open == count).await.unwrap();
    }

    pub(crate) fn refuse(&self, call: &'static str, status: Status) {
        self.service.refusals.lock().unwrap().insert(call, status);
    }

    pub(crate) fn permit(&self, call: &'static str) {
        self.service.refusals.lock().unwrap().remove(call);
    }

    pub(crate) fn answer(&self, answer: ContainerAllocateResponse) {
        *self.service.answer.lock().unwrap() = answer;
    }

    pub(crate) fn prefer(&self, ids: &[&str]) {
        *self.service.preferred.lock().unwrap() = ids.iter().map(|&id| id.to_owned()).collect();
    }
}

/// One Register call.
pub(crate) async fn register(
    kubelet: &Path,
    version: &str,
    endpoint: &str,
    resource: &str,
) -> Result<(), Status> {
    let client = RegistrationClient::connect(format!("unix://{}", kubelet.display())).await;
    let mut client = client.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = RegisterRequest {
        version: version.to_owned(),
        endpoint: endpoint.to_owned(),
        resource_name: resource.to_owned(),
        options: None,
    };
    client.register(request).await.map(|_| ())
}

pub(crate) fn healthy(ids: &[&str]) -> Vec<Device> {
    ids.iter().map(|id| device(id, "Healthy", &[])).collect()
}

pub(crate) fn device(id: &str, health: &str, numa: &[i64]) -> Device {
    let nodes: Vec<_> = numa.iter().map(|&id| NumaNode { id }).collect();
    let topology = (!nodes.is_empty()).then_some(TopologyInfo { nodes });
    Device { id: id.to_owned(), health: health.to_owned(), topology }
}

impl Service {
    fn note(&self, asked: Asked) {
        self.asked.lock().unwrap().push(asked);
    }

    fn refusal(&self, call: &str) -> Result<(), Status> {
        self.refusals.lock().unwrap().get(call).map_or(Ok(()), |status| Err(status.clone()))
    }
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    type ListAndWatchStream = Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn get_device_plugin_options(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(self.options))
    }

    async fn list_and_watch(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let lists = WatchStream::new(self.devices.clone().unwrap());
        let lists = lists.map(|devices| Ok(ListAndWatchResponse { devices }));
        // A graceful shutdown waits for open streams, a killed process does not: so the streams end with it.
        let (ended, end) = tokio::sync::mpsc::channel(1);
        let stop = self.stop.clone();
        tokio::spawn(async move {
            stop.cancelled().await;
            let _ = ended.send(Err(Status::unavailable("killed"))).await;
        });
        let end = tokio_stream::wrappers::ReceiverStream::new(end);
        self.streams.send_modify(|open| *open += 1);
        let open = OpenStream(Arc::clone(&self.streams));
        let mut over = false;
        let lists = lists.merge(end).take_while(move |item| {
            let _ = &open;
            !std::mem::replace(&mut over, item.is_err())
        });
        Ok(Response::new(Box::pin(lists)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let request = request.into_inner().container_requests.remove(0);
        self.note(Asked::Preferred {
            available: request.available_device_i_ds,
            must_include: request.must_include_device_i_ds,
            size: request.allocation_size,
        });
        let device_i_ds = self.preferred.lock().unwrap().clone();
        let container_responses = vec![ContainerPreferredAllocationResponse { device_i_ds }];
        Ok(Response::new(PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let ids = request.into_inner().container_requests.remove(0).devices_ids;
        self.note(Asked::Allocate(ids.clone()));
        self.refusal("Allocate")?;
        let mut response = self.answer.lock().unwrap().clone();
        response.envs.insert("DEVICES".to_owned(), ids.join(","));
        response.cdi_devices =
            ids.iter().map(|id| CdiDevice { name: format!("{}={id}", self.resource) }).collect();
        Ok(Response::new(AllocateResponse { container_responses: vec![response] }))
    }

    async fn pre_start_container(
        &self,
        request: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        self.note(Asked::PreStart(request.into_inner().devices_ids));
        self.refusal("PreStart")?;
        Ok(Response::new(PreStartContainerResponse {}))
    }
}
