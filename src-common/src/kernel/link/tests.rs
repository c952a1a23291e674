use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NetlinkSerializable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkInfo, Prop};
use proptest::prelude::*;

use super::*;
use crate::error::chain;
use crate::kernel::netlink::protocols;
use crate::kernel::netns::Netns;

pub(super) fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

/// The bytes of a request behind its netlink header.
pub(super) fn bytes(message: &Request) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// A socket into a namespace.
pub(super) fn inside(netns: &Netns) -> Netlink {
    netns.run(|| Netlink::open(protocols::NETLINK_ROUTE).unwrap()).unwrap()
}

/// A virtual link and its peer, both down.
pub(super) fn veth(netlink: &mut Netlink, link: &str, peer: &str) -> Link {
    let named = |text: &str| {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(text.to_owned()));
        message
    };
    let mut message = named(link);
    let data = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(named(peer))));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), data]));
    netlink.request(NLM_F_CREATE | NLM_F_EXCL, RouteNetlinkMessage::NewLink(message)).unwrap();
    found(netlink, link)
}

pub(super) fn found(netlink: &mut Netlink, text: &str) -> Link {
    by_name(netlink, &name(text)).unwrap().unwrap()
}

pub(super) fn up() -> LinkChange {
    LinkChange { up: Some(true), ..Default::default() }
}

/// A link as Linux 6.12 tells of it, cut down to the attributes that are read and two that are not.
#[rustfmt::skip]
const VIRTIO: [u8; 84] = [
    0, 0, 1, 0, 2, 0, 0, 0, 0x43, 0x10, 1, 0, 0, 0, 0, 0, // ARPHRD_ETHER, index 2, UP | BROADCAST | RUNNING | …
    9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0, // IFLA_IFNAME
    8, 0, 13, 0, 0xe8, 3, 0, 0, // IFLA_TXQLEN
    8, 0, 4, 0, 0xdc, 5, 0, 0, // IFLA_MTU 1500
    10, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 0, // IFLA_ADDRESS
    12, 0, 56, 0, b'v', b'i', b'r', b't', b'i', b'o', b'3', 0, // IFLA_PARENT_DEV_NAME
    11, 0, 57, 0, b'v', b'i', b'r', b't', b'i', b'o', 0, 0, // IFLA_PARENT_DEV_BUS_NAME
    4, 0, 0xff, 0x80, // a nest of no known kind
];

#[test]
fn a_link_tells_its_parent() {
    let link = parse(&VIRTIO).unwrap().unwrap();
    let parent = Some("virtio3".to_owned());
    let mac = Some([2, 0, 0, 0, 0, 1].into());
    assert_eq!(link, Link { index: 2, name: name("eth0"), mac, mtu: 1500, up: true, parent });
}

#[test]
fn a_link_whose_name_is_no_utf8_is_none() {
    let mut odd = VIRTIO;
    odd[20] = 0xff;
    assert_eq!(parse(&odd).unwrap(), None);
}

#[test]
fn a_link_without_a_name_is_malformed() {
    for message in [&VIRTIO[..16], &VIRTIO[..7]] {
        assert!(matches!(parse(message), Err(NetlinkError::Malformed(_))), "{message:?}");
    }
}

