//! How long a pod takes to start with our plugin in its chain and a device of ours, and with neither.

use anyhow::Result;
use e2e_kubelet::{ContainerSpec, Kubelet, PodSpec};
use tokio::time::Instant;

use super::document::PodStart;
use crate::Story;
use crate::rig::WITHIN;
use crate::rig::plugin::FAST;
use crate::rig::times::Times;

/// The two take turns; `plain` is the handler of pods whose chain does without us.
pub(super) async fn measure(story: &Story, kubelet: &Kubelet, plain: &str, count: u32) -> Result<PodStart> {
    let (mut with, mut without) = (Times::new(), Times::new());
    for turn in 0..count {
        let ours =
            PodSpec::new(&format!("with-{turn}")).container(ContainerSpec::new("main").resource(FAST, 1));
        let theirs = PodSpec::new(&format!("without-{turn}"))
            .container(ContainerSpec::new("main"))
            .runtime_handler(plain);
        if turn.is_multiple_of(2) {
            start(kubelet, ours, &mut with).await?;
            start(kubelet, theirs, &mut without).await?;
        } else {
            start(kubelet, theirs, &mut without).await?;
            start(kubelet, ours, &mut with).await?;
        }
    }
    let (with, without) = (with.spread()?, without.spread()?);
    let difference = with.p50 - without.p50;
    story.tell(format!(
        "a pod starts in {:.0} ms with our CNI and device, in {:.0} ms without (p50 of {count} each): ours is \
         {difference:.0} ms",
        with.p50, without.p50
    ));
    Ok(PodStart { with, without, difference })
}

/// From admission until the container runs; the pod is gone on return.
async fn start(kubelet: &Kubelet, spec: PodSpec, times: &mut Times) -> Result<()> {
    let began = Instant::now();
    let pod = kubelet.run_pod(spec, WITHIN).await?;
    times.since(began);
    Ok(kubelet.remove_pod(&pod).await?)
}
