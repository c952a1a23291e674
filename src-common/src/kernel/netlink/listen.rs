//! Listening to what the kernel tells everybody: a multicast group of a netlink family.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc::MSG_TRUNC;

use super::{NetlinkError, failed};

/// The longest uevent has 2048 bytes of variables (`UEVENT_BUFFER_SIZE`) after its path.
const LONGEST: usize = 8192;
/// Bytes that may wait for us while we are at something else: a thousand VFs that are made at once. More are lost,
/// which shows. The kernel gives what `net.core.rmem_max` allows, and counts what it keeps of a message besides.
const BACKLOG: usize = 4 << 20;

/// A socket to one or more groups of a family, in the network namespace of the thread that opened it. It never blocks;
/// its descriptor is readable when something waits.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A message of the kernel's, whole.
    Message(Vec<u8>),
    /// More came than could wait: some are lost, and nobody knows which.
    Lost,
}

impl Listener {
    /// Joins `groups`, a bit each, of the family of one of [`super::protocols`].
    pub fn open(protocol: isize, groups: u32) -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(protocol)?;
            socket.set_non_blocking(true)?;
            socket.set_rx_buf_sz(u32::try_from(BACKLOG).unwrap_or(u32::MAX))?;
            socket.bind(&SocketAddr::new(0, groups))?;
            Ok(socket)
        };
        Ok(Self { socket: open().map_err(failed("open"))? })
    }

    /// The next that waits; `None` when nothing does. What other processes send is passed over.
    pub fn next(&self) -> Result<Option<Heard>, NetlinkError> {
        loop {
            let mut message = Vec::with_capacity(LONGEST);
            match self.socket.recv_from(&mut message, MSG_TRUNC) {
                Ok((_, sender)) if sender.port_number() != 0 => {}
                // It did not fit, so part of it is lost.
                Ok((length, _)) if length > message.len() => return Ok(Some(Heard::Lost)),
                Ok(_) => return Ok(Some(Heard::Message(message))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_overrun(&error) => return Ok(Some(Heard::Lost)),
                Err(error) => return Err(failed("receive on")(error)),
            }
        }
    }
}

fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
