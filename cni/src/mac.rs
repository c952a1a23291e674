//! A MAC address: six bytes, as runtimes and meta-plugins write them.

use std::fmt;
use std::str::FromStr;

/// Bytes of an address (EUI-48).
const LENGTH: usize = 6;

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacAddress([u8; LENGTH]);

/// Why a text is none.
#[derive(Debug, PartialEq, Eq)]
pub struct NoMac;

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
}
