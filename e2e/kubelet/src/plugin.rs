//! The kubelet's side of one device plugin: the socket it registered, and the calls made there.
//! Each call opens with what the kubelet says when it fails; each is bounded.

use std::{path::Path, time::Duration};

use doorbell_common::error::chain;
use doorbell_common::kubelet::deviceplugin::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, DevicePluginOptions, Empty, ListAndWatchResponse,
    PreStartContainerRequest, PreferredAllocationRequest, device_plugin_client::DevicePluginClient,
};
use tokio::time::timeout;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

/// How long the kubelet tries to reach a plugin that registers.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// `KubeletPreStartContainerRPCTimeoutInSecs`.
const PRE_START_LIMIT: Duration = Duration::from_secs(30);
/// The kubelet puts no bound on these; a test has to.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// A connection to a plugin; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    client: DevicePluginClient<Channel>,
}

impl Plugin {
    /// Dials the plugin and asks for its options, as the kubelet does within Register: what the request itself
    /// says of options is not looked at. A plugin has to serve before it registers, so there is one attempt.
    pub(crate) async fn dial(socket: &Path) -> Result<(Self, DevicePluginOptions), Status> {
        let failed = |cause: String| Status::unknown(format!("failed to dial device plugin: {cause}"));
        let endpoint = Endpoint::try_from(format!("unix://{}", socket.display()))
            .map_err(|error| failed(error.to_string()))?
            .connect_timeout(DIAL_LIMIT);
        let channel = bounded(DIAL_LIMIT, endpoint.connect())
            .await?
            .map_err(|error| failed(format!("{} at {}", chain(&error), socket.display())))?;
        let mut client = DevicePluginClient::new(channel);
        let options =
            bounded(DIAL_LIMIT, client.get_device_plugin_options(Empty {})).await?.map_err(|status| {
                Status::unknown(format!("failed to get device plugin options: {}", describe(&status)))
            })?;
        Ok((Self { client }, options.into_inner()))
    }

    /// Opens the stream of device lists. Not bounded itself: the first list may take the plugin a while.
    pub(crate) async fn list_and_watch(&self) -> Result<Streaming<ListAndWatchResponse>, Status> {
        Ok(self.client.clone().list_and_watch(Empty {}).await?.into_inner())
    }

    /// One container's Allocate.
    pub(crate) async fn allocate(&self, ids: Vec<String>) -> Result<ContainerAllocateResponse, Status> {
        let request =
            AllocateRequest { container_requests: vec![ContainerAllocateRequest { devices_ids: ids }] };
        let answer = bounded(CALL_LIMIT, self.client.clone().allocate(request)).await??.into_inner();
        answer
            .container_responses
            .into_iter()
            .next()
            .ok_or_else(|| Status::unknown("no containers return in allocation response &AllocateResponse{}"))
    }

    /// The plugin's preference among `available`, which hold `must_include`; it may be short or empty.
    pub(crate) async fn preferred(
        &self,
        available: Vec<String>,
        must_include: Vec<String>,
        size: usize,
    ) -> Result<Vec<String>, Status> {
        let request = ContainerPreferredAllocationRequest {
            available_device_i_ds: available,
            must_include_device_i_ds: must_include,
            allocation_size: i32::try_from(size).unwrap_or(i32::MAX),
        };
        let request = PreferredAllocationRequest { container_requests: vec![request] };
        let answer = bounded(CALL_LIMIT, self.client.clone().get_preferred_allocation(request)).await??;
        let first = answer.into_inner().container_responses.into_iter().next();
        Ok(first.map(|response| response.device_i_ds).unwrap_or_default())
    }

    /// The call before each container start.
    pub(crate) async fn pre_start(&self, ids: Vec<String>) -> Result<(), Status> {
        let request = PreStartContainerRequest { devices_ids: ids };
        bounded(PRE_START_LIMIT, self.client.clone().pre_start_container(request)).await??;
        Ok(())
    }
}

/// A status in the words of Go's gRPC, which is how it reads in a pod's status.
pub(crate) fn describe(status: &Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

async fn bounded<T>(limit: Duration, call: impl Future<Output = T>) -> Result<T, Status> {
    timeout(limit, call).await.map_err(|_| Status::deadline_exceeded("context deadline exceeded"))
}
