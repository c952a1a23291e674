//! A PCI function's address, as sysfs writes it: `0000:01:00.1`, in hex.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Domain, bus, device and function. Ordered as the bus is, so that `00.10` comes after `00.2`.
///
/// Domains have four hex digits or more: VMD and Hyper-V number theirs above 0xffff.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// The domain, and below it the 16 bits of the function's requester id: one number, as it is compared all the time.
    number: u64,
}

/// Why a string is no PCI address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no PCI address: expected <domain>:<bus>:<device>.<function> in hex, such as 0000:01:00.1")]
pub struct BadAddress(String);

impl FromStr for PciAddress {
    type Err = BadAddress;

    /// Only the form that sysfs writes is taken (lower-case hex, full width): the string is also a device id, a file
    /// name and a CDI name, so one function must have one spelling.
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let parse = || {
            let (domain, rest) = text.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            let is_padded = domain.len() == 4 || domain.len() > 4 && !domain.starts_with('0');
            let has_widths = is_padded && [bus.len(), device.len(), function.len()] == [2, 2, 1];
            let is_hex =
                |digits: &str| digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
            if !has_widths || ![domain, bus, device, function].into_iter().all(is_hex) {
                return None;
            }
            let number = |digits: &str| u32::from_str_radix(digits, 16).ok().map(u64::from);
            let (domain, bus) = (number(domain)?, number(bus)?);
            let device = number(device).filter(|device| *device < 32)?;
            let function = number(function).filter(|function| *function < 8)?;
            Some(Self { number: domain << 16 | bus << 8 | device << 3 | function })
        };
        parse().ok_or_else(|| BadAddress(text.to_owned()))
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (domain, bus) = (self.number >> 16, self.number >> 8 & 0xff);
        let (device, function) = (self.number >> 3 & 0x1f, self.number & 0x7);
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl fmt::Debug for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PciAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PciAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_domains_are_kept() {
        let address: PciAddress = "10000:e1:00.3".parse().unwrap();
        assert_eq!(address.to_string(), "10000:e1:00.3");
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            "",
            "01:00.1",
            "0000:01:00",
            "0000:01:20.0",
            "0000:01:00.8",
            "0000:1:00.0",
            "0000:AB:00.0",
            "+000:01:00.1",
        ] {
            assert_eq!(bad.parse::<PciAddress>(), Err(BadAddress(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn order_is_by_number() {
        let parse = |text: &str| text.parse::<PciAddress>().unwrap();
        assert!(parse("0000:01:02.0") < parse("0000:01:10.0"));
        assert!(parse("ffff:01:02.0") < parse("10000:00:00.0"));
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(text in "[0-9a-f:.]{0,14}") {
            if let Ok(address) = text.parse::<PciAddress>() {
                prop_assert_eq!(address.to_string(), text);
            }
        }
    }
}
