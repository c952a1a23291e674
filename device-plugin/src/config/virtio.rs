//! Virtio device types by name, as users write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, de};

/// The types that virtio 1.3 describes in section 5, named after Linux (`include/uapi/linux/virtio_ids.h`). Others have
/// a number only.
const NAMES: [(&str, u16); 19] = [
    ("net", 1),
    ("block", 2),
    ("console", 3),
    ("rng", 4),
    ("balloon", 5),
    ("scsi", 8),
    ("gpu", 16),
    ("input", 18),
    ("vsock", 19),
    ("crypto", 20),
    ("iommu", 23),
    ("mem", 24),
    ("sound", 25),
    ("fs", 26),
    ("pmem", 27),
    ("rpmb", 28),
    ("scmi", 32),
    ("i2c", 34),
    ("gpio", 41),
];

/// A virtio device type, by name (`net`) or by number (`1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VirtioType(pub u16);

/// Why a string is no virtio device type.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no virtio device type: expected a number, or one of {names}", names = names())]
pub struct BadVirtioType(String);

impl FromStr for VirtioType {
    type Err = BadVirtioType;

    fn from_str(text: &str) -> Result<Self, BadVirtioType> {
        let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
        // 0 is reserved as an invalid type (virtio 1.3, section 5).
        let number = || text.parse().ok().filter(|number| *number != 0 && !text.starts_with('+'));
        named.or_else(number).map(Self).ok_or_else(|| BadVirtioType(text.to_owned()))
    }
}

impl fmt::Display for VirtioType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

fn names() -> String {
    NAMES.map(|(name, _)| name).join(", ")
}

impl<'de> Deserialize<'de> for VirtioType {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_a_name_and_a_number() {
        let number = |text: &str| text.parse::<VirtioType>().unwrap().0;
        assert_eq!((number("net"), number("1"), number("fs"), number("45")), (1, 1, 26, 45));
    }

    #[test]
    fn what_no_device_has_is_no_type() {
        for bad in ["", "0", "+1", "-1", "65536", "Net", "network"] {
            assert!(bad.parse::<VirtioType>().is_err(), "{bad}");
        }
    }
}
