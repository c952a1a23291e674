//! The doorbell: checked against the device's own words, mapped as the descriptor says, and rung.

use std::num::NonZeroUsize;

use anyhow::{Context, Result, anyhow, ensure};
use doorbell_common::doorbell::Granularity;
use doorbell_common::formats::descriptor::Doorbell as Described;

use crate::capability::Notify;
use crate::memory::DoorbellPage;
use crate::vfio::Region;

/// Bytes of one ring without VIRTIO_F_NOTIFICATION_DATA: the queue's index (virtio 1.3, section 4.1.5.2).
const RING_LENGTH: u64 = 2;

/// Says what differs, if the descriptor's doorbell is not the one that the capability names.
pub(crate) fn check(described: &Described, notify: &Notify, page: u64) -> Result<()> {
    let Notify { area, multiplier } = *notify;
    // A page for each queue needs steps of whole pages; with less, one page rings several.
    let granularity = if u64::from(multiplier) >= page { Granularity::Queue } else { Granularity::Device };
    for (what, ours, its) in [
        ("region", u32::from(described.region), u32::from(area.bar)),
        ("offset", described.offset, area.offset),
        ("length", described.length, area.length),
        ("stride", described.stride, multiplier),
    ] {
        ensure!(
            ours == its,
            "the descriptor's doorbell has {what} {ours:#x}, the device's capability {its:#x}"
        );
    }
    ensure!(
        described.granularity == granularity,
        "the descriptor's doorbell rings a {:?}, but with steps of {multiplier:#x} bytes it rings a {granularity:?}",
        described.granularity
    );
    Ok(())
}

/// The mapped doorbell of a device.
#[derive(Debug)]
pub(crate) struct Doorbell {
    page: DoorbellPage,
    /// Bytes from the start of the mapping to the notify area.
    lead: u64,
    length: u64,
    stride: u64,
}

impl Doorbell {
    /// Maps the pages that hold the notify area.
    pub(crate) fn map(described: &Described, region: &Region, page: u64) -> Result<Self> {
        let (offset, length) = (u64::from(described.offset), u64::from(described.length));
        let start = offset / page * page;
        let mapped = (offset + length).next_multiple_of(page) - start;
        let mapped = usize::try_from(mapped).ok().and_then(NonZeroUsize::new).context("an empty doorbell")?;
        let page = region.map_doorbell(start, mapped).context("map the doorbell")?;
        Ok(Self { page, lead: offset - start, length, stride: u64::from(described.stride) })
    }

    /// The bell of one queue, by the `queue_notify_off` that the device gave it.
    pub(crate) fn bell(&self, queue: u16, notify_off: u16) -> Result<Bell> {
        let within = u64::from(notify_off) * self.stride;
        let at = (within + RING_LENGTH <= self.length).then_some(self.lead + within);
        let at = at.and_then(|at| usize::try_from(at).ok()).ok_or_else(|| {
            anyhow!(
                "the doorbell of queue {queue} is {within:#x} bytes into a notify area of {:#x}",
                self.length
            )
        })?;
        Ok(Bell { queue, at, writes: 0 })
    }

    /// Rings: one write of the queue's index.
    pub(crate) fn ring(&self, bell: &mut Bell) {
        self.page.ring(bell.at, bell.queue);
        bell.writes += 1;
    }
}

/// One queue's place on the doorbell, and how often it was rung.
#[derive(Debug)]
pub(crate) struct Bell {
    queue: u16,
    at: usize,
    writes: u64,
}

impl Bell {
    /// Writes so far.
    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Area;
    use doorbell_common::formats::descriptor::Effective;

    const PAGE: u64 = 4096;

    fn described(stride: u32, granularity: Granularity) -> Described {
        Described {
            verdict: "exclusive".into(),
            reason: String::new(),
            region: 4,
            offset: 0x3000,
            length: 0x1000,
            stride,
            granularity,
            effective: Effective::Direct,
        }
    }

    fn notify(multiplier: u32) -> Notify {
        Notify { area: Area { bar: 4, offset: 0x3000, length: 0x1000 }, multiplier }
    }

    #[test]
    fn a_descriptor_that_differs_from_the_device_is_refused() {
        check(&described(4, Granularity::Device), &notify(4), PAGE).unwrap();
        check(&described(0x1000, Granularity::Queue), &notify(0x1000), PAGE).unwrap();
        let error = check(&described(4, Granularity::Device), &notify(0x1000), PAGE).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the descriptor's doorbell has stride 0x4, the device's capability 0x1000"
        );
        let error = check(&described(4, Granularity::Queue), &notify(4), PAGE).unwrap_err();
        assert!(error.to_string().contains("rings a Queue"), "{error}");
    }
}
