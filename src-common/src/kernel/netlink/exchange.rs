//! What belongs to one request among the datagrams of a socket, and how it ends.

use netlink_packet_core::{
    DecodeError, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NLMSG_ALIGNTO, NLMSG_DONE, NLMSG_ERROR,
    NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer, NetlinkHeader, NlasIterator, Parseable,
};
use nix::errno::Errno;

use super::NetlinkError;

/// Bytes of an error number, which opens NLMSG_ERROR (`struct nlmsgerr`) and NLMSG_DONE.
const ERROR_NUMBER: usize = size_of::<i32>();
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// `NLMSGERR_ATTR_MSG` of the kernel's `include/uapi/linux/netlink.h`: its own words, NUL-terminated.
const ATTR_MESSAGE: u16 = 1;

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its netlink header.
    pub header: NetlinkHeader,
    /// What follows the header, the family's own header included.
    pub payload: Vec<u8>,
}

/// The answers to one request.
#[derive(Debug)]
pub(super) struct Exchange {
    sequence: u32,
    answers: Vec<Answer>,
    interrupted: bool,
}

impl Exchange {
    pub(super) fn new(sequence: u32) -> Self {
        Self { sequence, answers: Vec::new(), interrupted: false }
    }

    /// Takes a datagram in, and says whether the exchange is over.
    ///
    /// Messages of other sequence numbers are passed over: they answer a request that was given up.
    pub(super) fn take(&mut self, datagram: &[u8]) -> Result<bool, NetlinkError> {
        let mut rest = datagram;
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest)?;
            let header = NetlinkHeader::parse(&message)?;
            let payload = message.payload();
            if header.sequence_number == self.sequence {
                self.interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match header.message_type {
                    NLMSG_ERROR | NLMSG_DONE => return end(&header, payload).map(|()| true),
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => return Err(NetlinkError::Malformed("data was lost".to_owned())),
                    _ => self.answers.push(Answer { header, payload: payload.to_owned() }),
                }
            }
            // The last message of a datagram may go without its padding.
            let length = (HEADER + payload.len()).next_multiple_of(usize::from(NLMSG_ALIGNTO));
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(false)
    }

    /// The answers; `None` where they are of two states of the kernel.
    pub(super) fn answers(self) -> Option<Vec<Answer>> {
        (!self.interrupted).then_some(self.answers)
    }
}

/// What the last message of an exchange says: fine, or a refusal.
fn end(header: &NetlinkHeader, payload: &[u8]) -> Result<(), NetlinkError> {
    let number = match payload.first_chunk() {
        Some(bytes) => i32::from_ne_bytes(*bytes),
        // The kernel may end a list with nothing at all.
        None if header.message_type == NLMSG_DONE => 0,
        None => return Err(NetlinkError::Malformed("an acknowledgement without an error number".to_owned())),
    };
    if number >= 0 {
        return Ok(());
    }
    let source = Errno::from_raw(number.saturating_neg());
    Err(NetlinkError::Refused { source, message: message(header, payload) })
}

/// The kernel's own words from an extended acknowledgement. One that can't be read is none: the error number stands.
fn message(header: &NetlinkHeader, payload: &[u8]) -> Option<String> {
    if header.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let attributes = payload.get(before_attributes(header, payload)?..)?;
    let found = NlasIterator::new(attributes).map_while(Result::ok).find(|nla| nla.kind() == ATTR_MESSAGE)?;
    let text = found.value().split(|byte| *byte == 0).next()?;
    (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
}

/// Where the attributes of an extended acknowledgement start.
fn before_attributes(header: &NetlinkHeader, payload: &[u8]) -> Option<usize> {
    if header.message_type == NLMSG_DONE {
        return Some(ERROR_NUMBER);
    }
    // The request's header follows the error number, and the request itself where it was not capped.
    let request = if header.flags & NLM_F_CAPPED != 0 {
        HEADER
    } else {
        let length = u32::from_ne_bytes(*payload.get(ERROR_NUMBER..)?.first_chunk()?);
        usize::try_from(length).ok()?.checked_next_multiple_of(usize::from(NLMSG_ALIGNTO))?
    };
    ERROR_NUMBER.checked_add(request)
}

impl From<DecodeError> for NetlinkError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

#[cfg(test)]
mod tests;
