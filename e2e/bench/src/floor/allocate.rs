//! A server that answers Allocate with nothing, once it has looked at what has to be looked at, and recorded as much.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;

use anyhow::{Context, Result};
use doorbell_common::kubelet::deviceplugin::device_plugin_server::{DevicePlugin, DevicePluginServer};
use doorbell_common::kubelet::deviceplugin::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse, DevicePluginOptions, Empty,
    ListAndWatchResponse, PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse,
};
use e2e_bench::attributes;
use e2e_bench::load::{Load, Vf};
use tokio::net::UnixListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::published;

struct Floor {
    load: Load,
    vfs: HashMap<String, Vf>,
}

/// Serves until it is killed.
pub(crate) fn serve(load: Load, socket: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener =
            UnixListener::bind(socket).with_context(|| format!("listen at {}", socket.display()))?;
        let vfs = load.vfs().map(|vf| (vf.address(), vf)).collect();
        let server = Server::builder().add_service(DevicePluginServer::new(Floor { load, vfs }));
        Ok(server.serve_with_incoming(UnixListenerStream::new(listener)).await?)
    })
}

impl Floor {
    fn answer(&self, ids: &[String]) -> Result<ContainerAllocateResponse> {
        for id in ids {
            let vf = *self.vfs.get(id).with_context(|| format!("no VF {id}"))?;
            for attribute in attributes::verified(vf, &self.load.resource(vf)) {
                attribute.look().with_context(|| format!("{attribute:?}"))?;
            }
            published::write(Path::new(&attributes::record(id)))?;
        }
        Ok(ContainerAllocateResponse::default())
    }
}

type Lists = Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl DevicePlugin for Floor {
    type ListAndWatchStream = Lists;

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let requests = request.into_inner().container_requests;
        let answers = requests.iter().map(|container| self.answer(&container.devices_ids));
        let container_responses =
            answers.collect::<Result<_>>().map_err(|error| Status::internal(format!("{error:#}")))?;
        Ok(Response::new(AllocateResponse { container_responses }))
    }

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Err(Status::unimplemented("a floor"))
    }

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Lists>, Status> {
        Err(Status::unimplemented("a floor"))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        Err(Status::unimplemented("a floor"))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Err(Status::unimplemented("a floor"))
    }
}
