//! IPv4 packets (RFC 791), whole ones only.

use std::net::Ipv4Addr;

/// Protocol number of ICMP.
pub(crate) const ICMP: u8 = 1;

/// Bytes of a header without options.
const HEADER: usize = 20;
/// The flag "more fragments" and the fragment offset: either makes it a fragment.
const FRAGMENT: u16 = 0x3fff;
/// The flag "don't fragment".
const DONT_FRAGMENT: u16 = 0x4000;
/// As hosts start theirs.
const TTL: u8 = 64;

/// A packet taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) from: Ipv4Addr,
    pub(crate) to: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) payload: &'a [u8],
}

/// Takes a packet apart; `None` for fragments, other versions and what fails its checksum.
pub(crate) fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    let version_and_length = *bytes.first()?;
    let header =
        bytes.get(..usize::from(version_and_length & 0xf) * 4).filter(|header| header.len() >= HEADER)?;
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if version_and_length >> 4 != 4 || field(6) & FRAGMENT != 0 || checksum(header) != 0 {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    // The frame may be padded behind the packet's own length.
    let payload = bytes.get(header.len()..usize::from(field(2)))?;
    Some(Packet { from: address(12), to: address(16), protocol: header[9], payload })
}

/// Puts a packet together.
///
/// The payload is one of ours, shorter than a frame by far.
pub(crate) fn build(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + payload.len()).expect("a payload fits into a frame");
    let mut bytes = vec![0x45, 0];
    bytes.extend_from_slice(&length.to_be_bytes());
    // Identification 0 is for packets that are never fragmented (RFC 6864, section 4.1).
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&DONT_FRAGMENT.to_be_bytes());
    bytes.extend_from_slice(&[TTL, protocol, 0, 0]);
    bytes.extend_from_slice(&from.octets());
    bytes.extend_from_slice(&to.octets());
    let sum = checksum(&bytes).to_be_bytes();
    bytes[10..12].copy_from_slice(&sum);
    bytes.extend_from_slice(payload);
    bytes
}

/// The Internet checksum (RFC 1071). Over bytes that hold their own checksum it is 0.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        sum += u32::from(word);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        // RFC 1071, section 3: the words 0001 f203 f4f5 f6f7 sum to ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0xff]), !0xff00, "an odd byte is the high one");
        assert_eq!(checksum(&[]), 0xffff);
    }

    #[test]
    fn a_built_packet_parses_back_without_its_padding() {
        let (from, to) = (Ipv4Addr::new(10, 9, 0, 2), Ipv4Addr::new(10, 9, 0, 1));
        let mut bytes = build(from, to, ICMP, b"ping");
        bytes.extend_from_slice(&[0; 22]);
        assert_eq!(parse(&bytes), Some(Packet { from, to, protocol: ICMP, payload: b"ping" }));
    }

    #[test]
    fn options_are_skipped() {
        let mut bytes = build(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, ICMP, b"ping");
        bytes.splice(20..20, [1, 1, 1, 0]);
        bytes[0] = 0x46;
        bytes[3] += 4;
        bytes[10..12].fill(0);
        let sum = checksum(&bytes[..24]).to_be_bytes();
        bytes[10..12].copy_from_slice(&sum);
        assert_eq!(parse(&bytes).unwrap().payload, b"ping");
    }

    #[test]
    fn damage_and_fragments_are_passed_over() {
        let good = build(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, ICMP, b"ping");
        for at in 0..20 {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            assert_eq!(parse(&bytes), None, "byte {at}");
        }
        for length in 0..good.len() {
            assert_eq!(parse(&good[..length]), None, "{length} bytes");
        }
        let mut fragment = good;
        fragment[6] = 0x20;
        fragment[10..12].fill(0);
        let sum = checksum(&fragment[..20]).to_be_bytes();
        fragment[10..12].copy_from_slice(&sum);
        assert_eq!(parse(&fragment), None);
    }
}
