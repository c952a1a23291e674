//! The doorbell verdict: may the page that rings a virtio function be mapped into a consumer?
//!
//! It may if the pages of the notify area hold nothing but doorbells. The verdict reads configuration space and sysfs
//! alone, touches no register of the device, and fails closed: what can't be shown is refused, with its reason.
//! The trial mapping ([`crate::trial`]) confirms it later against the driver.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kernel::pci::{Bar, BarKind, Bars, ConfigSpace};
use crate::kernel::virtio_pci::{self, Extent, Holds, LayoutError};

/// A doorbell rings with a 16-bit write (virtio 1.3, 4.1.5.2), so it is at least that long and that aligned.
const DOORBELL_BYTES: u64 = 2;

/// A doorbell whose pages hold nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doorbell {
    /// BAR, which is also the VFIO region index.
    pub bar: u8,
    /// Length of the BAR in bytes.
    pub bar_length: u64,
    /// Bytes from the start of the BAR.
    pub offset: u32,
    /// Bytes of the notify area.
    pub length: u32,
    /// Bytes between the doorbells of neighbouring `queue_notify_off`, 0 where there is one for all queues.
    pub stride: u32,
    /// What one page rings.
    pub granularity: Granularity,
    /// The whole pages that would be mapped.
    pub hull: Hull,
}

/// A range of whole pages in a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hull {
    /// First byte, page-aligned.
    pub start: u64,
    /// Bytes, whole pages.
    pub length: u64,
}

/// How much one page of doorbell rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// One page holds the doorbells of all queues.
    Device,
    /// Each queue has a page of its own.
    Queue,
}

/// Why a function's doorbell is not handed out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The function is driven by another protocol.
    #[error("no virtio function: vendor {vendor:04x} device {device:04x}")]
    NotVirtio {
        /// PCI vendor id.
        vendor: u16,
        /// PCI device id.
        device: u16,
    },
    /// No notify capability at all.
    #[error("no notify capability")]
    NoNotify,
    /// Notify capabilities, but none that can be mapped.
    #[error("the notify area lies in I/O ports only (BAR {0})")]
    OnlyPorts(u8),
    /// The configuration space can't be read.
    #[error("configuration space: {0}")]
    Unreadable(String),
    /// The layout can't be told from the capabilities.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A capability names a BAR that the function does not have.
    #[error("{0} lies in a BAR that is not assigned")]
    NoBar(Extent),
    /// A capability runs over its BAR.
    #[error("{extent} ends past its BAR of {length:#x} bytes")]
    PastBar {
        /// What the capability names.
        extent: Extent,
        /// Length of the BAR.
        length: u64,
    },
    /// Neither 0 nor a power of two from 2 on (virtio 1.3, 4.1.4.4).
    #[error("notify_off_multiplier {0:#x} is neither 0 nor an even power of two")]
    Multiplier(u32),
    /// Odd, or too short for one doorbell.
    #[error("{0} holds no aligned 16-bit doorbell")]
    Malformed(Extent),
    /// Pages of the BAR are not pages of memory.
    #[error("BAR {bar} starts at {start:#x}, not on a page of {page:#x} bytes")]
    Unaligned {
        /// BAR number.
        bar: u8,
        /// Physical address.
        start: u64,
        /// Page size.
        page: u64,
    },
    /// The page goes on behind the BAR.
    #[error("BAR {bar} of {length:#x} bytes shares its page of memory with BAR {neighbour}")]
    SubPage {
        /// BAR number.
        bar: u8,
        /// Its length.
        length: u64,
        /// The other BAR in that page.
        neighbour: u8,
    },
    /// Another structure meets the doorbell's pages.
    #[error("shared: {neighbour} meets the doorbell's pages {:#x}..{:#x}", hull.start, hull.start + hull.length)]
    Shared {
        /// What else lies there.
        neighbour: Extent,
        /// The doorbell's pages.
        hull: Hull,
    },
}

impl Refusal {
    /// The verdict in one word: `none`, `shared` or `unverifiable`.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match self {
            Self::NotVirtio { .. } | Self::NoNotify | Self::OnlyPorts(_) => "none",
            Self::SubPage { .. } | Self::Shared { .. } => "shared",
            _ => "unverifiable",
        }
    }
}

