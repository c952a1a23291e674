//! The virtio structures that the function's config space points at: virtio 1.3, section 4.1.4.
//!
//! Reads the capability list on its own account, so that what the descriptor says of the doorbell is checked
//! against the device and not against the code that wrote the descriptor.

/// Bytes of config space that hold the capability list; extended capabilities follow.
pub(crate) const CONFIG_LENGTH: usize = 256;

/// PCI status register, and its bit that says there is a capability list (PCI 3.0, section 6.2.3).
const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Offset of the first capability's pointer.
const FIRST: usize = 0x34;
/// Capability id of vendor-specific ones, which virtio uses.
const VENDOR_SPECIFIC: u8 = 0x09;
/// As many as fit behind the 64 bytes of header, 4 bytes each: more is a loop.
const MOST: usize = (CONFIG_LENGTH - 64) / 4;

/// `cfg_type` values (`VIRTIO_PCI_CAP_*_CFG`).
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const DEVICE: u8 = 4;

/// A part of a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Area {
    /// BAR, 0 to 5.
    pub(crate) bar: u8,
    /// Bytes from the start of the BAR.
    pub(crate) offset: u32,
    /// Bytes.
    pub(crate) length: u32,
}

/// The notify structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Notify {
    /// Where all doorbells are.
    pub(crate) area: Area,
    /// `notify_off_multiplier`: bytes between two steps of `queue_notify_off`.
    pub(crate) multiplier: u32,
}

/// What the capability list says of a virtio device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Structures {
    /// Common configuration, the first of its kind.
    pub(crate) common: Area,
    /// Device-specific configuration, the first of its kind.
    pub(crate) device: Area,
    /// Notification areas, in the device's order of preference; one may lie in an I/O BAR.
    pub(crate) notify: Vec<Notify>,
}

/// Why a config space is no virtio device's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The status register says that there is none.
    #[error("the config space has no capability list")]
    NoList,
    /// A pointer into the header, or more steps than fit.
    #[error("the capability list leads astray at {0:#x}")]
    Astray(usize),
    /// A virtio capability that is shorter than its kind, or that ends beyond the config space.
    #[error("the virtio capability at {0:#x} is cut short")]
    Short(usize),
    /// One of the structures that every device has is missing.
    #[error("no virtio {0} capability")]
    Missing(&'static str),
}

/// Walks the capability list of `config`.
pub(crate) fn parse(config: &[u8; CONFIG_LENGTH]) -> Result<Structures, Malformed> {
    if u16::from_le_bytes([config[STATUS], config[STATUS + 1]]) & STATUS_CAPABILITIES == 0 {
        return Err(Malformed::NoList);
    }
    let (mut common, mut device, mut notify) = (None, None, Vec::new());
    let mut at = pointer(config[FIRST]);
    for _ in 0..MOST {
        if at == 0 {
            return Ok(Structures {
                common: common.ok_or(Malformed::Missing("common configuration"))?,
                device: device.ok_or(Malformed::Missing("device configuration"))?,
                notify: if notify.is_empty() {
                    return Err(Malformed::Missing("notification"));
                } else {
                    notify
                },
            });
        }
        if at < 64 {
            return Err(Malformed::Astray(at));
        }
        if config[at] == VENDOR_SPECIFIC {
            let capability = Capability::at(config, at)?;
            // Values above 5 are reserved, and the capability is to be ignored.
            if capability.area.bar <= 5 {
                match capability.kind {
                    COMMON => common = common.or(Some(capability.area)),
                    DEVICE => device = device.or(Some(capability.area)),
                    NOTIFY => {
                        let multiplier = capability.multiplier()?;
                        notify.push(Notify { area: capability.area, multiplier });
                    }
                    _ => {}
                }
            }
        }
        at = pointer(config[at + 1]);
    }
    Err(Malformed::Astray(at))
}

/// `struct virtio_pci_cap`, and what may follow it.
struct Capability {
    start: usize,
    kind: u8,
    area: Area,
    rest: Option<[u8; 4]>,
}

impl Capability {
    fn at(config: &[u8; CONFIG_LENGTH], start: usize) -> Result<Self, Malformed> {
        let length = usize::from(config[start + 2]);
        let bytes = config.get(start..start + length).ok_or(Malformed::Short(start))?;
        let word = |at: usize| bytes.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let (Some(&[_, _, _, kind, bar, ..]), Some(offset), Some(length)) =
            (bytes.get(..5), word(8), word(12))
        else {
            return Err(Malformed::Short(start));
        };
        let area = Area { bar, offset: u32::from_le_bytes(offset), length: u32::from_le_bytes(length) };
        Ok(Self { start, kind, area, rest: word(16) })
    }

    /// `struct virtio_pci_notify_cap` ends with its multiplier.
    fn multiplier(&self) -> Result<u32, Malformed> {
        self.rest.map(u32::from_le_bytes).ok_or(Malformed::Short(self.start))
    }
}

