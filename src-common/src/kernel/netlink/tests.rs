use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use super::*;
use crate::error::chain;
use crate::kernel::netns::Netns;

fn in_fresh_namespace<T: Send>(run: impl FnOnce(&mut Netlink) -> T + Send) -> T {
    Netns::fresh().run(|| run(&mut Netlink::open(protocols::NETLINK_ROUTE).unwrap())).unwrap()
}

fn new_link(kind: &str, name: &str) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Other(kind.to_owned()))]));
    RouteNetlinkMessage::NewLink(message)
}

#[test]
fn a_request_asks_for_an_acknowledgement() {
    let request = encode(NLM_F_DUMP, RouteNetlinkMessage::GetLink(LinkMessage::default()));
    assert_eq!(request, [&[32, 0, 0, 0, 18, 0, 0x05, 0x03][..], &[0; 24]].concat());
}

#[test]
fn the_kernels_own_words_come_with_its_refusal() {
    let refusal =
        in_fresh_namespace(|netlink| netlink.request(NLM_F_CREATE, new_link("nonsense", "d0")).unwrap_err());
    let expected = format!("the kernel refuses (`Unknown device type`): {}", Errno::EOPNOTSUPP);
    assert_eq!(chain(&refusal), expected);
}

#[test]
fn a_question_and_a_change_have_their_answers_one_after_another() {
    in_fresh_namespace(|netlink| {
        let ask = || {
            let mut message = LinkMessage::default();
            message.header.index = 1;
            RouteNetlinkMessage::GetLink(message)
        };
        let lo = netlink.request(0, ask()).unwrap();
        assert!(matches!(&lo[..], [RouteNetlinkMessage::NewLink(lo)] if lo.header.index == 1), "{lo:?}");
        assert_eq!(netlink.request(0, new_link("veth", "d0")).unwrap_err().refusal(), Some(Errno::ENODEV));
        assert_eq!(netlink.request(NLM_F_CREATE, new_link("veth", "d0")).unwrap(), []);
        let raw = netlink.request_raw(0, ask()).unwrap();
        assert_eq!(raw.len(), 1);
        // `struct ifinfomsg`: the index is its second word.
        assert_eq!(raw[0].payload[4..8], 1_i32.to_ne_bytes());
    });
}

/// A datagram of a list is 32 KiB at most; a link takes more than 1 KiB of it.
#[test]
fn a_list_of_many_datagrams_is_whole() {
    in_fresh_namespace(|netlink| {
        for number in 0..100 {
            netlink.request(NLM_F_CREATE, new_link("veth", &format!("d{number}"))).unwrap();
        }
        let list = || RouteNetlinkMessage::GetLink(LinkMessage::default());
        // With its peer each, and lo.
        assert_eq!(netlink.request(NLM_F_DUMP, list()).unwrap().len(), 201);
    });
}

#[test]
fn a_list_that_nobody_offers_is_refused() {
    // The family `sock_diag` has no messages of that type.
    let mut netlink = Netlink::open(protocols::NETLINK_SOCK_DIAG).unwrap();
    let list = RouteNetlinkMessage::GetAddress(Default::default());
    assert_eq!(netlink.request_raw(NLM_F_DUMP, list).unwrap_err().refusal(), Some(Errno::EINVAL));
}

#[test]
fn no_answer_is_awaited_for_ever() {
    let netlink = Netlink::open(protocols::NETLINK_ROUTE).unwrap();
    let error = netlink.receive(Instant::now() + Duration::from_millis(10)).unwrap_err();
    assert!(matches!(error, NetlinkError::Timeout), "{error}");
}
