//! Which devices the kubelet has given away, by its pod-resources API: asked before anything is changed,
//! and when somebody has a device open who has no claim to it.

use std::collections::BTreeMap;
use std::time::Duration;

use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::kubelet::Connection;
use doorbell_common::kubelet::podresources::pod_resources_lister_client::PodResourcesListerClient;
use doorbell_common::kubelet::podresources::{ANSWER_SIZE, ListPodResourcesRequest, PodResources, SOCKET};
use tokio::time::timeout;

use crate::prepare::Allocated;

/// The plugin is a pod itself, so the kubelet is there.
const ANSWER_FOR: Duration = Duration::from_secs(5);

/// Asks the kubelet.
pub async fn ask(host: &Host) -> Allocated {
    pods(host).await.map_or_else(Allocated::Unknown, |pods| Allocated::To(devices(&pods)))
}

/// The node's pods with what each was given, or why the kubelet does not say.
pub async fn pods(host: &Host) -> Result<Vec<PodResources>, String> {
    let late = |_| Err(format!("no answer within {} s", ANSWER_FOR.as_secs()));
    timeout(ANSWER_FOR, list(host)).await.unwrap_or_else(late)
}

async fn list(host: &Host) -> Result<Vec<PodResources>, String> {
    let connection = Connection::open(&host.path(SOCKET)).await;
    let connection = connection.map_err(|error| format!("connect to {SOCKET}: {}", chain(&error)))?;
    let mut client = PodResourcesListerClient::new(connection).max_decoding_message_size(ANSWER_SIZE);
    let answer = client.list(ListPodResourcesRequest {}).await;
    let answer = answer.map_err(|status| format!("{:?}: {}", status.code(), status.message()))?;
    Ok(answer.into_inner().pod_resources)
}

/// Of all resources: another plugin's id that is one of ours too does no harm.
fn devices(pods: &[PodResources]) -> BTreeMap<String, String> {
    let mut given = BTreeMap::new();
    for pod in pods {
        for device in pod.containers.iter().flat_map(|container| &container.devices) {
            for id in &device.device_ids {
                given.insert(id.clone(), format!("{}/{}", pod.namespace, pod.name));
            }
        }
    }
    given
}