#[test]
#[rustfmt::skip]
fn a_change_is_one_request() {
    let change = LinkChange {
        name: Some(name("net1")), mac: Some([2, 0, 0, 0, 0, 1].into()), mtu: Some(9000), up: Some(true),
    };
    assert_eq!(bytes(&change_of(5, &change)), [
        0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, // index 5, flags UP of mask UP
        10, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 0, // IFLA_ADDRESS
        8, 0, 4, 0, 0x28, 0x23, 0, 0, // IFLA_MTU
        9, 0, 3, 0, b'n', b'e', b't', b'1', 0, 0, 0, 0, // IFLA_IFNAME
    ]);
    let down = LinkChange { up: Some(false), ..Default::default() };
    assert_eq!(bytes(&change_of(5, &down)), [0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn a_link_is_found_by_name_and_by_index() {
    let netlink = &mut inside(&Netns::fresh());
    let lo = found(netlink, "lo");
    assert_eq!((lo.index, lo.mtu, lo.up, lo.parent.as_deref()), (1, 65536, false, None));
    assert_eq!(by_index(netlink, 1).unwrap(), Some(lo));
    assert_eq!(by_name(netlink, &name("none")).unwrap(), None);
    assert_eq!(by_index(netlink, 4711).unwrap(), None);
}

#[test]
fn a_link_is_found_by_its_other_name() {
    let netlink = &mut inside(&Netns::fresh());
    let lo = found(netlink, "lo");
    let mut message = LinkMessage::default();
    message.header.index = lo.index;
    message.attributes.push(LinkAttribute::PropList(vec![Prop::AltIfName("other".to_owned())]));
    netlink
        .request(NLM_F_EXCL | NLM_F_CREATE | NLM_F_APPEND, RouteNetlinkMessage::NewLinkProp(message))
        .unwrap();
    assert_eq!(found(netlink, "other"), lo);
}

#[test]
fn links_are_listed_by_index() {
    let netlink = &mut inside(&Netns::fresh());
    veth(netlink, "b", "a");
    let links = list(netlink).unwrap();
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    // The kernel makes the peer first.
    assert_eq!(names, ["lo", "a", "b"]);
    assert!(links.is_sorted_by_key(|link| link.index));
}

#[test]
fn all_that_is_asked_of_a_link_is_changed() {
    let netlink = &mut inside(&Netns::fresh());
    let link = veth(netlink, "d0", "d1");
    let mac = Some([2, 0, 0, 0, 0, 1].into());
    let change = LinkChange { name: Some(name("net1")), mac, mtu: Some(9000), up: Some(true) };
    set(netlink, link.index, &change).unwrap();
    let changed = Link { name: name("net1"), mac, mtu: 9000, up: true, ..link };
    assert_eq!(by_index(netlink, changed.index).unwrap().as_ref(), Some(&changed));
    set(netlink, changed.index, &LinkChange { up: Some(false), ..Default::default() }).unwrap();
    assert_eq!(by_index(netlink, changed.index).unwrap(), Some(Link { up: false, ..changed }));
}

#[test]
fn a_change_of_nothing_changes_nothing() {
    let netlink = &mut inside(&Netns::fresh());
    let link = veth(netlink, "d0", "d1");
    set(netlink, link.index, &LinkChange::default()).unwrap();
    assert_eq!(found(netlink, "d0"), link);
}

#[test]
fn a_refused_change_names_the_link_and_gives_the_kernels_words() {
    let netlink = &mut inside(&Netns::fresh());
    let link = veth(netlink, "d0", "d1");
    let small = LinkChange { mtu: Some(10), up: Some(true), ..Default::default() };
    let error = set(netlink, link.index, &small).unwrap_err();
    let expected = "set MTU 10, up of link d0: the kernel refuses (`mtu less than device minimum`): EINVAL: \
                    Invalid argument";
    assert_eq!(chain(&error), expected);
    assert_eq!(error.refusal(), Some(Errno::EINVAL));
    let error = set(netlink, 4711, &small).unwrap_err();
    assert!(
        chain(&error).starts_with("set MTU 10, up of link with index 4711: the kernel refuses"),
        "{error}"
    );
}

/// The kernel says which names are names; all but a pattern, which it makes one of.
#[test]
fn the_kernel_takes_the_names_that_are_names() {
    let netlink = &mut inside(&Netns::fresh());
    let index = veth(netlink, "d0", "d1").index;
    let mut rename = |text: &str| {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::IfName(text.to_owned()));
        netlink.request(0, RouteNetlinkMessage::SetLink(message))
    };
    for taken in name::tests::NAMES {
        rename(taken).unwrap();
    }
    for refused in name::tests::NO_NAMES {
        let outcome = rename(refused);
        // It takes an empty one for none, and reads one to its NUL.
        let odd = refused.is_empty() || refused.contains(['%', '\0']);
        assert_eq!(outcome.is_err(), !odd, "{refused:?}: {outcome:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_attributes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&[&VIRTIO[..28], &bytes].concat());
    }
}
