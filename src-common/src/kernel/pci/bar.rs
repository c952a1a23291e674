//! Base address registers, from the sysfs file `resource`. A VF's own registers read 0 in configuration space, so the
//! file is the only place that has their addresses and sizes.

use crate::host::{self, Host};

use super::{PciAddress, folder};

/// Number of BARs of a function (PCI 3.0, 6.2.5).
const COUNT: usize = 6;
/// `include/linux/ioport.h`: IORESOURCE_IO, IORESOURCE_MEM, IORESOURCE_UNSET.
const IO: u64 = 0x100;
const MEMORY: u64 = 0x200;
const UNSET: u64 = 0x2000_0000;

/// The six BARs of a function, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bars([Option<Bar>; COUNT]);

/// One assigned BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Memory or ports.
    pub kind: BarKind,
    /// First physical address (or port).
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// Which address space a BAR lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// Memory, mappable.
    Memory,
    /// I/O ports, which cannot be mapped.
    Io,
}

impl Bars {
    /// Those of a function.
    pub fn read(host: &Host, address: PciAddress) -> host::Result<Self> {
        host.attribute(format!("{}/resource", folder(address))).map(|resource| Self::parse(&resource))
    }

    /// Parses `resource`: a line `<start> <end> <flags>` a BAR, in hex; further lines are the ROM's and the PF's.
    /// A line that is none of that, or an unassigned BAR, is no BAR.
    #[must_use]
    pub fn parse(resource: &str) -> Self {
        let mut bars = [None; COUNT];
        for (bar, line) in bars.iter_mut().zip(resource.lines()) {
            *bar = Bar::parse(line);
        }
        Self(bars)
    }

    /// BAR by number.
    #[must_use]
    pub fn get(&self, number: u8) -> Option<Bar> {
        self.0.get(usize::from(number)).copied().flatten()
    }

    /// The assigned BARs with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u8, Bar)> {
        (0u8..).zip(self.0).filter_map(|(number, bar)| Some((number, bar?)))
    }
}

impl Bar {
    fn parse(line: &str) -> Option<Self> {
        let mut numbers =
            line.split_ascii_whitespace().map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
        let (start, end, flags) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let kind = match flags {
            flags if flags & UNSET != 0 => return None,
            flags if flags & MEMORY != 0 => BarKind::Memory,
            flags if flags & IO != 0 => BarKind::Io,
            _ => return None,
        };
        let length = end.checked_sub(start)?.checked_add(1)?;
        Some(Self { kind, start, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_file_of_a_real_vf_is_read() {
        // As the testbed's VF shows it.
        let bars = Bars::parse(
            "0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
             0x00000000fe800000 0x00000000fe800fff 0x0000000000040200\n\
             0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
             0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
             0x000000e000000000 0x000000e000003fff 0x000000000014220c\n",
        );
        assert_eq!(bars.get(1), Some(Bar { kind: BarKind::Memory, start: 0xfe80_0000, length: 0x1000 }));
        assert_eq!(bars.get(4).map(|bar| bar.length), Some(0x4000));
        assert_eq!(bars.iter().count(), 2);
        assert_eq!(bars.get(9), None);
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in ".{0,200}") {
            let _ = Bars::parse(&text);
        }

        #[test]
        fn no_range_overflows(start: u64, end: u64, flags: u64) {
            let _ = Bars::parse(&format!("{start:#x} {end:#x} {flags:#x}"));
        }
    }
}
