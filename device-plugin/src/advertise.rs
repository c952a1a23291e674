//! The device plugin service of one pool, as the kubelet calls it.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use doorbell_common::host::Host;
use doorbell_common::kubelet::deviceplugin::device_plugin_server::DevicePlugin;
use doorbell_common::kubelet::deviceplugin::{
    AllocateRequest, AllocateResponse, Device, DevicePluginOptions, Empty, ListAndWatchResponse, NumaNode,
    PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse, TopologyInfo,
};
use doorbell_common::subdevice::{DeviceId, Eligible};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use crate::allocate;
use crate::config::PoolName;
use crate::guard::{self, Refusal};
use crate::inventory::{Inventory, Pool};
use crate::listening::Listening;
use crate::metrics::Counts;
use crate::preferred;

/// One pool's service; the inventory behind it changes as a whole.
#[derive(Debug, Clone)]
pub struct PoolService {
    host: Host,
    name: PoolName,
    resource: String,
    inventory: watch::Receiver<Arc<Inventory>>,
    listening: Listening,
    counts: Counts,
    closing: CancellationToken,
}

/// What the kubelet is told of this service at registration.
pub const OPTIONS: DevicePluginOptions =
    DevicePluginOptions { pre_start_required: true, get_preferred_allocation_available: true };

impl PoolService {
    /// The service of pool `name` as `resource`; its streams end with `closing`, or with the resource.
    #[must_use]
    pub fn new(
        host: Host,
        name: PoolName,
        resource: String,
        inventory: watch::Receiver<Arc<Inventory>>,
        listening: Listening,
        closing: CancellationToken,
    ) -> Self {
        Self { host, name, resource, inventory, listening, counts: Counts::default(), closing }
    }

    /// What it is asked is counted there.
    #[must_use]
    pub fn counted(self, counts: Counts) -> Self {
        Self { counts, ..self }
    }

    /// What is advertised now.
    fn inventory(&self) -> Arc<Inventory> {
        Arc::clone(&self.inventory.borrow())
    }
}

type Lists = Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl DevicePlugin for PoolService {
    type ListAndWatchStream = Lists;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(OPTIONS))
    }

    /// The whole list at once, then at each change of it; a change of another pool says nothing here. Once the resource
    /// is gone, an empty list is the last.
    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Lists>, Status> {
        let (name, resource) = (self.name.clone(), self.resource.clone());
        let inventories = WatchStream::new(self.inventory.clone());
        let lists = stream::unfold(Some((inventories, None::<Listed>)), move |state| {
            let (name, resource) = (name.clone(), resource.clone());
            async move {
                let (mut inventories, mut last) = state?;
                loop {
                    let inventory = inventories.next().await?;
                    let pool = inventory.pools.get(&name).filter(|pool| pool.resource == resource);
                    let Some(pool) = pool else { return Some((ListAndWatchResponse::default(), None)) };
                    let now = Listed::of(pool);
                    let news = (last.as_ref() != Some(&now)).then(|| now.list());
                    last = Some(now);
                    if let Some(list) = news {
                        return Some((list, Some((inventories, last))));
                    }
                }
            }
        });
        let open = self.listening.open(&self.name);
        let lists = lists.map(move |list| {
            // As long as the stream is.
            let _ = &open;
            Ok(list)
        });
        // The watch outlives the kubelet's interest in it: shutdown has to end it.
        let lists = lists.take_until(self.closing.clone().cancelled_owned());
        Ok(Response::new(Box::pin(lists)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let inventory = self.inventory();
        let pool = inventory.pools.get(&self.name);
        let pool = pool.ok_or_else(|| status(&Refusal::NoPool(self.name.clone())))?;
        let answer = |request: &_| {
            preferred::answer(pool, request)
                .inspect_err(|refusal| warn!(pool = %self.name, %refusal, "no devices preferred"))
                .map_err(|refusal| Status::invalid_argument(refusal.to_string()))
        };
        let requests = request.into_inner().container_requests;
        let container_responses = requests.iter().map(answer).collect::<Result<_, _>>()?;
        Ok(Response::new(PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let inventory = self.inventory();
        let answer = |ids: &[String]| {
            let answer = allocate::answer(&self.host, &inventory, &self.name, ids);
            let devices = ids.join(",");
            self.counts.allocated(&self.name, answer.is_ok());
            match &answer {
                Ok(_) => info!(pool = %self.name, devices, "allocated"),
                Err(refusal) => warn!(pool = %self.name, devices, %refusal, "not allocated"),
            }
            answer.map_err(|refusal| status(&refusal))
        };
        let requests = request.into_inner().container_requests;
        let container_responses =
            requests.iter().map(|container| answer(&container.devices_ids)).collect::<Result<_, _>>()?;
        Ok(Response::new(AllocateResponse { container_responses }))
    }

    async fn pre_start_container(
        &self,
        request: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        let may = guard::may_start(&self.host, &self.inventory(), &self.name, &request.get_ref().devices_ids);
        self.counts.started(&self.name, may.is_ok());
        may.inspect_err(|refusal| warn!(pool = %self.name, %refusal, "container not started"))
            .map_err(|refusal| status(&refusal))?;
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

/// What the kubelet is told of a pool: what was never fit to be handed out is not in the list at all; what is not now, is
/// in it as unhealthy.
#[derive(Debug)]
struct Listed {
    devices: Arc<BTreeMap<DeviceId, Arc<Eligible>>>,
    unhealthy: BTreeSet<DeviceId>,
    exclude_topology: bool,
}

impl Listed {
    fn of(pool: &Pool) -> Self {
        Self {
            devices: Arc::clone(&pool.devices),
            unhealthy: pool.unhealthy.keys().cloned().collect(),
            exclude_topology: pool.exclude_topology,
        }
    }

    /// Ids, NUMA nodes and health: each as the kubelet is told.
    fn entries(&self) -> impl Iterator<Item = (&DeviceId, Option<u32>, bool)> {
        let node = |device: &Eligible| device.numa_node.filter(|_| !self.exclude_topology);
        self.devices.iter().map(move |(id, device)| (id, node(device), !self.unhealthy.contains(id)))
    }

    fn list(&self) -> ListAndWatchResponse {
        let device = |(id, node, is_healthy): (&DeviceId, Option<u32>, bool)| Device {
            id: id.to_string(),
            health: if is_healthy { "Healthy" } else { "Unhealthy" }.to_owned(),
            topology: node.map(|node| TopologyInfo { nodes: vec![NumaNode { id: node.into() }] }),
        };
        ListAndWatchResponse { devices: self.entries().map(device).collect() }
    }
}

impl PartialEq for Listed {
    fn eq(&self, other: &Self) -> bool {
        let is_same = Arc::ptr_eq(&self.devices, &other.devices)
            && self.exclude_topology == other.exclude_topology
            && self.unhealthy == other.unhealthy;
        is_same || self.entries().eq(other.entries())
    }
}

/// The one place where a refusal becomes a gRPC status.
fn status(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Unknown { .. } | Refusal::NotASet(_) => Status::invalid_argument(refusal.to_string()),
        Refusal::NoPool(_) | Refusal::Unpublished(_) | Refusal::NotRecorded(_) => {
            Status::unavailable(refusal.to_string())
        }
        Refusal::Changed { .. }
        | Refusal::Unhealthy { .. }
        | Refusal::StillHeld { .. }
        | Refusal::NoRecord(_)
        | Refusal::CdiIsOff(_)
        | Refusal::Stale(_)
        | Refusal::NotWired { .. } => Status::failed_precondition(refusal.to_string()),
    }
}
