//! Netlink: one request and its answers at a time, or what the kernel tells everybody. What the messages mean is their
//! families' affair.
//!
//! Framing is netlink-packet-core's; the extended acknowledgement, which that crate leaves as bytes, is read in
//! `netlink/exchange.rs`. Follows the kernel's `Documentation/userspace-api/netlink/intro.rst`.

mod exchange;
mod listen;

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc::{MSG_PEEK, MSG_TRUNC};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use netlink_sys::protocols;

use crate::fault;

pub use exchange::Answer;
use exchange::Exchange;
pub use listen::{Heard, Listener};

/// For all answers to a request. The kernel does its work inside `send` and answers before that returns; what it
/// waits for there (the RTNL, most of all) is not bounded by this.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// Times that a list is asked for, when what is listed changes while it is read.
const ATTEMPTS: u32 = 8;

/// A socket to one netlink family of the kernel, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// Why a request has no answer, or no good one.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket failed.
    #[error("{doing} a netlink socket")]
    Io {
        /// Verb: open, send on, …
        doing: &'static str,
        /// What the system call said.
        source: io::Error,
    },
    /// The kernel understood, and says no.
    #[error("the kernel refuses{}", because(message.as_deref()))]
    Refused {
        /// Its error number.
        source: Errno,
        /// Its own words, where it has some (the extended acknowledgement).
        message: Option<String>,
    },
    /// An answer that is no netlink, or not of the family asked.
    #[error("the kernel's answer can't be read: {0}")]
    Malformed(String),
    /// No end of the answers.
    #[error("the kernel has not answered in full within {} s", ANSWERED_WITHIN.as_secs())]
    Timeout,
    /// Each list that was had is of two states of the kernel.
    #[error("what is listed changed while it was read, {ATTEMPTS} times in a row")]
    Unsteady,
}

impl NetlinkError {
    /// The kernel's error number, where it is the kernel that refused.
    #[must_use]
    pub fn refusal(&self) -> Option<Errno> {
        match self {
            Self::Refused { source, .. } => Some(*source),
            _ => None,
        }
    }
}

impl Netlink {
    /// Opens a socket to the family of one of [`protocols`].
    pub fn open(protocol: isize) -> Result<Self, NetlinkError> {
        let open = || {
            let socket = Socket::new(protocol)?;
            socket.set_ext_ack(true)?;
            // Without it each refusal comes with our own request in full.
            socket.set_cap_ack(true)?;
            // Connected to the kernel, port 0: what another process sends is turned away there.
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        Ok(Self { socket: open().map_err(failed("open"))?, sequence: 0 })
    }

    /// Asks, and gives the answers in their order: none where the kernel only acknowledges.
    ///
    /// `flags` are those of the netlink header, beyond NLM_F_REQUEST and NLM_F_ACK: NLM_F_DUMP for a list,
    /// NLM_F_CREATE and its like for a change.
    pub fn request<T>(&mut self, flags: u16, payload: T) -> Result<Vec<T>, NetlinkError>
    where
        T: NetlinkSerializable + NetlinkDeserializable,
    {
        let parse = |answer: Answer| {
            T::deserialize(&answer.header, &answer.payload)
                .map_err(|error| NetlinkError::Malformed(error.to_string()))
        };
        self.request_raw(flags, payload)?.into_iter().map(parse).collect()
    }

    /// [`Netlink::request`], with the answers as the bytes that they came in.
    pub fn request_raw<T>(&mut self, flags: u16, payload: T) -> Result<Vec<Answer>, NetlinkError>
    where
        T: NetlinkSerializable,
    {
        let mut request = encode(flags, payload);
        for _ in 0..ATTEMPTS {
            self.sequence = self.sequence.wrapping_add(1);
            NetlinkBuffer::new(&mut request).set_sequence_number(self.sequence);
            if let Some(answers) = self.exchange(&request)? {
                return Ok(answers);
            }
        }
        Err(NetlinkError::Unsteady)
    }

    /// One request; `None` where its answers are of two states of the kernel.
    fn exchange(&self, request: &[u8]) -> Result<Option<Vec<Answer>>, NetlinkError> {
        let deadline = Instant::now() + ANSWERED_WITHIN;
        fault::point();
        // The kernel takes a netlink message whole or not at all.
        self.socket.send(request, 0).map_err(failed("send on"))?;
        fault::point();
        let mut exchange = Exchange::new(self.sequence);
        while !exchange.take(&self.receive(deadline)?)? {}
        Ok(exchange.answers())
    }

    /// The next datagram, whatever its size.
    fn receive(&self, deadline: Instant) -> Result<Vec<u8>, NetlinkError> {
        self.wait(deadline)?;
        let mut datagram = Vec::new();
        // With MSG_TRUNC the kernel says how long it is, not how much of it was copied.
        let length = self.socket.recv(&mut datagram, MSG_PEEK | MSG_TRUNC).map_err(failed("receive on"))?;
        datagram.clear();
        datagram.reserve_exact(length);
        let received = self.socket.recv(&mut datagram, MSG_TRUNC).map_err(failed("receive on"))?;
        if received > datagram.len() {
            let cut = format!("{received} bytes came where {length} were announced");
            return Err(NetlinkError::Malformed(cut));
        }
        Ok(datagram)
    }

    /// Until there is something to receive: a signal's interruption is none.
    fn wait(&self, deadline: Instant) -> Result<(), NetlinkError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], left) {
                Ok(0) => return Err(NetlinkError::Timeout),
                // An error of the socket wakes us too; receiving tells which.
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed("wait on")(errno.into())),
            }
        }
    }
}

/// The request in bytes, all but its sequence number.
///
/// It asks for an acknowledgement, so that each exchange but a list ends by NLMSG_ERROR, whether or not there are
/// answers; a list ends by NLMSG_DONE, and the kernel sends no acknowledgement beside that (`netlink_dump_start`).
fn encode<T: NetlinkSerializable>(flags: u16, payload: T) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(payload));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> NetlinkError {
    move |source| NetlinkError::Io { doing, source }
}

fn because(message: Option<&str>) -> String {
    message.map(|message| format!(" (`{message}`)")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
