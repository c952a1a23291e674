//! The notify area of a PCI function: checked against the device's own words, and reached as the descriptor says.

use std::num::NonZeroUsize;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use doorbell_common::doorbell::Granularity;

use crate::capability::Notify;
use crate::descriptor::Place;
use crate::doorbell::Bell;
use crate::doorbell::relay::Relay;
use crate::memory::DoorbellPage;
use crate::report::By;
use crate::vfio::Region;

/// Bytes of one ring.
const RING_LENGTH: u64 = 2;

/// Says what differs, if the descriptor's doorbell is not the one that the capability names.
pub(crate) fn check(place: &Place, notify: &Notify, page: u64) -> Result<()> {
    let Notify { area, multiplier } = *notify;
    // A page for each queue needs steps of whole pages; with less, one page rings several.
    let granularity = if u64::from(multiplier) >= page { Granularity::Queue } else { Granularity::Device };
    for (what, ours, its) in [
        ("region", u32::from(place.region), u32::from(area.bar)),
        ("offset", place.offset, area.offset),
        ("length", place.length, area.length),
        ("stride", place.stride, multiplier),
    ] {
        ensure!(
            ours == its,
            "the descriptor's doorbell has {what} {ours:#x}, the device's capability {its:#x}"
        );
    }
    ensure!(
        place.granularity == granularity,
        "the descriptor's doorbell rings a {:?}, but with steps of {multiplier:#x} bytes it rings a {granularity:?}",
        place.granularity
    );
    Ok(())
}

/// A notify area, and how it is reached.
#[derive(Debug)]
pub(crate) struct NotifyArea {
    region: Region,
    /// The pages that hold it, in the region.
    pages: Pages,
    reached: Reached,
    /// Bytes from the start of the pages to the notify area.
    lead: u64,
    length: u64,
    stride: u64,
}

#[derive(Debug, Clone, Copy)]
struct Pages {
    start: u64,
    length: NonZeroUsize,
}

#[derive(Debug)]
enum Reached {
    Mapped(Rc<DoorbellPage>),
    /// By system calls.
    Written,
    /// By mappings of the threads that ring.
    Relayed,
}

impl NotifyArea {
    /// Maps the pages that hold it, if it is rung by them.
    pub(crate) fn reach(place: &Place, region: &Region, page: u64, by: By) -> Result<Self> {
        let (offset, length) = (u64::from(place.offset), u64::from(place.length));
        let start = offset / page * page;
        let mapped = (offset + length).next_multiple_of(page) - start;
        let mapped = usize::try_from(mapped).ok().and_then(NonZeroUsize::new).context("an empty doorbell")?;
        let pages = Pages { start, length: mapped };
        let reached = match by {
            By::Mapped => Reached::Mapped(Rc::new(pages.map(region)?)),
            By::Pwrite => Reached::Written,
            By::Relayed => Reached::Relayed,
            By::Eventfd => bail!("a function has no eventfd of the kernel's: it is rung by its page"),
        };
        let region = region.clone();
        Ok(Self { region, pages, reached, lead: offset - start, length, stride: u64::from(place.stride) })
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
        let (region, pages) = (self.region.clone(), self.pages);
        Ok(match &self.reached {
            Reached::Mapped(page) => Bell::mapped(queue, Rc::clone(page), at),
            Reached::Written => Bell::written(queue, region, pages.start + at as u64),
            Reached::Relayed => {
                let relay = Relay::start(move || {
                    let page = pages.map(&region)?;
                    Ok(move || page.ring(at, queue))
                })?;
                Bell::relayed(queue, relay)
            }
        })
    }
}

impl Pages {
    fn map(self, region: &Region) -> Result<DoorbellPage> {
        region.map_doorbell(self.start, self.length).context("map the doorbell")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::capability::Area;

    const PAGE: u64 = 4096;

    fn place(stride: u32, granularity: Granularity) -> Place {
        Place { region: 4, offset: 0x3000, length: 0x1000, stride, granularity }
    }

    fn notify(multiplier: u32) -> Notify {
        Notify { area: Area { bar: 4, offset: 0x3000, length: 0x1000 }, multiplier }
    }

    #[test]
    fn a_descriptor_that_differs_from_the_device_is_refused() {
        check(&place(4, Granularity::Device), &notify(4), PAGE).unwrap();
        check(&place(0x1000, Granularity::Queue), &notify(0x1000), PAGE).unwrap();
        let error = check(&place(4, Granularity::Device), &notify(0x1000), PAGE).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the descriptor's doorbell has stride 0x4, the device's capability 0x1000"
        );
        let error = check(&place(4, Granularity::Queue), &notify(4), PAGE).unwrap_err();
        assert!(error.to_string().contains("rings a Queue"), "{error}");
    }

    /// A doorbell in a file.
    fn reach(by: By) -> (NotifyArea, File) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x4000).unwrap();
        let region = Region::over(file.try_clone().unwrap(), 0x4000);
        (NotifyArea::reach(&place(4, Granularity::Device), &region, PAGE, by).unwrap(), file)
    }

    fn rung(file: &File, notify_off: u64) -> [u8; 2] {
        let mut bytes = [0; 2];
        file.read_exact_at(&mut bytes, 0x3000 + 4 * notify_off).unwrap();
        bytes
    }

    #[test]
    fn each_way_to_ring_writes_the_same() {
        for by in [By::Mapped, By::Pwrite, By::Relayed] {
            let (area, file) = reach(by);
            let mut bell = area.bell(1, 3).unwrap();
            bell.ring().unwrap();
            // A relay ends once it has done what it was kicked for.
            drop(bell);
            assert_eq!((rung(&file, 3), rung(&file, 2)), ([1, 0], [0, 0]), "{by:?}");
        }
    }

    #[test]
    fn each_queue_rings_at_its_own_offset_and_none_beyond_the_area() {
        let (area, file) = reach(By::Mapped);
        area.bell(1, 3).unwrap().ring().unwrap();
        assert_eq!(rung(&file, 3), [1, 0]);
        assert!(area.bell(1, 0x3ff).is_ok());
        let error = area.bell(1, 0x400).unwrap_err().to_string();
        assert_eq!(error, "the doorbell of queue 1 is 0x1000 bytes into a notify area of 0x1000");
    }
}
