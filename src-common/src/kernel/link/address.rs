//! IP addresses and routes of a link.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::kernel::netlink::Netlink;

use super::{LinkError, called};

/// Gives a link an address with the length of its prefix in bits. EEXIST where it has that address.
///
/// An IPv4 address comes with its prefix's broadcast address, as from `ip address add … brd +`. An IPv6 address is
/// taken without duplicate address detection (IFA_F_NODAD): that would hold it back for a second or more after the link
/// has a carrier, in which the container starts and can't bind to it; that it is nobody else's is whose job it is to
/// give it, IPAM's.
pub fn add_address(netlink: &mut Netlink, index: u32, address: (IpAddr, u8)) -> Result<(), LinkError> {
    let outcome = netlink.request(NLM_F_CREATE | NLM_F_EXCL, new_address(index, address));
    outcome.map(drop).map_err(|source| {
        let doing = format!("give address {}/{} to link {}", address.0, address.1, called(netlink, index));
        LinkError::Kernel { doing, source }
    })
}

fn new_address(index: u32, (ip, prefix): (IpAddr, u8)) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(ip);
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(ip));
    message.attributes.push(AddressAttribute::Address(ip));
    match ip {
        IpAddr::V4(ip) => message.attributes.extend(broadcast(ip, prefix).map(AddressAttribute::Broadcast)),
        IpAddr::V6(_) => message.header.flags = AddressHeaderFlags::Nodad,
    }
    RouteNetlinkMessage::NewAddress(message)
}

/// Sends what is for a destination out of a link, which is up: through a gateway, or, where there is none, to its
/// neighbours themselves (scope `link`). EEXIST where such a route stands.
pub fn add_route(
    netlink: &mut Netlink,
    index: u32,
    destination: (IpAddr, u8),
    gateway: Option<IpAddr>,
) -> Result<(), LinkError> {
    let outcome = netlink.request(NLM_F_CREATE | NLM_F_EXCL, new_route(index, destination, gateway));
    outcome.map(drop).map_err(|source| {
        let (ip, prefix) = destination;
        let through = gateway.map(|gateway| format!(" through {gateway}")).unwrap_or_default();
        let doing = format!("add a route to {ip}/{prefix}{through} by link {}", called(netlink, index));
        LinkError::Kernel { doing, source }
    })
}

fn new_route(index: u32, (ip, prefix): (IpAddr, u8), gateway: Option<IpAddr>) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(ip);
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    // What ip(8) writes, and the reference plugins with it.
    message.header.protocol = RouteProtocol::Boot;
    message.header.kind = RouteType::Unicast;
    message.header.scope = if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
    message.attributes.push(RouteAttribute::Destination(ip.into()));
    message.attributes.extend(gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    message.attributes.push(RouteAttribute::Oif(index));
    RouteNetlinkMessage::NewRoute(message)
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The last address of a prefix; none where it has two addresses or one, which are all hosts (RFC 3021).
fn broadcast(ip: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    let hosts = u32::MAX.checked_shr(u32::from(prefix)).filter(|hosts| *hosts > 1)?;
    Some(Ipv4Addr::from_bits(ip.to_bits() | hosts))
}

#[cfg(test)]
mod tests;
