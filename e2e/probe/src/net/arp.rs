//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::ethernet::Mac;

/// Hardware type Ethernet, protocol type IPv4, address lengths 6 and 4.
const PREFIX: [u8; 6] = [0, 1, 8, 0, 6, 4];
const LENGTH: usize = 28;

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `ares_op$REQUEST`
    Request = 1,
    /// `ares_op$REPLY`
    Reply = 2,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) operation: Operation,
    pub(crate) sender: (Mac, Ipv4Addr),
    pub(crate) target: (Mac, Ipv4Addr),
}

/// Reads a message; `None` for anything but a request or reply of IPv4 over Ethernet.
pub(crate) fn parse(payload: &[u8]) -> Option<Message> {
    let body = payload.get(..LENGTH)?.strip_prefix(&PREFIX)?;
    let operation = match body[..2] {
        [0, 1] => Operation::Request,
        [0, 2] => Operation::Reply,
        _ => return None,
    };
    Some(Message { operation, sender: station(&body[2..12])?, target: station(&body[12..22])? })
}

/// The message's bytes.
pub(crate) fn build(message: &Message) -> Vec<u8> {
    let mut bytes = PREFIX.to_vec();
    bytes.extend_from_slice(&(message.operation as u16).to_be_bytes());
    for (mac, ip) in [message.sender, message.target] {
        bytes.extend_from_slice(&mac.0);
        bytes.extend_from_slice(&ip.octets());
    }
    bytes
}

fn station(bytes: &[u8]) -> Option<(Mac, Ipv4Addr)> {
    let (mac, ip) = bytes.split_first_chunk::<6>()?;
    Some((Mac(*mac), <[u8; 4]>::try_from(ip).ok()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_bytes_of_the_rfc() {
        let request = Message {
            operation: Operation::Request,
            sender: (Mac([0x52, 0x54, 0, 0xaa, 0, 1]), Ipv4Addr::new(10, 9, 0, 2)),
            target: (Mac([0; 6]), Ipv4Addr::new(10, 9, 0, 1)),
        };
        let bytes = build(&request);
        assert_eq!(
            bytes,
            [0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0xaa, 0, 1, 10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1]
        );
        assert_eq!(parse(&bytes), Some(request));
        assert_eq!(parse(&[&bytes[..], &[0; 18]].concat()), Some(request), "padding is no harm");
    }

    #[test]
    fn other_messages_are_passed_over() {
        let mut bytes = build(&Message {
            operation: Operation::Reply,
            sender: (Mac([2; 6]), Ipv4Addr::LOCALHOST),
            target: (Mac([4; 6]), Ipv4Addr::LOCALHOST),
        });
        assert_eq!(parse(&bytes[..27]), None);
        bytes[7] = 3;
        assert_eq!(parse(&bytes), None, "RARP");
        bytes[7] = 2;
        bytes[1] = 6;
        assert_eq!(parse(&bytes), None, "another hardware type");
    }
}
