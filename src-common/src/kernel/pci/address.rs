//! A PCI function's address, as sysfs writes it: `0000:01:00.1`, in hex.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Domain, bus, device and function. Ordered as the bus is, so that `00.10` comes after `00.2`.
///
/// Domains have four hex digits or more: VMD and Hyper-V number theirs above 0xffff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
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
            let number = |digits: &str| u32::from_str_radix(digits, 16).ok();
            Some(Self {
                domain: number(domain)?,
                bus: u8::try_from(number(bus)?).ok()?,
                device: u8::try_from(number(device)?).ok().filter(|d| *d < 32)?,
                function: u8::try_from(number(function)?).ok().filter(|f| *f < 8)?,
            })
        };
        parse().filter(|address| address.to_string() == text).ok_or_else(|| BadAddress(text.to_owned()))
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
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
