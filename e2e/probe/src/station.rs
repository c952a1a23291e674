//! A host with one address: what it makes of a frame. Pure; the frames come and go through [`crate::session`].

use std::net::Ipv4Addr;

use crate::net::arp::{self, Message, Operation};
use crate::net::ethernet::{self, Mac};
use crate::net::icmp::{self, Echo, Kind};
use crate::net::ipv4;

/// Our side of the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Station {
    pub(crate) mac: Mac,
    pub(crate) ip: Ipv4Addr,
}

/// What a frame was to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Not for us, or nothing that we speak.
    Noise,
    /// A neighbour told its address, and maybe asked for ours: then with the answer to send.
    Neighbour { ip: Ipv4Addr, mac: Mac, answer: Option<Vec<u8>> },
    /// An echo request for us, with the answer to send.
    EchoRequest { answer: Vec<u8> },
    /// An echo reply for us.
    EchoReply { from: Ipv4Addr, identifier: u16, sequence: u16, data: Vec<u8> },
}

impl Station {
    /// Takes one frame in.
    pub(crate) fn hear(&self, bytes: &[u8]) -> Heard {
        self.understand(bytes).unwrap_or(Heard::Noise)
    }

    /// Asks all stations who has `ip`. Asking for our own address announces it (RFC 5227, section 2.3).
    pub(crate) fn ask(&self, ip: Ipv4Addr) -> Vec<u8> {
        let request =
            Message { operation: Operation::Request, sender: (self.mac, self.ip), target: (Mac([0; 6]), ip) };
        ethernet::build(Mac::BROADCAST, self.mac, ethernet::ARP, &arp::build(&request))
    }

    /// An echo request for a resolved neighbour.
    pub(crate) fn ping(
        &self,
        (mac, ip): (Mac, Ipv4Addr),
        identifier: u16,
        sequence: u16,
        data: &[u8],
    ) -> Vec<u8> {
        self.echo((mac, ip), &Echo { kind: Kind::Request, identifier, sequence, data })
    }

    fn understand(&self, bytes: &[u8]) -> Option<Heard> {
        let frame = ethernet::parse(bytes)?;
        if frame.from == self.mac || (frame.to != self.mac && frame.to != Mac::BROADCAST) {
            return None;
        }
        match frame.kind {
            ethernet::ARP => self.neighbour(&arp::parse(frame.payload)?),
            ethernet::IPV4 if frame.to == self.mac => {
                let packet = ipv4::parse(frame.payload).filter(|packet| packet.to == self.ip)?;
                let echo = icmp::parse(packet.payload).filter(|_| packet.protocol == ipv4::ICMP)?;
                Some(match echo.kind {
                    Kind::Request => Heard::EchoRequest {
                        answer: self.echo((frame.from, packet.from), &Echo { kind: Kind::Reply, ..echo }),
                    },
                    Kind::Reply => Heard::EchoReply {
                        from: packet.from,
                        identifier: echo.identifier,
                        sequence: echo.sequence,
                        data: echo.data.to_vec(),
                    },
                })
            }
            _ => None,
        }
    }

    fn neighbour(&self, message: &Message) -> Option<Heard> {
        let (mac, ip) = message.sender;
        // A sender without an address yet is probing for conflicts (RFC 5227): answered, but no neighbour.
        let asked = message.operation == Operation::Request && message.target.1 == self.ip;
        let answer = asked.then(|| {
            let reply =
                Message { operation: Operation::Reply, sender: (self.mac, self.ip), target: message.sender };
            ethernet::build(mac, self.mac, ethernet::ARP, &arp::build(&reply))
        });
        (asked || message.target.1 == self.ip || message.target.1 == ip).then_some(Heard::Neighbour {
            ip,
            mac,
            answer,
        })
    }

    fn echo(&self, (mac, ip): (Mac, Ipv4Addr), echo: &Echo<'_>) -> Vec<u8> {
        let packet = ipv4::build(self.ip, ip, ipv4::ICMP, &icmp::build(echo));
        ethernet::build(mac, self.mac, ethernet::IPV4, &packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Station = Station { mac: Mac([2, 0, 0, 0, 0, 1]), ip: Ipv4Addr::new(10, 9, 0, 1) };
    const B: Station = Station { mac: Mac([2, 0, 0, 0, 0, 2]), ip: Ipv4Addr::new(10, 9, 0, 2) };
    const C: Station = Station { mac: Mac([2, 0, 0, 0, 0, 3]), ip: Ipv4Addr::new(10, 9, 0, 3) };

    #[test]
    fn two_stations_resolve_each_other() {
        let Heard::Neighbour { ip, mac, answer: Some(answer) } = B.hear(&A.ask(B.ip)) else {
            panic!("a request for B is answered by B");
        };
        assert_eq!((ip, mac), (A.ip, A.mac));
        assert_eq!(A.hear(&answer), Heard::Neighbour { ip: B.ip, mac: B.mac, answer: None });
        assert_eq!(C.hear(&answer), Heard::Noise);
        assert_eq!(C.hear(&A.ask(B.ip)), Heard::Noise);
    }

    #[test]
    fn an_announcement_teaches_all_and_is_answered_by_none() {
        assert_eq!(B.hear(&A.ask(A.ip)), Heard::Neighbour { ip: A.ip, mac: A.mac, answer: None });
        assert_eq!(A.hear(&A.ask(A.ip)), Heard::Noise, "our own frame, reflected");
    }

    #[test]
    fn a_ping_comes_back_with_its_data() {
        let request = A.ping((B.mac, B.ip), 77, 3, b"some data, and an odd length");
        let Heard::EchoRequest { answer } = B.hear(&request) else { panic!("B answers") };
        let Heard::EchoReply { from, identifier, sequence, data } = A.hear(&answer) else {
            panic!("A hears the answer");
        };
        assert_eq!((from, identifier, sequence), (B.ip, 77, 3));
        assert_eq!(data, b"some data, and an odd length");
        assert_eq!(C.hear(&request), Heard::Noise);
    }

    #[test]
    fn other_frames_are_noise() {
        let noise: [&[u8]; 4] = [
            &[],
            &ethernet::build(Mac::BROADCAST, C.mac, 0x86dd, &[0x60; 40]),
            &ethernet::build(A.mac, C.mac, ethernet::IPV4, &ipv4::build(C.ip, A.ip, 17, &[0; 8])),
            &ethernet::build(A.mac, C.mac, ethernet::IPV4, &ipv4::build(C.ip, B.ip, ipv4::ICMP, &[8; 8])),
        ];
        for frame in noise {
            assert_eq!(A.hear(frame), Heard::Noise);
        }
    }

    proptest! {
        #[test]
        fn no_frame_brings_us_down(
            kind in prop_oneof![Just(ethernet::ARP), Just(ethernet::IPV4), any::<u16>()],
            payload in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            A.hear(&ethernet::build(A.mac, B.mac, kind, &payload));
        }

        #[test]
        fn every_ping_is_answered_with_its_data(
            identifier: u16,
            sequence: u16,
            data in proptest::collection::vec(any::<u8>(), 0..1472),
        ) {
            let request = A.ping((B.mac, B.ip), identifier, sequence, &data);
            let Heard::EchoRequest { answer } = B.hear(&request) else { panic!("B answers") };
            prop_assert_eq!(A.hear(&answer), Heard::EchoReply { from: B.ip, identifier, sequence, data });
        }
    }
}
