//! The requests that are made of links, their addresses and their routes.
//!
//! netlink-packet-route has the messages, and an enum of all that rtnetlink takes: whoever sends one of those carries the
//! code of all the others.

use netlink_packet_core::{Emitable, NetlinkSerializable};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::RouteMessage;

/// Kinds of messages in the kernel's `include/uapi/linux/rtnetlink.h`.
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;

/// A request, with what the kernel calls it.
#[derive(Debug)]
pub(super) enum Request {
    /// Links are asked for.
    GetLink(LinkMessage),
    /// A link is changed.
    SetLink(LinkMessage),
    /// Addresses are asked for.
    GetAddress(AddressMessage),
    /// A link gets an address.
    NewAddress(AddressMessage),
    /// A route is added.
    NewRoute(RouteMessage),
}

impl Request {
    fn message(&self) -> &dyn Emitable {
        match self {
            Self::GetLink(message) | Self::SetLink(message) => message,
            Self::GetAddress(message) | Self::NewAddress(message) => message,
            Self::NewRoute(message) => message,
        }
    }
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        match self {
            Self::GetLink(_) => RTM_GETLINK,
            Self::SetLink(_) => RTM_SETLINK,
            Self::GetAddress(_) => RTM_GETADDR,
            Self::NewAddress(_) => RTM_NEWADDR,
            Self::NewRoute(_) => RTM_NEWROUTE,
        }
    }

    fn buffer_len(&self) -> usize {
        self.message().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        self.message().emit(buffer);
    }
}
