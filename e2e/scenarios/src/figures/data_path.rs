//! What a ring and a round trip cost, from inside a container: by `doorbell-probe bench`, which says what it compares.

use anyhow::Result;
use e2e_kubelet::{Kubelet, PodSpec};
use e2e_probe::report::Benched;

use super::Counts;
use crate::Story;
use crate::rig::plugin::FAST;
use crate::rig::pods;

pub(super) async fn measure(story: &Story, kubelet: &Kubelet, counts: Counts) -> Result<Benched> {
    let (rings, round_trips) = (counts.rings.to_string(), counts.round_trips.to_string());
    let words = [pods::PROBE, "bench", "--rings", &rings, "--round-trips", &round_trips, "--seconds", "80"];
    let spec = PodSpec::new("bench").container(pods::probe(pods::CONTAINER, FAST, &words));
    let pod = kubelet.run_pod(spec, crate::rig::WITHIN).await?;
    let benched = pods::benched(kubelet, &pod).await?;
    kubelet.remove_pod(&pod).await?;
    story.tell(format!(
        "a ring costs {:.0} ns by the mapped page, {:.0} ns by pwrite, {:.0} ns by an eventfd",
        benched.rings.mapped.p50, benched.rings.pwrite.p50, benched.rings.eventfd.p50
    ));
    Ok(benched)
}
