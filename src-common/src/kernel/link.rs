//! Network interfaces, which the kernel calls links, in the network namespace of the socket that is given.
//!
//! Requests are netlink-packet-route's. Answers are not: that crate turns a whole link away for one attribute that
//! another kernel writes otherwise, and few attributes are wanted. Follows the kernel's
//! `include/uapi/linux/if_link.h` and what `net/core/rtnetlink.c` makes of it.

mod address;
mod moving;
mod name;
mod request;
pub mod vf;

use std::fmt;
use std::path::PathBuf;

use netlink_packet_core::{NLA_HEADER_SIZE, NLM_F_DUMP, NlasIterator};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkMessage};
use nix::errno::Errno;

use super::mac::MacAddress;
use super::netlink::{Netlink, NetlinkError};
use super::netns::NetnsError;

pub use address::{Route, add_address, add_route, addresses};
pub use moving::move_to;
pub use name::{BadName, LinkName};
use request::Request;

/// Bytes of `struct ifinfomsg`, which every message about a link opens with.
const HEADER: usize = 16;
/// Attributes of `if_link.h`.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
/// Since Linux 5.14.
const IFLA_PARENT_DEV_NAME: u16 = 56;

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace; another namespace may give it another.
    pub index: u32,
    /// Its name.
    pub name: LinkName,
    /// Its address, where that is one of Ethernet's length.
    pub mac: Option<MacAddress>,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// Whether it is switched on, which says nothing of a cable.
    pub up: bool,
    /// Name of the device below it on that device's bus: `virtio3`, `0000:01:00.1`.
    pub parent: Option<String>,
}

/// What is to be otherwise of a link. What is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Its name; kernels before 6.2 rename no link that is up (EBUSY).
    pub name: Option<LinkName>,
    /// Its address; some drivers change none while up (EBUSY).
    pub mac: Option<MacAddress>,
    /// Bytes of the largest packet.
    pub mtu: Option<u32>,
    /// Whether it is switched on.
    pub up: Option<bool>,
}

/// Why a link is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The kernel did not do it, or did not say.
    #[error("{doing}")]
    Kernel {
        /// What was asked of it, and of which link.
        doing: String,
        /// Its answer.
        source: NetlinkError,
    },
    /// No such link in the namespace asked.
    #[error("there is no link {0}")]
    Absent(String),
    /// A link has that name, where another is to have it.
    #[error("network namespace {} has a link {name} already", netns.display())]
    Taken {
        /// The name.
        name: LinkName,
        /// The namespace.
        netns: PathBuf,
    },
    /// A move that was half done and could not be undone.
    #[error("link {name} is stranded in network namespace {}, where it could not be renamed ({why})", netns.display())]
    Stranded {
        /// Its name there.
        name: LinkName,
        /// Where it is.
        netns: PathBuf,
        /// Why it could not be renamed.
        why: String,
        /// Why it could not be brought back.
        source: Box<LinkError>,
    },
    /// A namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

impl LinkError {
    /// The kernel's error number, where it is the kernel that refused.
    #[must_use]
    pub fn refusal(&self) -> Option<Errno> {
        match self {
            Self::Kernel { source, .. } => source.refusal(),
            _ => None,
        }
    }
}

/// The link of that name, or of that alternative name; `None` where there is none.
pub fn by_name(netlink: &mut Netlink, name: &LinkName) -> Result<Option<Link>, LinkError> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_string()));
    one(netlink, message).map_err(failed(|| format!("look for link {name}")))
}

/// The link of that index; `None` where there is none.
pub fn by_index(netlink: &mut Netlink, index: u32) -> Result<Option<Link>, LinkError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    one(netlink, message).map_err(failed(|| format!("look for the link with index {index}")))
}

/// All links, by index.
pub fn list(netlink: &mut Netlink) -> Result<Vec<Link>, LinkError> {
    let mut list = || -> Result<Vec<Link>, NetlinkError> {
        let answers = netlink.request_raw(NLM_F_DUMP, get(LinkMessage::default(), &[]))?;
        let mut links = Vec::new();
        for answer in answers {
            // A name that is no UTF-8 is not ours to deal with.
            links.extend(parse(&answer.payload)?);
        }
        links.sort_by_key(|link| link.index);
        Ok(links)
    };
    list().map_err(failed(|| "list the links".to_owned()))
}

