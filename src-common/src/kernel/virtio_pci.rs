//! The capabilities by which a virtio function says where in its BARs its structures lie (virtio 1.3, 4.1.4), and the
//! MSI-X capability beside them (PCI 3.0, 6.8.2).

use std::fmt;

use crate::host::{self, Host};

use super::pci::{self, Capability, CapabilityError, ConfigSpace, Function};

/// Vendor of every virtio function, and the device ids that belong to it (virtio 1.3, 4.1.2).
const VENDOR: u16 = 0x1af4;
const DEVICES: std::ops::RangeInclusive<u16> = 0x1000..=0x107f;
/// Device ids from here on are 0x1040 plus the virtio device type.
const MODERN: u16 = 0x1040;

/// Ids in the PCI capability list.
const VENDOR_SPECIFIC: u8 = 0x09;
const MSIX: u8 = 0x11;

/// Offsets in a virtio capability, and its length: with offset and length of 64 bits it is longer.
const CAP_LEN: usize = 2;
const CFG_TYPE: usize = 3;
const BAR: usize = 4;
const OFFSET: usize = 8;
const LENGTH: usize = 12;
const MULTIPLIER: usize = 16;
const OFFSET_HIGH: usize = 16;
const LENGTH_HIGH: usize = 20;
const SHORTEST: u8 = 16;
const SHORTEST_NOTIFY: u8 = 20;
const SHORTEST_64: u8 = 24;

/// Values of `cfg_type`.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;
const PCI_CFG: u8 = 5;
const SHARED_MEMORY: u8 = 8;
const VENDOR_DATA: u8 = 9;

/// A `bar` above this is reserved, and the capability is to be ignored.
const LAST_BAR: u8 = 5;

/// Virtio device type of a function (virtio 1.3, section 5); `None` if it is no virtio function.
///
/// A transitional id (0x1000 to 0x103f) says nothing of the type: it is in the subsystem device id then.
pub fn device_type(host: &Host, function: &Function) -> host::Result<Option<u16>> {
    if function.ids.vendor != VENDOR || !DEVICES.contains(&function.ids.device) {
        return Ok(None);
    }
    match function.ids.device.checked_sub(MODERN) {
        Some(kind) => Ok(Some(kind)),
        None => pci::subsystem_device(host, function.address).map(Some),
    }
}

/// A piece of a BAR and what lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// What lies there.
    pub holds: Holds,
    /// BAR number.
    pub bar: u8,
    /// First byte.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
}

/// What a piece of a BAR holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Common configuration.
    Common,
    /// Doorbells.
    Notify {
        /// `notify_off_multiplier`.
        multiplier: u32,
    },
    /// Interrupt status.
    Isr,
    /// Device-specific configuration.
    Device,
    /// Shared memory.
    SharedMemory,
    /// The MSI-X table.
    MsixTable,
    /// The MSI-X pending bits.
    MsixPending,
    /// A structure that this version does not know, by its `cfg_type`.
    Foreign(u8),
}

impl Holds {
    /// Whether it is of MSI-X, and no register of the device.
    #[must_use]
    pub fn is_msix(self) -> bool {
        matches!(self, Self::MsixTable | Self::MsixPending)
    }
}

/// Why the layout can't be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The capability list is no list.
    #[error(transparent)]
    Capabilities(#[from] CapabilityError),
    /// A capability ends before its fields do.
    #[error("the capability at {0:#04x} is too short for what it says it is")]
    TooShort(usize),
    /// Start plus length is beyond 64 bits.
    #[error("the capability at {0:#04x} runs over the end of the address space")]
    Overflow(usize),
}

/// Every piece of a BAR that the virtio and MSI-X capabilities of a list name, in its order.
pub fn layout(config: &ConfigSpace, list: &[Capability]) -> Result<Vec<Extent>, LayoutError> {
    let mut extents = Vec::new();
    for capability in list {
        match capability.id {
            VENDOR_SPECIFIC => extents.extend(virtio(config, capability.offset)?),
            MSIX => extents.extend(msix(config, capability.offset)?),
            _ => {}
        }
    }
    Ok(extents)
}

fn virtio(config: &ConfigSpace, at: usize) -> Result<Option<Extent>, LayoutError> {
    let short = LayoutError::TooShort(at);
    let length = config.u8(at + CAP_LEN).ok_or_else(|| short.clone())?;
    let u8_at = |offset| config.u8(at + offset).ok_or_else(|| short.clone());
    let u32_at = |offset| config.u32(at + offset).ok_or_else(|| short.clone());

    let kind = u8_at(CFG_TYPE)?;
    // The vendor's own data has none of the fields below; the pci_cfg capability is a window that the driver moves.
    if kind == VENDOR_DATA || kind == PCI_CFG {
        return Ok(None);
    }
    let shortest = match kind {
        NOTIFY => SHORTEST_NOTIFY,
        SHARED_MEMORY => SHORTEST_64,
        _ => SHORTEST,
    };
    if length < shortest {
        return Err(short);
    }
    let bar = u8_at(BAR)?;
    if bar > LAST_BAR {
        return Ok(None);
    }
    let (mut start, mut size) = (u64::from(u32_at(OFFSET)?), u64::from(u32_at(LENGTH)?));
    let holds = match kind {
        COMMON => Holds::Common,
        NOTIFY => Holds::Notify { multiplier: u32_at(MULTIPLIER)? },
        ISR => Holds::Isr,
        DEVICE => Holds::Device,
        SHARED_MEMORY => {
            start |= u64::from(u32_at(OFFSET_HIGH)?) << 32;
            size |= u64::from(u32_at(LENGTH_HIGH)?) << 32;
            Holds::SharedMemory
        }
        other => Holds::Foreign(other),
    };
    extent(holds, bar, start, size, at).map(Some)
}

fn msix(config: &ConfigSpace, at: usize) -> Result<[Extent; 2], LayoutError> {
    let u32_at = |offset| config.u32(at + offset).ok_or(LayoutError::TooShort(at));
    // Message control: the low 11 bits are the number of entries less one.
    let entries = u64::from((u32_at(0)? >> 16) & 0x7ff) + 1;
    // Table and pending bits: BAR in the low three bits, offset in the rest.
    let structure = |holds, register: u32, size| {
        let bar = u8::try_from(register & 7).unwrap_or(LAST_BAR);
        extent(holds, bar, u64::from(register & !7), size, at)
    };
    Ok([
        structure(Holds::MsixTable, u32_at(4)?, entries * 16)?,
        structure(Holds::MsixPending, u32_at(8)?, entries.div_ceil(64) * 8)?,
    ])
}

fn extent(holds: Holds, bar: u8, start: u64, size: u64, at: usize) -> Result<Extent, LayoutError> {
    let end = start.checked_add(size).ok_or(LayoutError::Overflow(at))?;
    Ok(Extent { holds, bar, start, end })
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (BAR {} {:#x}..{:#x})", self.holds, self.bar, self.start, self.end)
    }
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Common => f.write_str("the common configuration"),
            Self::Notify { .. } => f.write_str("the notify area"),
            Self::Isr => f.write_str("the interrupt status"),
            Self::Device => f.write_str("the device configuration"),
            Self::SharedMemory => f.write_str("shared memory"),
            Self::MsixTable => f.write_str("the MSI-X table"),
            Self::MsixPending => f.write_str("the MSI-X pending bits"),
            Self::Foreign(kind) => write!(f, "a structure of unknown type {kind}"),
        }
    }
}