/// Looks for a doorbell that has its pages for itself. `page` is the host's page size, a power of two.
pub fn verify(config: &ConfigSpace, bars: &Bars, page: u64) -> Result<Doorbell, Refusal> {
    let extents = virtio_pci::layout(config)?;
    for extent in &extents {
        within_bar(extent, bars)?;
    }
    let (area, bar, multiplier) = notify_area(&extents, bars)?;
    let stride = stride(multiplier)?;
    if !area.start.is_multiple_of(DOORBELL_BYTES) || area.end - area.start < DOORBELL_BYTES {
        return Err(Refusal::Malformed(*area));
    }
    page_of_its_own(area.bar, bar, bars, page)?;

    let hull = Hull::around(area, page);
    let meets = |extent: &&Extent| {
        !matches!(extent.holds, Holds::Notify { .. })
            && extent.bar == area.bar
            && extent.start < hull.start + hull.length
            && hull.start < extent.end
    };
    if let Some(neighbour) = extents.iter().find(meets) {
        return Err(Refusal::Shared { neighbour: *neighbour, hull });
    }
    Ok(Doorbell {
        bar: area.bar,
        bar_length: bar.length,
        offset: narrow(area.start, area)?,
        length: narrow(area.end - area.start, area)?,
        stride,
        granularity: if u64::from(stride) >= page { Granularity::Queue } else { Granularity::Device },
        hull,
    })
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "per device",
            Self::Queue => "per queue",
        })
    }
}

impl Hull {
    fn around(extent: &Extent, page: u64) -> Self {
        let start = extent.start & !(page - 1);
        Self { start, length: extent.end.next_multiple_of(page) - start }
    }
}

fn within_bar(extent: &Extent, bars: &Bars) -> Result<(), Refusal> {
    let bar = bars.get(extent.bar).ok_or(Refusal::NoBar(*extent))?;
    if extent.end > bar.length {
        return Err(Refusal::PastBar { extent: *extent, length: bar.length });
    }
    Ok(())
}

/// The first notify area in memory: a device lists its best first, and one may lie in ports for old hosts.
fn notify_area<'a>(extents: &'a [Extent], bars: &Bars) -> Result<(&'a Extent, Bar, u32), Refusal> {
    let mut refusal = Refusal::NoNotify;
    for extent in extents {
        let Holds::Notify { multiplier } = extent.holds else { continue };
        match bars.get(extent.bar) {
            Some(bar) if bar.kind == BarKind::Memory => return Ok((extent, bar, multiplier)),
            _ => refusal = Refusal::OnlyPorts(extent.bar),
        }
    }
    Err(refusal)
}

fn stride(multiplier: u32) -> Result<u32, Refusal> {
    match multiplier {
        0 => Ok(0),
        power if power.is_power_of_two() && power > 1 => Ok(power),
        other => Err(Refusal::Multiplier(other)),
    }
}

/// A BAR maps by whole pages: it starts on one, and where it is shorter no other BAR shares that page. (What another
/// function has there only the kernel knows: it refuses to map such a BAR, which the trial mapping finds.)
fn page_of_its_own(number: u8, bar: Bar, bars: &Bars, page: u64) -> Result<(), Refusal> {
    if !bar.start.is_multiple_of(page) {
        return Err(Refusal::Unaligned { bar: number, start: bar.start, page });
    }
    let in_page = |other: &Bar| other.kind == BarKind::Memory && other.start & !(page - 1) == bar.start;
    match bars.iter().find(|(other, at)| *other != number && bar.length < page && in_page(at)) {
        Some((neighbour, _)) => Err(Refusal::SubPage { bar: number, length: bar.length, neighbour }),
        None => Ok(()),
    }
}

/// Offset and length of a notify area are 32-bit fields, so this holds for every area that came from one.
fn narrow(number: u64, area: &Extent) -> Result<u32, Refusal> {
    u32::try_from(number).map_err(|_| Refusal::Malformed(*area))
}

#[cfg(test)]
mod tests;
