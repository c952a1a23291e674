//! The doorbell verdict: may the page that rings a virtio function be mapped into a consumer?
//!
//! It may if the pages of the notify area hold nothing but doorbells. The verdict reads configuration space and sysfs
//! alone, touches no register of the device, and fails closed: what can't be shown is refused, with its reason.
//! The trial mapping ([`crate::trial`]) confirms it later against the driver.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::check::Checks;
use crate::kernel::pci::{Bar, BarKind, Bars, ConfigSpace, Ids};
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
    #[error("no virtio function: vendor {:04x} device {:04x}", .0.vendor, .0.device)]
    NotVirtio(Ids),
    /// Its layout is its driver's knowledge, if it has one at all.
    #[error("no PCI function of its own, whose doorbell could be looked for")]
    NotPci,
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
    #[error("shared: {neighbour} meets the doorbell's pages {hull}")]
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
            Self::NotVirtio(_) | Self::NotPci | Self::NoNotify | Self::OnlyPorts(_) => "none",
            Self::SubPage { .. } | Self::Shared { .. } => "shared",
            _ => "unverifiable",
        }
    }

    /// Whether nothing but the MSI-X table and its pending bits lie beside the doorbell. A VM may have the whole function,
    /// so that is no harm to it; but a VMM emulates their pages, and with them the doorbell.
    #[must_use]
    pub fn is_for_msix_alone(&self) -> bool {
        matches!(self, Self::Shared { neighbour: Extent { holds, .. }, .. } if holds.is_msix())
    }
}

/// Looks for a doorbell that has its pages for itself. `page` is the host's page size, a power of two.
pub fn verify(config: &ConfigSpace, bars: &Bars, page: u64) -> Result<Doorbell, Refusal> {
    examine(config, bars, page, "", &mut Checks::unkept())
}

/// [`verify`], each step kept in `checks`. `folder` is the function's in sysfs.
pub fn examine(
    config: &ConfigSpace,
    bars: &Bars,
    page: u64,
    folder: &str,
    checks: &mut Checks,
) -> Result<Doorbell, Refusal> {
    let config_file = format_args!("{folder}/config");
    let config_and_bars = format_args!("{folder}/config, {folder}/resource");
    let bars_and_page = format_args!("{folder}/resource, sysconf(_SC_PAGESIZE)");
    let all = format_args!("{folder}/config, {folder}/resource, sysconf(_SC_PAGESIZE)");

    let list = config.capabilities().map_err(LayoutError::from);
    let list =
        checks.step("capability-list", config_file, list, |list| format!("{} capabilities", list.len()))?;
    let extents = virtio_pci::layout(config, &list);
    let extents = checks.step("structures", config_file, extents, |extents| join(extents))?;
    let inside = extents.iter().try_for_each(|extent| within_bar(extent, bars));
    checks.step("structures-in-bars", config_and_bars, inside, |()| {
        "every structure ends within its BAR".to_owned()
    })?;
    let area = notify_area(&extents, bars);
    let (area, bar, multiplier) =
        checks.step("notify-area", config_and_bars, area, |(area, ..)| format!("{area}, in memory"))?;
    let stride =
        checks.step("notify-multiplier", config_file, stride(multiplier), |stride| format!("{stride:#x}"))?;
    let whole = whole_doorbells(area);
    checks.step("notify-size", config_file, whole, |()| "holds an aligned 16-bit doorbell".to_owned())?;
    let aligned = on_a_page(area.bar, bar, page);
    checks
        .step("bar-on-a-page", bars_and_page, aligned, |()| format!("starts on a page of {page:#x} bytes"))?;
    let alone = alone_in_its_page(area.bar, bar, bars, page);
    checks.step("bar-alone", bars_and_page, alone, |()| "shares no page with another BAR".to_owned())?;

    let hull = Hull::around(area, page);
    let exclusive = nothing_else_meets(hull, area, &extents);
    checks.step("doorbell-pages", all, exclusive, |()| {
        format!("exclusive: pages {hull} hold doorbells alone")
    })?;
    let granularity = if u64::from(stride) >= page { Granularity::Queue } else { Granularity::Device };
    checks.note("doorbell-granularity", all, || granularity.to_string());
    Ok(Doorbell {
        bar: area.bar,
        bar_length: bar.length,
        offset: narrow(area.start, area)?,
        length: narrow(area.end - area.start, area)?,
        stride,
        granularity,
        hull,
    })
}

fn join(extents: &[Extent]) -> String {
    extents.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "per device",
            Self::Queue => "per queue",
        })
    }
}

impl fmt::Display for Hull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.start + self.length)
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

/// It holds at least one doorbell, and the first is aligned.
fn whole_doorbells(area: &Extent) -> Result<(), Refusal> {
    let whole = area.start.is_multiple_of(DOORBELL_BYTES) && area.end - area.start >= DOORBELL_BYTES;
    if whole { Ok(()) } else { Err(Refusal::Malformed(*area)) }
}

/// A BAR maps by whole pages of memory.
fn on_a_page(number: u8, bar: Bar, page: u64) -> Result<(), Refusal> {
    let aligned = bar.start.is_multiple_of(page);
    if aligned { Ok(()) } else { Err(Refusal::Unaligned { bar: number, start: bar.start, page }) }
}

/// Where a BAR is shorter than a page, no other BAR shares that page. (What another function has there only the kernel
/// knows: it refuses to map such a BAR, which the trial mapping finds.)
fn alone_in_its_page(number: u8, bar: Bar, bars: &Bars, page: u64) -> Result<(), Refusal> {
    let in_page = |other: &Bar| other.kind == BarKind::Memory && other.start & !(page - 1) == bar.start;
    match bars.iter().find(|(other, at)| *other != number && bar.length < page && in_page(at)) {
        Some((neighbour, _)) => Err(Refusal::SubPage { bar: number, length: bar.length, neighbour }),
        None => Ok(()),
    }
}

fn nothing_else_meets(hull: Hull, area: &Extent, extents: &[Extent]) -> Result<(), Refusal> {
    let meets = |extent: &&Extent| {
        !matches!(extent.holds, Holds::Notify { .. })
            && extent.bar == area.bar
            && extent.start < hull.start + hull.length
            && hull.start < extent.end
    };
    // Registers are the worse neighbours, and are named first.
    let neighbour = extents.iter().filter(meets).min_by_key(|extent| extent.holds.is_msix());
    neighbour.map_or(Ok(()), |neighbour| Err(Refusal::Shared { neighbour: *neighbour, hull }))
}

/// Offset and length of a notify area are 32-bit fields, so this holds for every area that came from one.
fn narrow(number: u64, area: &Extent) -> Result<u32, Refusal> {
    u32::try_from(number).map_err(|_| Refusal::Malformed(*area))
}

#[cfg(test)]
mod tests;
