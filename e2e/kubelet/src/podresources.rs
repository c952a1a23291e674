//! `v1.PodResourcesLister`: which pod holds which device. Behaviour and error texts are the kubelet's.
//! Entries carry no UID, pods that ended are left out (but see `knobs`), and so are init containers that are no sidecars.

use std::{sync::Arc, time::Instant};

use doorbell_common::kubelet::podresources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices, ContainerResources,
    GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest, ListPodResourcesResponse,
    NumaNode, PodResources as PodEntry, TopologyInfo, pod_resources_lister_server::PodResourcesLister,
};
use tonic::{Request, Response, Status};

use crate::{
    allocations::{IdsByNuma, NO_NUMA},
    knobs::Knobs,
    pod::PodSpec,
    rate_limit::{RateLimit, rejected},
    state::{Shared, State},
    view::Phase,
};

/// The service on pod-resources/kubelet.sock.
#[derive(Debug)]
pub(crate) struct PodResources {
    pub(crate) shared: Arc<Shared>,
    pub(crate) knobs: Arc<Knobs>,
    pub(crate) limit: RateLimit,
}

impl PodResources {
    /// Where every List and Get begins.
    fn enter(&self) -> Result<(), Status> {
        if self.knobs.note_call() {
            return Err(rejected());
        }
        self.limit.allow(Instant::now())
    }
}

#[tonic::async_trait]
impl PodResourcesLister for PodResources {
    async fn list(
        &self,
        _request: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.enter()?;
        let ended = self.knobs.list_terminated();
        let pod_resources = self.shared.read(|state| {
            let ended = state.ended.iter().filter(|_| ended).cloned();
            let active = state.pods.values().filter(|pod| pod.phase.is_active());
            ended.chain(active.map(|pod| entry(state, &pod.spec))).collect()
        });
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    /// Unlike List it answers for a pod that ended too, as long as the node has not forgotten it.
    async fn get(
        &self,
        request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        self.enter()?;
        // Go errors without a status arrive as Unknown, not as Unimplemented or NotFound.
        if !self.knobs.get_enabled() {
            return Err(Status::unknown("PodResources API Get method disabled"));
        }
        let GetPodResourcesRequest { pod_name, pod_namespace } = request.into_inner();
        let found = self.shared.read(|state| {
            let named = state.pods.values().find(|pod| {
                pod.spec.name == pod_name
                    && pod.spec.namespace == pod_namespace
                    && !matches!(pod.phase, Phase::Pending { .. })
            });
            named.map(|pod| entry(state, &pod.spec))
        });
        let missing = || Status::unknown(format!("pod {pod_name} in namespace {pod_namespace} not found"));
        found
            .ok_or_else(missing)
            .map(|pod| Response::new(GetPodResourcesResponse { pod_resources: Some(pod) }))
    }

    async fn get_allocatable_resources(
        &self,
        _request: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        self.limit.allow(Instant::now())?;
        let devices = self.shared.read(|state| {
            let healthy = state.table.iter().flat_map(|(name, resource)| {
                let healthy = resource.devices.iter().filter(|(_, device)| device.healthy);
                healthy.flat_map(move |(id, device)| container_devices(name, id, &device.numa))
            });
            healthy.collect()
        });
        Ok(Response::new(AllocatableResourcesResponse { devices, ..Default::default() }))
    }
}

pub(crate) fn entry(state: &State, spec: &PodSpec) -> PodEntry {
    let sidecars = spec.init_containers.iter().filter(|container| container.restartable);
    let containers = sidecars.chain(&spec.containers).map(|container| ContainerResources {
        name: container.name.clone(),
        devices: state
            .allocations
            .of(&spec.uid, &container.name)
            .flat_map(|(resource, allocation)| by_device(resource, &allocation.ids))
            .collect(),
        ..Default::default()
    });
    PodEntry {
        name: spec.name.clone(),
        namespace: spec.namespace.clone(),
        containers: containers.collect(),
        ..Default::default()
    }
}

fn by_device(resource: &str, ids: &IdsByNuma) -> Vec<ContainerDevices> {
    let entries = ids.iter().flat_map(|(&node, ids)| {
        let node = if node == NO_NUMA { Vec::new() } else { vec![node] };
        ids.iter().flat_map(move |id| container_devices(resource, id, &node))
    });
    entries.collect()
}

/// The kubelet writes one entry for each device and NUMA node, not one for each resource: a device of two nodes
/// comes twice, and a resource as often as it has devices.
fn container_devices(resource: &str, id: &str, numa: &[i64]) -> Vec<ContainerDevices> {
    let entry = |topology| ContainerDevices {
        resource_name: resource.to_owned(),
        device_ids: vec![id.to_owned()],
        topology,
    };
    if numa.is_empty() {
        return vec![entry(None)];
    }
    numa.iter().map(|&id| entry(Some(TopologyInfo { nodes: vec![NumaNode { id }] }))).collect()
}
