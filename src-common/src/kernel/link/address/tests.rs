use std::net::UdpSocket;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use super::super::tests::{bytes, inside, up, veth};
use super::super::{Link, set};
use super::*;
use crate::error::chain;
use crate::kernel::netns::Netns;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A namespace with a link that is up, and its peer.
fn linked() -> (Netns, Netlink, Link) {
    let netns = Netns::fresh();
    let mut netlink = inside(&netns);
    let link = veth(&mut netlink, "d0", "d1");
    for index in [link.index, link.index - 1] {
        set(&mut netlink, index, &up()).unwrap();
    }
    (netns, netlink, link)
}

/// Addresses of a link that are not the kernel's own, with their broadcast addresses.
fn addresses(netlink: &mut Netlink, link: &Link) -> Vec<(IpAddr, u8, Option<Ipv4Addr>)> {
    let all =
        netlink.request(NLM_F_DUMP, RouteNetlinkMessage::GetAddress(AddressMessage::default())).unwrap();
    let mut found = Vec::new();
    for message in all {
        let RouteNetlinkMessage::NewAddress(message) = message else { panic!("{message:?}") };
        let (mut local, mut broadcast) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(ip) => local = local.or(Some(*ip)),
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Broadcast(ip) => broadcast = Some(*ip),
                _ => {}
            }
        }
        let local = local.unwrap();
        let made = matches!(local, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if message.header.index == link.index && !made {
            found.push((local, message.header.prefix_len, broadcast));
        }
    }
    found.sort();
    found
}

#[test]
#[rustfmt::skip]
fn addresses_are_given_as_ip_gives_them() {
    assert_eq!(bytes(&new_address(5, (ip("10.0.0.2"), 24))), [
        2, 24, 0, 0, 5, 0, 0, 0, // AF_INET, /24, index 5
        8, 0, 2, 0, 10, 0, 0, 2, // IFA_LOCAL
        8, 0, 1, 0, 10, 0, 0, 2, // IFA_ADDRESS
        8, 0, 4, 0, 10, 0, 0, 255, // IFA_BROADCAST
    ]);
    assert_eq!(bytes(&new_address(5, (ip("fd00::2"), 64))), [
        10, 64, 2, 0, 5, 0, 0, 0, // AF_INET6, /64, NODAD, index 5
        20, 0, 2, 0, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, // IFA_LOCAL
        20, 0, 1, 0, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, // IFA_ADDRESS
    ]);
}

#[test]
#[rustfmt::skip]
fn routes_are_added_as_ip_adds_them() {
    assert_eq!(bytes(&new_route(5, &Route::to((ip("10.1.0.0"), 16), None))), [
        2, 16, 0, 0, 254, 3, 253, 1, 0, 0, 0, 0, // AF_INET, /16, main table, boot, scope link, unicast
        8, 0, 1, 0, 10, 1, 0, 0, // RTA_DST
        8, 0, 4, 0, 5, 0, 0, 0, // RTA_OIF
    ]);
    assert_eq!(bytes(&new_route(5, &Route::to((ip("0.0.0.0"), 0), Some(ip("10.0.0.1"))))), [
        2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, // scope universe
        8, 0, 1, 0, 0, 0, 0, 0, // RTA_DST
        8, 0, 5, 0, 10, 0, 0, 1, // RTA_GATEWAY
        8, 0, 4, 0, 5, 0, 0, 0, // RTA_OIF
    ]);
    let special = Route {
        priority: Some(100), mtu: Some(1400), mss: Some(1360), table: Some(1000), scope: Some(200),
        ..Route::to((ip("10.1.0.0"), 16), None)
    };
    assert_eq!(bytes(&new_route(5, &special)), [
        2, 16, 0, 0, 254, 3, 200, 1, 0, 0, 0, 0, // scope site
        8, 0, 1, 0, 10, 1, 0, 0, // RTA_DST
        8, 0, 4, 0, 5, 0, 0, 0, // RTA_OIF
        8, 0, 6, 0, 100, 0, 0, 0, // RTA_PRIORITY
        20, 0, 8, 0, 8, 0, 2, 0, 0x78, 5, 0, 0, 8, 0, 8, 0, 0x50, 5, 0, 0, // RTA_METRICS: RTAX_MTU, RTAX_ADVMSS
        8, 0, 15, 0, 0xe8, 3, 0, 0, // RTA_TABLE
    ]);
}

