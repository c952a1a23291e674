//! GetPreferredAllocation as the kubelet calls it.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use std::sync::Arc;

use doorbell_common::kubelet::deviceplugin::device_plugin_server::DevicePlugin;
use doorbell_common::kubelet::deviceplugin::{
    ContainerPreferredAllocationRequest, Empty, PreferredAllocationRequest,
};
use doorbell_device_plugin::advertise::PoolService;
use doorbell_device_plugin::listening::Listening;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};

use node::{GOOD, Node, Vf};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- {name: fast, access: vfio, select: {pfNames: ['ens1f0']}}
";

/// VF 1 is on NUMA node 0, VFs 2 and 3 are on node 1.
fn service() -> PoolService {
    let node = Node::with(&[GOOD, Vf { group: 8, ..GOOD }, Vf { group: 9, ..GOOD }]);
    for (vf, numa_node) in [(1, "0\n"), (2, "1\n"), (3, "1\n")] {
        node.write(&format!("sys/bus/pci/devices/0000:01:00.{vf}/numa_node"), numa_node.as_bytes());
    }
    let (_, inventory) = watch::channel(Arc::new(node.inventory(CONFIG)));
    {
        let (name, resource) = ("fast".parse().unwrap(), "doorbell.dev/fast".to_owned());
        PoolService::new(
            node.host(),
            name,
            resource,
            inventory,
            Listening::default(),
            CancellationToken::new(),
        )
    }
}

async fn ask(available: &[&str], size: i32) -> Result<Vec<String>, Status> {
    let request = ContainerPreferredAllocationRequest {
        available_device_i_ds: available.iter().map(|id| (*id).to_owned()).collect(),
        must_include_device_i_ds: Vec::new(),
        allocation_size: size,
    };
    let request = PreferredAllocationRequest { container_requests: vec![request] };
    let answer = service().get_preferred_allocation(Request::new(request)).await?.into_inner();
    Ok(answer.container_responses.into_iter().next().unwrap().device_i_ds)
}

#[tokio::test]
async fn the_kubelet_is_told_to_ask_and_is_advised() {
    let options = service().get_device_plugin_options(Request::new(Empty {})).await.unwrap();
    assert!(options.into_inner().get_preferred_allocation_available);
    let all = ["0000:01:00.1", "0000:01:00.2", "0000:01:00.3"];
    assert_eq!(ask(&all, 2).await.unwrap(), all[1..]);
}

#[tokio::test]
async fn what_cannot_be_given_is_an_invalid_argument() {
    assert_eq!(ask(&["0000:01:00.1"], 2).await.unwrap_err().code(), Code::InvalidArgument);
}
