//! Asking the family `vdpa`, within a bound, and what stands in for its answers where the host is a captured one.
//!
//! Removing a device that somebody has open blocks in the kernel, out of reach of signals, with the lock of all vDPA
//! requests held and that of most generic netlink families too: from then on every request blocks in `send`, before a
//! socket's timeout would count. So each exchange has a thread of its own. One that does not come back in time is left
//! behind; it ends when the device is closed, and its outcome is lost.
//!
//! A capture holds the answers to a request as one file: for each answer four bytes of its length, little-endian, then
//! its netlink payload (generic header and attributes) as the kernel gave it, in the byte order of that host.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use netlink_packet_core::DecodeError;
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use nix::errno::Errno;

use crate::host::Host;
use crate::kernel::netlink::{Netlink, NetlinkError, protocols};

use super::VdpaError;
use super::message::{FAMILY, Message};

/// A request takes some milliseconds; making a device of hardware, up to a second.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Comes and goes with the family.
const BUS: &str = "/sys/bus/vdpa";
/// Bytes of an answer's length in a capture.
const LENGTH: usize = 4;

/// Sends `message` to the kernel of this machine, which `host` is, and gives the answers' payloads. `flags` as for
/// [`Netlink::request`]; `doing` says what for, in an error.
pub(super) fn ask(host: &Host, doing: &str, flags: u16, message: Message) -> Result<Vec<Vec<u8>>, VdpaError> {
    // For a family that is not there the kernel runs modprobe, in vain: no module has that alias.
    if !host.unrecorded().exists(BUS) {
        return Err(VdpaError::NotLoaded);
    }
    let answered = within(PATIENCE, move || exchange(flags, message)).map_err(VdpaError::Thread)?;
    match answered {
        Some(Ok(answers)) => Ok(answers),
        Some(Err(Failure::NoFamily)) => Err(VdpaError::Elsewhere),
        Some(Err(Failure::Netlink(source))) => Err(VdpaError::Netlink { doing: doing.to_owned(), source }),
        None => Err(VdpaError::Stuck { doing: doing.to_owned() }),
    }
}

/// The messages that answer a request without side effects. A recording host keeps them at `file`, and a host that is
/// not real has them from there; `None` where it has none.
pub(super) fn read(
    host: &Host,
    file: &str,
    doing: &str,
    flags: u16,
    message: Message,
) -> Result<Option<Vec<Message>>, VdpaError> {
    let answers = if host.is_real() {
        let answers = ask(host, doing, flags, message)?;
        host.note_answer(file, &pack(&answers));
        answers
    } else {
        match host.read(file) {
            Ok(packed) => unpack(&packed)?,
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    };
    let messages: Result<Vec<_>, _> = answers.iter().map(|answer| Message::parse(answer)).collect();
    Ok(Some(messages?))
}

enum Failure {
    NoFamily,
    Netlink(NetlinkError),
}

impl From<NetlinkError> for Failure {
    fn from(error: NetlinkError) -> Self {
        Self::Netlink(error)
    }
}

fn exchange(flags: u16, message: Message) -> Result<Vec<Vec<u8>>, Failure> {
    let mut netlink = Netlink::open(protocols::NETLINK_GENERIC)?;
    let family = family(&mut netlink)?;
    let mut request = GenlMessage::from_payload(message);
    request.set_resolved_family_id(family);
    let answers = netlink.request_raw(flags, request)?;
    Ok(answers.into_iter().map(|answer| answer.payload).collect())
}

/// The number that the kernel gave the family when the module was loaded.
fn family(netlink: &mut Netlink) -> Result<u16, Failure> {
    let nlas = vec![GenlCtrlAttrs::FamilyName(FAMILY.to_owned())];
    let ask = GenlMessage::from_payload(GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas });
    let answers = match netlink.request(0, ask) {
        Err(error) if error.refusal() == Some(Errno::ENOENT) => return Err(Failure::NoFamily),
        answers => answers?,
    };
    let mut attributes = answers.iter().flat_map(|answer| &answer.payload.nlas);
    let id = attributes.find_map(|attribute| match attribute {
        GenlCtrlAttrs::FamilyId(id) => Some(*id),
        _ => None,
    });
    id.ok_or(Failure::NoFamily)
}

/// What `work` gives on a thread of its own; `None` where it has given nothing in time, and may go on.
fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new().name("vdpa".to_owned()).spawn(move || {
        // Nobody listens anymore once the time is over.
        let _ = sender.send(work());
    })?;
    Ok(receiver.recv_timeout(patience).ok())
}

fn pack(answers: &[Vec<u8>]) -> Vec<u8> {
    let mut packed = Vec::new();
    for answer in answers {
        // A netlink message counts its own bytes in 32 bits.
        let length = u32::try_from(answer.len()).unwrap_or(u32::MAX);
        packed.extend(length.to_le_bytes());
        packed.extend(answer);
    }
    packed
}

fn unpack(mut packed: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let short = || DecodeError::from("a captured answer is cut off");
    let mut answers = Vec::new();
    while !packed.is_empty() {
        let (length, rest) = packed.split_first_chunk::<LENGTH>().ok_or_else(short)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| short())?;
        let (answer, rest) = rest.split_at_checked(length).ok_or_else(short)?;
        answers.push(answer.to_vec());
        packed = rest;
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_come_back_is_not_waited_for() {
        let (release, held) = mpsc::channel::<()>();
        let answer = within(Duration::from_millis(10), move || held.recv().is_ok()).unwrap();
        assert_eq!(answer, None);
        drop(release);
        assert_eq!(within(PATIENCE, || 7).unwrap(), Some(7));
    }

    proptest! {
        #[test]
        fn packed_answers_come_back(answers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..5)) {
            prop_assert_eq!(unpack(&pack(&answers)).unwrap(), answers);
        }

        #[test]
        fn no_bytes_break_the_unpacking(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = unpack(&bytes);
        }
    }
}
