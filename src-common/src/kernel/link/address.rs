//! IP addresses and routes of a link.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};

use crate::kernel::netlink::{Netlink, NetlinkError};

use super::{LinkError, Request, called};

/// Gives a link an address with the length of its prefix in bits. EEXIST where it has that address.
///
/// An IPv4 address comes with its prefix's broadcast address, as from `ip address add … brd +`. An IPv6 address is
/// taken without duplicate address detection (IFA_F_NODAD): that would hold it back for a second or more after the link
/// has a carrier, in which the container starts and can't bind to it; that it is nobody else's is whose job it is to
/// give it, IPAM's.
pub fn add_address(netlink: &mut Netlink, index: u32, address: (IpAddr, u8)) -> Result<(), LinkError> {
    let outcome = netlink.request_raw(NLM_F_CREATE | NLM_F_EXCL, new_address(index, address));
    outcome.map(drop).map_err(|source| {
        let doing = format!("give address {}/{} to link {}", address.0, address.1, called(netlink, index));
        LinkError::Kernel { doing, source }
    })
}

/// Addresses of a link, each with the length of its prefix in bits.
pub fn addresses(netlink: &mut Netlink, index: u32) -> Result<Vec<(IpAddr, u8)>, LinkError> {
    let all = Request::GetAddress(AddressMessage::default());
    let failed = |source: NetlinkError| LinkError::Kernel { doing: "list addresses".to_owned(), source };
    let mut addresses = Vec::new();
    for answer in netlink.request_raw(NLM_F_DUMP, all).map_err(failed)? {
        let message = AddressMessage::parse(&answer.payload).map_err(|error| failed(error.into()))?;
        if message.header.index != index {
            continue;
        }
        // A point-to-point address is the peer's; the local one is its own attribute.
        let own = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        });
        let any = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        });
        addresses.extend(own.or(any).map(|ip| (ip, message.header.prefix_len)));
    }
    Ok(addresses)
}

fn new_address(index: u32, (ip, prefix): (IpAddr, u8)) -> Request {
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
    Request::NewAddress(message)
}

/// A route by a link. What is `None` is the kernel's to choose, or does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to, with the length of the prefix in bits.
    pub destination: (IpAddr, u8),
    /// Through whom; where there is none, to its neighbours themselves.
    pub gateway: Option<IpAddr>,
    /// Which of several routes to one destination goes first: the lowest.
    pub priority: Option<u32>,
    /// Bytes of the largest packet.
    pub mtu: Option<u32>,
    /// Bytes of a TCP segment that peers are told to keep to.
    pub mss: Option<u32>,
    /// Number of the table that it is in; the main one.
    pub table: Option<u32>,
    /// How far the destination is (`rtnetlink(7)`); universe with a gateway, else link.
    pub scope: Option<u8>,
}

/// Sends what is for a destination out of a link, which is up. EEXIST where such a route stands.
pub fn add_route(netlink: &mut Netlink, index: u32, route: &Route) -> Result<(), LinkError> {
    let outcome = netlink.request_raw(NLM_F_CREATE | NLM_F_EXCL, new_route(index, route));
    outcome.map(drop).map_err(|source| {
        let doing = format!("add a route to {route} by link {}", called(netlink, index));
        LinkError::Kernel { doing, source }
    })
}

fn new_route(index: u32, route: &Route) -> Request {
    let (ip, prefix) = route.destination;
    let mut message = RouteMessage::default();
    message.header.address_family = family(ip);
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    // What ip(8) writes, and the reference plugins with it.
    message.header.protocol = RouteProtocol::Boot;
    message.header.kind = RouteType::Unicast;
    let near = if route.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
    message.header.scope = route.scope.map_or(near, RouteScope::from);
    message.attributes.push(RouteAttribute::Destination(ip.into()));
    message.attributes.extend(route.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    message.attributes.push(RouteAttribute::Oif(index));
    message.attributes.extend(route.priority.map(RouteAttribute::Priority));
    let metrics = [route.mtu.map(RouteMetric::Mtu), route.mss.map(RouteMetric::Advmss)];
    let metrics: Vec<RouteMetric> = metrics.into_iter().flatten().collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    // It goes before the header's, which has 8 bits.
    message.attributes.extend(route.table.map(RouteAttribute::Table));
    Request::NewRoute(message)
}

impl Route {
    /// A route without anything special.
    #[must_use]
    pub fn to(destination: (IpAddr, u8), gateway: Option<IpAddr>) -> Self {
        Self { destination, gateway, priority: None, mtu: None, mss: None, table: None, scope: None }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, prefix) = self.destination;
        write!(f, "{ip}/{prefix}")?;
        self.gateway.map_or(Ok(()), |gateway| write!(f, " through {gateway}"))
    }
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