#[test]
fn an_ipv4_address_has_its_broadcast_address_where_its_prefix_has_one() {
    let (_netns, mut netlink, link) = linked();
    let given = [
        (ip("10.0.0.2"), 24, Some([10, 0, 0, 255].into())),
        (ip("10.1.0.2"), 31, None),
        (ip("10.2.0.2"), 32, None),
    ];
    for (ip, prefix, _) in given {
        add_address(&mut netlink, link.index, (ip, prefix)).unwrap();
    }
    assert_eq!(addresses(&mut netlink, &link), given);
}

#[test]
fn an_ipv6_address_is_there_to_bind_to_at_once() {
    let (netns, mut netlink, link) = linked();
    add_address(&mut netlink, link.index, (ip("fd00::2"), 64)).unwrap();
    netns.run(|| UdpSocket::bind("[fd00::2]:0").unwrap()).unwrap();
    assert_eq!(addresses(&mut netlink, &link), [(ip("fd00::2"), 64, None)]);
}

#[test]
fn an_address_that_is_there_is_said_to_be() {
    let (_netns, mut netlink, link) = linked();
    for address in [(ip("10.0.0.2"), 24), (ip("fd00::2"), 64)] {
        add_address(&mut netlink, link.index, address).unwrap();
        let error = add_address(&mut netlink, link.index, address).unwrap_err();
        assert_eq!(error.refusal(), Some(Errno::EEXIST), "{error}");
        assert_eq!(error.to_string(), format!("give address {}/{} to link d0", address.0, address.1));
    }
}

#[test]
fn a_prefix_longer_than_an_address_is_refused() {
    let (_netns, mut netlink, link) = linked();
    for address in [(ip("10.0.0.2"), 33), (ip("fd00::2"), 129)] {
        assert_eq!(
            add_address(&mut netlink, link.index, address).unwrap_err().refusal(),
            Some(Errno::EINVAL)
        );
    }
}

#[test]
fn packets_follow_the_routes() {
    let (netns, mut netlink, link) = linked();
    for (address, gateway, near, far) in [
        ("10.0.0.2", "10.0.0.1", ("10.1.0.0", 16), ("0.0.0.0", 0)),
        ("fd00::2", "fd00::1", ("fd01::", 64), ("::", 0)),
    ] {
        let (near, far) = ((ip(near.0), near.1), (ip(far.0), far.1));
        add_address(&mut netlink, link.index, (ip(address), if near.0.is_ipv4() { 24 } else { 64 })).unwrap();
        let far = Route::to(far, Some(ip(gateway)));
        add_route(&mut netlink, link.index, &Route::to(near, None)).unwrap();
        add_route(&mut netlink, link.index, &far).unwrap();
        let error = add_route(&mut netlink, link.index, &far).unwrap_err();
        assert_eq!(error.refusal(), Some(Errno::EEXIST), "{error}");
        let later = Route { priority: Some(4711), mtu: Some(1400), table: Some(254), ..far };
        add_route(&mut netlink, link.index, &later).unwrap();
        // The kernel looks the way up when a datagram socket is connected.
        let source = |to: IpAddr| {
            let socket = UdpSocket::bind((if to.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).unwrap();
            socket.connect((to, 9)).map(|()| socket.local_addr().unwrap().ip())
        };
        let far_away = if near.0.is_ipv4() { ip("192.0.2.1") } else { ip("2001:db8::1") };
        for to in [near.0, far_away] {
            assert_eq!(netns.run(|| source(to)).unwrap().unwrap(), ip(address), "{to}");
        }
    }
}

#[test]
fn a_refused_route_gives_the_kernels_words() {
    let (_netns, mut netlink, link) = linked();
    let route = Route::to((ip("0.0.0.0"), 0), Some(ip("10.0.0.1")));
    let error = add_route(&mut netlink, link.index, &route).unwrap_err();
    let expected = "add a route to 0.0.0.0/0 through 10.0.0.1 by link d0: the kernel refuses (`Nexthop has invalid \
                    gateway`): ENETUNREACH: Network is unreachable";
    assert_eq!(chain(&error), expected);
}
