//! Telling uevents in the kernel's stead, to who listens in this network namespace: the kernel passes on, as its own, what
//! a privileged process sends it for that (`uevent_net_rcv` of `lib/kobject_uevent.c`).

use anyhow::{Context, Result, ensure};
use netlink_sys::protocols::NETLINK_KOBJECT_UEVENT;
use netlink_sys::{Socket, SocketAddr};

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `NLMSG_MIN_TYPE`: no control message.
const TYPE: u16 = 0x10;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;

/// A socket to the kernel.
#[derive(Debug)]
pub struct Uevents(Socket);

impl Uevents {
    /// Of this thread's network namespace.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_KOBJECT_UEVENT).context("open a uevent socket")?;
        socket.bind_auto().context("bind a uevent socket")?;
        Ok(Self(socket))
    }

    /// Tells what happened to a device by its folder below `/sys`.
    pub fn tell(&self, action: &str, subsystem: &str, devpath: &str) -> Result<()> {
        let text = format!("{action}@{devpath}\0ACTION={action}\0DEVPATH={devpath}\0SUBSYSTEM={subsystem}\0");
        let mut message = Vec::with_capacity(HEADER + text.len());
        message.extend_from_slice(&u32::try_from(HEADER + text.len())?.to_ne_bytes());
        message.extend_from_slice(&TYPE.to_ne_bytes());
        message.extend_from_slice(&REQUEST.to_ne_bytes());
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(text.as_bytes());
        let sent = self.0.send_to(&message, &SocketAddr::new(0, 0), 0).context("tell a uevent")?;
        ensure!(sent == message.len(), "a uevent was sent in part");
        Ok(())
    }
}
