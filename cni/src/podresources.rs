//! The one question to the kubelet: which devices does this pod hold? The only asynchronous corner of this program,
//! entered here and left.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use doorbell_common::claim::Pod;
use doorbell_common::error::chain;
use doorbell_common::formats::cni::code;
use doorbell_common::host::Host;
use doorbell_common::kubelet::Connection;
use doorbell_common::kubelet::podresources::pod_resources_lister_client::PodResourcesListerClient;
use doorbell_common::kubelet::podresources::{
    ANSWER_SIZE, GetPodResourcesRequest, ListPodResourcesRequest, PodResources, SOCKET,
};
use tonic::{Code, Status};

use crate::failure::Failure;

/// For everything, retries included: a pod's sandbox waits on us.
const ANSWER_FOR: Duration = Duration::from_secs(10);
/// The kubelet lets through 100 calls a second in bursts of 10; a node that starts many pods at once runs into it.
const RETRY_AFTER_MS: u64 = 20;

/// A device that a pod holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// Resource name.
    pub resource: String,
    /// Device id, as the kubelet has it.
    pub id: String,
}

/// The devices of a pod's containers, of all plugins, sorted.
pub fn devices(host: &Host, pod: &Pod) -> Result<Vec<Held>, Failure> {
    let failed = |why: String| {
        Failure::new(
            code::TRY_AGAIN,
            format!("the kubelet does not say what pod {}/{} holds", pod.namespace, pod.name),
        )
        .with_details(why)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(code::IO, "start the runtime for gRPC").because(&error))?;
    let answer = runtime.block_on(async { tokio::time::timeout(ANSWER_FOR, ask(host, pod)).await });
    match answer {
        Ok(Ok(found)) => Ok(found.map(held).unwrap_or_default()),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(failed(format!("no answer within {} s", ANSWER_FOR.as_secs()))),
    }
}

/// Whether an ADD could ask its question: the answer to STATUS.
pub fn reachable(host: &Host) -> Result<(), Failure> {
    std::os::unix::net::UnixStream::connect(host.path(SOCKET)).map(drop).map_err(|error| {
        Failure::new(code::NOT_AVAILABLE, format!("connect to the kubelet at {SOCKET}")).because(&error)
    })
}

async fn ask(host: &Host, pod: &Pod) -> Result<Option<PodResources>, String> {
    let connection = Connection::open(&host.path(SOCKET)).await;
    let connection = connection.map_err(|error| format!("connect to {SOCKET}: {}", chain(&error)))?;
    let mut client = PodResourcesListerClient::new(connection).max_decoding_message_size(ANSWER_SIZE);
    let mut pods = loop {
        match once(&mut client, pod).await {
            Err(status) if status.code() == Code::ResourceExhausted => tokio::time::sleep(pause()).await,
            Err(status) => return Err(format!("{:?}: {}", status.code(), status.message())),
            Ok(found) => break found,
        }
    };
    // Entries carry no UID, and older kubelets list terminated pods: of two of one name nobody can say which it is.
    match pods.len() {
        0 | 1 => Ok(pods.pop()),
        several => Err(format!("it lists {several} pods of that name, a former one among them")),
    }
}

/// The kubelet's entries of that name: Get answers for one pod, and NotFound says that it holds nothing. A kubelet that
/// has Get switched off says Unknown, an old one Unimplemented; there List serves.
async fn once(
    client: &mut PodResourcesListerClient<Connection>,
    pod: &Pod,
) -> Result<Vec<PodResources>, Status> {
    let request = GetPodResourcesRequest { pod_name: pod.name.clone(), pod_namespace: pod.namespace.clone() };
    match client.get(request).await {
        Ok(answer) => return Ok(answer.into_inner().pod_resources.into_iter().collect()),
        Err(status) if status.code() == Code::NotFound => return Ok(Vec::new()),
        Err(status) if matches!(status.code(), Code::Unknown | Code::Unimplemented) => {}
        Err(status) => return Err(status),
    }
    let mut pods = client.list(ListPodResourcesRequest {}).await?.into_inner().pod_resources;
    pods.retain(|listed| listed.name == pod.name && listed.namespace == pod.namespace);
    Ok(pods)
}

fn held(pod: PodResources) -> Vec<Held> {
    let devices = pod.containers.into_iter().flat_map(|container| container.devices);
    let mut held: Vec<Held> = devices
        .flat_map(|devices| {
            let resource = devices.resource_name;
            devices.device_ids.into_iter().map(move |id| Held { resource: resource.clone(), id })
        })
        .collect();
    held.sort();
    held.dedup();
    held
}

/// One to two times the base, so that calls that were turned away together do not come back together.
fn pause() -> Duration {
    // A fresh RandomState has fresh keys: enough randomness for a pause.
    let jitter = RandomState::new().hash_one(()) % RETRY_AFTER_MS;
    Duration::from_millis(RETRY_AFTER_MS + jitter)
}

#[cfg(test)]
pub(crate) mod tests;