/// Changes a link, in this order: address, MTU, name, up or down (`do_setlink`). What stands before the one that fails
/// has been done by then.
pub fn set(netlink: &mut Netlink, index: u32, change: &LinkChange) -> Result<(), LinkError> {
    let outcome = netlink.request_raw(0, change_of(index, change)).map(drop);
    outcome.map_err(|source| {
        let doing = format!("set {change} of link {}", called(netlink, index));
        LinkError::Kernel { doing, source }
    })
}

fn change_of(index: u32, change: &LinkChange) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.octets().to_vec())));
    message.attributes.extend(change.mtu.map(LinkAttribute::Mtu));
    message.attributes.extend(change.name.as_ref().map(|name| LinkAttribute::IfName(name.to_string())));
    if let Some(up) = change.up {
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    }
    Request::SetLink(message)
}

/// What a link is called in an error: its name, or its index where it has none (any more).
fn called(netlink: &mut Netlink, index: u32) -> String {
    let link = by_index(netlink, index).ok().flatten();
    link.map_or_else(|| format!("with index {index}"), |link| link.name.to_string())
}

/// A question for links, without their counters; `with` names what is left out unless asked for.
fn get(message: LinkMessage, with: &[LinkExtentMask]) -> Request {
    get_with_counters(message, &[&[LinkExtentMask::SkipStats], with].concat())
}

/// Likewise, with their counters.
fn get_with_counters(mut message: LinkMessage, with: &[LinkExtentMask]) -> Request {
    message.attributes.push(LinkAttribute::ExtMask(with.to_vec()));
    Request::GetLink(message)
}

fn one(netlink: &mut Netlink, message: LinkMessage) -> Result<Option<Link>, NetlinkError> {
    match netlink.request_raw(0, get(message, &[])) {
        Ok(answers) => match answers.first() {
            Some(answer) => match parse(&answer.payload)? {
                Some(link) => Ok(Some(link)),
                None => Err(NetlinkError::Malformed("a link whose name is no UTF-8".to_owned())),
            },
            None => Err(NetlinkError::Malformed("no link and no refusal".to_owned())),
        },
        Err(NetlinkError::Refused { source: Errno::ENODEV, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A link from a message about it; `None` where its name is no UTF-8.
fn parse(payload: &[u8]) -> Result<Option<Link>, NetlinkError> {
    let header = LinkHeader::parse(payload)?;
    let (mut name, mut mac, mut mtu, mut parent) = (None, None, None, None);
    for (kind, value) in attributes(payload) {
        match kind {
            IFLA_ADDRESS => mac = <[u8; 6]>::try_from(value).ok().map(MacAddress::from),
            IFLA_IFNAME => name = Some(value),
            IFLA_MTU => mtu = value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)),
            IFLA_PARENT_DEV_NAME => parent = text(value).map(str::to_owned),
            _ => {}
        }
    }
    let (Some(name), Some(mtu)) = (name, mtu) else {
        return Err(NetlinkError::Malformed("a link without a name or an MTU".to_owned()));
    };
    let Some(name) = text(name).and_then(|name| name.parse().ok()) else { return Ok(None) };
    let up = header.flags.contains(LinkFlags::Up);
    Ok(Some(Link { index: header.index, name, mac, mtu, up, parent }))
}

/// The attributes of a message about a link.
fn attributes(payload: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    nested(payload.get(HEADER..).unwrap_or_default())
}

/// The attributes within one by their kind, up to one that can't be.
fn nested(value: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(value).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), attribute.length());
        Some((kind, attribute.into_inner().get(NLA_HEADER_SIZE..length.into())?))
    })
}

/// A string of the kernel's, which ends with a NUL.
fn text(value: &[u8]) -> Option<&str> {
    str::from_utf8(value.split(|byte| *byte == 0).next()?).ok()
}

fn failed(doing: impl FnOnce() -> String) -> impl FnOnce(NetlinkError) -> LinkError {
    move |source| LinkError::Kernel { doing: doing(), source }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.mac.map(|mac| format!("MAC address {mac}")),
            self.mtu.map(|mtu| format!("MTU {mtu}")),
            self.name.as_ref().map(|name| format!("name {name}")),
            self.up.map(|up| if up { "up" } else { "down" }.to_owned()),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests;
