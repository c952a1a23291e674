//! What is refused: by Allocate, and by ADD for a device that is not the pod's. Nothing is left behind.

use anyhow::{Context, Result, ensure};
use doorbell_common::claim;
use doorbell_common::host::Host;
use doorbell_common::kernel::pci;
use doorbell_common::kubelet::podresources::ListPodResourcesRequest;
use doorbell_common::kubelet::podresources::pod_resources_lister_client::PodResourcesListerClient;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::Node;
use crate::rig::plugin::{FAST, Plugin, allocate};
use crate::rig::{cni, pods};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  select: {pfNames: ['0000:01:00.0']}
  prepare: {numVfs: 2}
";
const POD_RESOURCES: &str = "unix:///var/lib/kubelet/pod-resources/kubelet.sock";

pub(crate) async fn refusals(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    let _plugin = Plugin::start(CONFIG).await?;
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;

    for id in ["0000:01:00.7", "", "../../etc/passwd"] {
        let refused = allocate("fast", id).await?.err().with_context(|| format!("Allocate took `{id}`"))?;
        ensure!(refused.code() == Code::InvalidArgument, "Allocate of `{id}`: {refused:?}");
    }
    story.tell("Allocate of an unknown id is InvalidArgument");
    pci::bind(&Host::real(), "0000:01:00.2".parse()?, "virtio-pci")?;
    let refused =
        allocate("fast", "0000:01:00.2").await?.err().context("Allocate took a VF that is off its driver")?;
    ensure!(
        refused.code() == Code::FailedPrecondition && refused.message().contains("virtio-pci"),
        "{refused:?}"
    );
    story.tell(format!("Allocate of a VF that was rebound: {}", refused.message()));
    pci::bind(&Host::real(), "0000:01:00.2".parse()?, "vfio-pci")?;

    let pod = pods::admitted(kubelet, pods::probing("a", FAST, "10.9.0.11")).await?;
    let mine = pods::device(kubelet, &pod, FAST)?;
    let other = if mine.as_str() == "0000:01:00.1" { "0000:01:00.2" } else { "0000:01:00.1" };
    for (what, asked, code) in [
        ("another device than the pod's", cni::add_device("c1", "a", other).await?, 101),
        ("the device of another pod", cni::add_device("c1", "b", mine.as_str()).await?, 101),
        ("a device that is not there", cni::add_device("c1", "a", "0000:09:00.1").await?, 100),
        ("no device, alone, for a pod without any", cni::add("c1", "b").await?, 102),
        ("a malformed device", cni::add_device("c1", "a", "../../x").await?, 7),
    ] {
        let failed = asked.failed()?;
        ensure!(failed["code"] == code, "{what}: {failed}");
        story.tell(format!("ADD with {what} → {code}: {}", failed["msg"]));
    }
    cni::del("never-added").await?.succeeded()?;

    kubelet.set_get_enabled(false);
    cni::add_device("c1", "a", mine.as_str()).await?.succeeded()?;
    cni::del("c1").await?.succeeded()?;
    kubelet.set_get_enabled(true);
    story.tell("a kubelet without Get is asked by List");
    let (first, second) = tokio::join!(busy_kubelet(), cni::add_device("c1", "a", mine.as_str()));
    ensure!(first? > 0, "the kubelet never said that it is asked too often");
    second?.succeeded()?;
    cni::del("c1").await?.succeeded()?;
    cni::del("c1").await?.succeeded()?;
    story.tell("a kubelet that is asked too often is asked again; a second DEL changes nothing");

    let left = claim::ids(&Host::real())?;
    ensure!(left.is_empty(), "claims of {left:?} are left");
    ensure!(pods::attachment(&mine)?.is_none(), "an attachment.json is left");
    story.tell("nothing is left behind");
    Ok(())
}

/// Keeps the kubelet at its rate limit for a while; how often it refused.
async fn busy_kubelet() -> Result<u32> {
    let channel = Endpoint::from_static(POD_RESOURCES).connect().await?;
    let mut client = PodResourcesListerClient::new(channel);
    let mut refused = 0;
    for _ in 0..400 {
        match client.list(ListPodResourcesRequest {}).await {
            Err(status) if status.code() == Code::ResourceExhausted => refused += 1,
            Err(status) => return Err(status.into()),
            Ok(_) => {}
        }
    }
    Ok(refused)
}
