//! How the calls of the CNI binary on this node went, as it has counted them.

use std::fmt;

use doorbell_common::calls::{self, BOUNDS, Outcomes};
use doorbell_common::host::Host;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Unit;

/// Microseconds in a second.
const SECOND: f64 = 1e6;

#[derive(Debug)]
pub(super) struct Calls(pub(super) Host);

impl Collector for Calls {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let calls = calls::read(&self.0).unwrap_or_default();
        let help = "Calls of the CNI binary since the boot that were about a device or failed, by the code that they \
                    ended with: 0 is done";
        let mut family = encoder.encode_descriptor("cni_calls", help, None, MetricType::Counter)?;
        for (verb, Outcomes { codes, .. }) in &calls {
            for (code, count) in codes {
                let labels = [("verb", verb.clone()), ("code", code.to_string())];
                ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
            }
        }

        let help = "How long these calls took";
        let (name, unit) = ("cni_call_duration", Some(&Unit::Seconds));
        let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        for (verb, outcomes) in &calls {
            let labels = [("verb", verb.as_str())];
            let mut metric = family.encode_family(&labels)?;
            let (sum, count) = (seconds(outcomes.micros), outcomes.count());
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets(outcomes), None)?;
        }
        Ok(())
    }
}

/// Each with its bound, and last what took longer than all of them.
fn buckets(outcomes: &Outcomes) -> Vec<(f64, u64)> {
    let within = BOUNDS.iter().map(|bound| seconds(*bound)).zip(outcomes.within);
    let longer = outcomes.count().saturating_sub(outcomes.within.iter().sum());
    within.chain([(f64::INFINITY, longer)]).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a float is what the format has for seconds")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / SECOND
}
