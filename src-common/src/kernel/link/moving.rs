//! Moving a link from one network namespace to another, and back where that fails half-way.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use crate::error::chain;
use crate::kernel::netlink::{Netlink, protocols};
use crate::kernel::netns::Netns;

use super::{Link, LinkChange, LinkError, LinkName, Request, by_index, by_name, failed, set};

/// Moves a link to another namespace and gives it a name there. What comes back is the link as it is there: down, and
/// with an index that is another one where its own was taken.
///
/// A link that can't be moved, or not be given the name, stays where it is under its own name; only where the way back
/// fails too is it [`LinkError::Stranded`].
pub fn move_to(from: &Netns, index: u32, to: &Netns, name: &LinkName) -> Result<Link, LinkError> {
    let mut way = Way { here: open(from)?, there: open(to)?, from, to };
    let absent = || LinkError::Absent(format!("with index {index} in {}", from.path().display()));
    let link = by_index(&mut way.here, index)?.ok_or_else(absent)?;
    if by_name(&mut way.there, name)?.is_some() {
        return Err(LinkError::Taken { name: name.clone(), netns: to.path().to_owned() });
    }
    way.go(&link, name)
}

/// The two ends of a move.
struct Way<'a> {
    here: Netlink,
    there: Netlink,
    from: &'a Netns,
    to: &'a Netns,
}

impl Way<'_> {
    /// Moves and renames in one request.
    ///
    /// The kernel does it in that order and not as one (`do_setlink`): where the new name is taken over there, and the
    /// old one is not, the request fails with EEXIST and the link is over there, under its old name. Looking first
    /// leaves a moment in which the name may be taken, so the link is looked for after a failure.
    fn go(&mut self, link: &Link, name: &LinkName) -> Result<Link, LinkError> {
        let moved = send(&mut self.here, link, self.to, name).and_then(|()| self.over_there(name));
        let Err(failure) = moved else { return moved };
        match self.come_back(link, name) {
            Ok(()) => Err(failure),
            Err(source) => Err(LinkError::Stranded {
                name: link.name.clone(),
                netns: self.to.path().to_owned(),
                why: chain(&failure),
                source: Box::new(source),
            }),
        }
    }

    fn over_there(&mut self, name: &LinkName) -> Result<Link, LinkError> {
        by_name(&mut self.there, name)?.ok_or_else(|| self.absent(name))
    }

    fn absent(&self, name: &LinkName) -> LinkError {
        LinkError::Absent(format!("{name} in {}", self.to.path().display()))
    }

    /// Brings a link back that went over and was not renamed; nothing to do where it never left.
    fn come_back(&mut self, link: &Link, name: &LinkName) -> Result<(), LinkError> {
        if by_index(&mut self.here, link.index)?.is_some_and(|here| here.name == link.name) {
            return Ok(());
        }
        let mut stray = None;
        for name in [&link.name, name] {
            stray = stray.or(by_name(&mut self.there, name)?.filter(|stray| stray.mac == link.mac));
        }
        let stray = stray.ok_or_else(|| self.absent(&link.name))?;
        send(&mut self.there, &stray, self.from, &link.name)?;
        let Some(back) = by_name(&mut self.here, &link.name)?.filter(|_| link.up) else { return Ok(()) };
        // The kernel takes a link down to move it.
        set(&mut self.here, back.index, &LinkChange { up: Some(true), ..Default::default() })
    }
}

fn open(netns: &Netns) -> Result<Netlink, LinkError> {
    let doing = || format!("reach the links of {}", netns.path().display());
    netns.run(|| Netlink::open(protocols::NETLINK_ROUTE))?.map_err(failed(doing))
}

/// The request, from the namespace that the link is in.
fn send(netlink: &mut Netlink, link: &Link, to: &Netns, name: &LinkName) -> Result<(), LinkError> {
    let doing = || format!("move link {} to {} as {name}", link.name, to.path().display());
    netlink.request_raw(0, moved(link.index, to.as_fd().as_raw_fd(), name)).map(drop).map_err(failed(doing))
}

fn moved(index: u32, to: RawFd, name: &LinkName) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::NetNsFd(to));
    message.attributes.push(LinkAttribute::IfName(name.to_string()));
    Request::SetLink(message)
}

#[cfg(test)]
mod tests;
