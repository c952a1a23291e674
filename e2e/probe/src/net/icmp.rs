//! ICMP echo (RFC 792).

use super::ipv4::checksum;

/// Message types.
const REQUEST: u8 = 8;
const REPLY: u8 = 0;

/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;

/// Which way an echo goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Reply,
}

/// An echo message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Echo<'a> {
    pub(crate) kind: Kind,
    pub(crate) identifier: u16,
    pub(crate) sequence: u16,
    pub(crate) data: &'a [u8],
}

/// Reads an echo message; `None` for other messages and what fails its checksum.
pub(crate) fn parse(bytes: &[u8]) -> Option<Echo<'_>> {
    let (header, data) = bytes.split_at_checked(HEADER)?;
    let kind = match header[..2] {
        [REQUEST, 0] => Kind::Request,
        [REPLY, 0] => Kind::Reply,
        _ => return None,
    };
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    (checksum(bytes) == 0).then(|| Echo { kind, identifier: field(4), sequence: field(6), data })
}

/// The message's bytes.
pub(crate) fn build(echo: &Echo<'_>) -> Vec<u8> {
    let kind = match echo.kind {
        Kind::Request => REQUEST,
        Kind::Reply => REPLY,
    };
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend_from_slice(&echo.identifier.to_be_bytes());
    bytes.extend_from_slice(&echo.sequence.to_be_bytes());
    bytes.extend_from_slice(echo.data);
    let sum = checksum(&bytes).to_be_bytes();
    bytes[2..4].copy_from_slice(&sum);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echoes_parse_back() {
        for kind in [Kind::Request, Kind::Reply] {
            for data in [&b""[..], b"odd", b"even"] {
                let echo = Echo { kind, identifier: 0x1234, sequence: 7, data };
                assert_eq!(parse(&build(&echo)), Some(echo));
            }
        }
    }

    #[test]
    fn damage_and_other_messages_are_passed_over() {
        let good = build(&Echo { kind: Kind::Request, identifier: 1, sequence: 2, data: b"data" });
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x40;
            assert_eq!(parse(&bytes), None, "byte {at}");
        }
        assert_eq!(parse(&good[..7]), None);
        let mut unreachable = vec![3, 1, 0, 0, 0, 0, 0, 0];
        let sum = checksum(&unreachable).to_be_bytes();
        unreachable[2..4].copy_from_slice(&sum);
        assert_eq!(parse(&unreachable), None);
    }
}
