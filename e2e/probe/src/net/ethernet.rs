//! Ethernet II frames (IEEE 802.3, without tags).

use std::fmt;

/// `EtherType` of ARP and of IPv4.
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const IPV4: u16 = 0x0800;
/// The first that is for experiments (IEEE 802, "Local Experimental Ethertype 1"): of concern to nobody.
pub(crate) const EXPERIMENT: u16 = 0x88b5;

/// Destination, source, type.
const HEADER: usize = 14;
/// Shortest frame without its checksum; shorter ones are padded.
const SHORTEST: usize = 60;

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl Mac {
    /// All stations.
    pub(crate) const BROADCAST: Self = Self([0xff; 6]);

    fn from(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A frame taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) to: Mac,
    pub(crate) from: Mac,
    pub(crate) kind: u16,
    /// What follows the header, padding included.
    pub(crate) payload: &'a [u8],
}

/// Takes a frame apart; `None` if it is too short.
pub(crate) fn parse(bytes: &[u8]) -> Option<Frame<'_>> {
    let (header, payload) = bytes.split_at_checked(HEADER)?;
    let kind = u16::from_be_bytes([header[12], header[13]]);
    Some(Frame { to: Mac::from(&header[..6])?, from: Mac::from(&header[6..12])?, kind, payload })
}

/// Puts a frame together.
pub(crate) fn build(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SHORTEST.max(HEADER + payload.len()));
    bytes.extend_from_slice(&to.0);
    bytes.extend_from_slice(&from.0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().max(SHORTEST), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_frame_parses_back_padded() {
        let (to, from) = (Mac([1, 2, 3, 4, 5, 6]), Mac([7, 8, 9, 10, 11, 12]));
        let bytes = build(to, from, ARP, b"payload");
        assert_eq!(bytes.len(), SHORTEST);
        let frame = parse(&bytes).unwrap();
        assert_eq!((frame.to, frame.from, frame.kind), (to, from, ARP));
        assert!(frame.payload.starts_with(b"payload\0"));
        assert_eq!(parse(&bytes[..13]), None);
        assert_eq!(from.to_string(), "07:08:09:0a:0b:0c");
    }
}
