//! A MAC address: six bytes, as runtimes and meta-plugins write them and as the kernel holds them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes of an address (EUI-48).
const LENGTH: usize = 6;

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacAddress([u8; LENGTH]);

/// Why a text is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no MAC address: expected six pairs of hexadecimal digits, such as 02:00:00:00:00:01")]
pub struct NoMac;

impl MacAddress {
    /// Its bytes, as they go over the wire.
    #[must_use]
    pub fn octets(self) -> [u8; LENGTH] {
        self.0
    }
}

impl From<[u8; LENGTH]> for MacAddress {
    fn from(octets: [u8; LENGTH]) -> Self {
        Self(octets)
    }
}

impl FromStr for MacAddress {
    type Err = NoMac;

    /// Pairs of hexadecimal digits, joined by `:` or, as Multus lets pass too, by `-`.
    fn from_str(text: &str) -> Result<Self, NoMac> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; LENGTH];
        let mut pairs = text.split(separator);
        for byte in &mut bytes {
            let pair = pairs.next().ok_or(NoMac)?;
            // `from_str_radix` would take `+f` for a number.
            if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(NoMac);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NoMac)?;
        }
        if pairs.next().is_some() { Err(NoMac) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_prints_in_one_spelling() {
        for text in ["02:00:00:0A:00:ff", "02-00-00-0a-00-FF"] {
            assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), "02:00:00:0a:00:ff");
        }
    }

    #[test]
    fn other_texts_are_none() {
        for text in
            ["", "02:00:00:00:00", "02:00:00:00:00:00:00", "02:00:00:00:00:0", "02:00:00:00:00:+1", "x"]
        {
            assert_eq!(text.parse::<MacAddress>(), Err(NoMac), "{text}");
        }
    }

    #[test]
    fn in_a_document_it_is_its_text() {
        let address = MacAddress::from([2, 0, 0, 0, 0, 1]);
        let json = serde_json::to_string(&address).unwrap();
        assert_eq!(json, r#""02:00:00:00:00:01""#);
        assert_eq!(serde_json::from_str::<MacAddress>(&json).unwrap(), address);
        assert!(serde_json::from_str::<MacAddress>(r#""02:00""#).is_err());
    }
}