/// The two low bits of a capability pointer are reserved.
fn pointer(byte: u8) -> usize {
    usize::from(byte & 0xfc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A config space with these virtio capabilities: kind, BAR, offset, length, multiplier.
    fn config(capabilities: &[(u8, u8, u32, u32, Option<u32>)]) -> [u8; CONFIG_LENGTH] {
        let mut config = [0; CONFIG_LENGTH];
        config[STATUS] = 1 << 4;
        config[FIRST] = 0x40;
        let mut at = 0x40;
        for (kind, bar, offset, length, multiplier) in capabilities {
            let end = at + if multiplier.is_some() { 20 } else { 16 };
            config[at..at + 5].copy_from_slice(&[
                VENDOR_SPECIFIC,
                u8::try_from(end).unwrap(),
                u8::try_from(end - at).unwrap(),
                *kind,
                *bar,
            ]);
            config[at + 8..at + 12].copy_from_slice(&offset.to_le_bytes());
            config[at + 12..at + 16].copy_from_slice(&length.to_le_bytes());
            if let Some(multiplier) = multiplier {
                config[at + 16..at + 20].copy_from_slice(&multiplier.to_le_bytes());
            }
            at = end;
        }
        // A capability of another kind (MSI-X) ends the list.
        config[at] = 0x11;
        config
    }

    #[test]
    fn a_virtio_function_shows_its_structures() {
        let structures = parse(&config(&[
            (COMMON, 4, 0, 0x1000, None),
            (3, 4, 0x1000, 0x1000, None),
            (DEVICE, 4, 0x2000, 0x1000, None),
            (NOTIFY, 4, 0x3000, 0x1000, Some(4)),
        ]))
        .unwrap();
        assert_eq!(structures.common, Area { bar: 4, offset: 0, length: 0x1000 });
        assert_eq!(structures.device, Area { bar: 4, offset: 0x2000, length: 0x1000 });
        let area = Area { bar: 4, offset: 0x3000, length: 0x1000 };
        assert_eq!(structures.notify, [Notify { area, multiplier: 4 }]);
    }

    #[test]
    fn the_first_of_a_kind_stands_and_reserved_bars_are_ignored() {
        let structures = parse(&config(&[
            (COMMON, 6, 0x9000, 1, None),
            (COMMON, 2, 0x100, 0x40, None),
            (COMMON, 3, 0x200, 0x40, None),
            (DEVICE, 2, 0, 8, None),
            (NOTIFY, 0, 0, 4, Some(0)),
            (NOTIFY, 2, 0x3000, 0x1000, Some(0)),
        ]))
        .unwrap();
        assert_eq!(structures.common.bar, 2);
        assert_eq!(structures.notify.len(), 2);
    }

    #[test]
    fn malformed_lists_are_refused() {
        assert_eq!(parse(&[0; CONFIG_LENGTH]), Err(Malformed::NoList));

        let mut looping = config(&[(COMMON, 0, 0, 0, None)]);
        looping[0x41] = 0x40;
        assert_eq!(parse(&looping), Err(Malformed::Astray(0x40)));

        let mut into_the_header = config(&[(COMMON, 0, 0, 0, None)]);
        into_the_header[0x41] = 0x10;
        assert_eq!(parse(&into_the_header), Err(Malformed::Astray(0x10)));

        let mut short = config(&[(COMMON, 0, 0, 0, None)]);
        short[0x42] = 15;
        assert_eq!(parse(&short), Err(Malformed::Short(0x40)));

        let mut beyond_the_end = config(&[]);
        beyond_the_end[FIRST] = 0xfc;
        beyond_the_end[0xfc] = VENDOR_SPECIFIC;
        beyond_the_end[0xfe] = 16;
        assert_eq!(parse(&beyond_the_end), Err(Malformed::Short(0xfc)));

        assert_eq!(parse(&config(&[(NOTIFY, 0, 0, 0, None)])), Err(Malformed::Short(0x40)));
        assert_eq!(
            parse(&config(&[(COMMON, 0, 0, 0, None)])),
            Err(Malformed::Missing("device configuration"))
        );
    }

    proptest! {
        #[test]
        fn any_config_space_is_parsed_or_refused(
            mut config in proptest::collection::vec(any::<u8>(), CONFIG_LENGTH),
            // Most of the list's links and kinds as they should be, so that the walk gets somewhere.
            at in proptest::collection::vec(16usize..63, 1..6),
        ) {
            config[STATUS] |= 1 << 4;
            config[FIRST] = (at[0] * 4) as u8;
            for (here, next) in at.iter().zip(at.iter().skip(1).chain([&0])) {
                config[here * 4] = VENDOR_SPECIFIC;
                config[here * 4 + 1] = (next * 4) as u8;
            }
            if let Ok(structures) = parse(&config.try_into().unwrap()) {
                prop_assert!(structures.common.bar <= 5 && structures.device.bar <= 5);
                prop_assert!(!structures.notify.is_empty());
            }
        }
    }
}
