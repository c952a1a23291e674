//! What only opening a device node shows: that a VF attaches, and that nobody has a node open.
//!
//! The plugin opens it by itself where it may. A container's device cgroup denies every node unless the container is
//! privileged, and the plugin's is not: then it has the prover do it, a process beside it that may. That one reads no
//! config and listens to nothing but one socket that root alone may connect to.

mod ask;
pub mod attach;
pub mod open;
mod serve;

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::time::Duration;

use doorbell_common::kernel::pci::PciAddress;
use nix::errno::Errno;

pub use serve::serve;

/// Where it listens: a folder that the two containers of a pod share.
pub const SOCKET: &str = "/run/doorbell-prover/socket";

/// A path is two dozen characters, a reason a few lines.
const LONGEST: u64 = 4096;
/// Who has connected asks at once.
const ASKS_WITHIN: Duration = Duration::from_secs(1);

/// One line to the prover. It answers with one of JSON, an [`attach::Proof`] or an [`open::Opening`].
#[derive(Debug, Clone, PartialEq, Eq)]
enum Question {
    Attach(PciAddress),
    Open(String),
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attach(address) => write!(f, "attach {address}"),
            Self::Open(node) => write!(f, "open {node}"),
        }
    }
}

impl FromStr for Question {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let no_question = || format!("{line:?} is no question");
        match line.split_once(' ').ok_or_else(no_question)? {
            ("attach", address) => {
                address.parse().map(Self::Attach).map_err(|_| format!("{address:?} is no PCI address"))
            }
            ("open", node) => Ok(Self::Open(node.to_owned())),
            _ => Err(no_question()),
        }
    }
}

/// Whether the device cgroup turned us away: a file's mode would be EACCES.
fn is_denied(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EPERM as i32)
}

fn read_line(stream: &UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.to_owned()),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}

fn write_line(mut stream: &UnixStream, line: &str) -> io::Result<()> {
    stream.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_as_it_was_asked() {
        for question in
            [Question::Attach("0000:01:00.1".parse().unwrap()), Question::Open("/dev/vfio/7".to_owned())]
        {
            assert_eq!(question.to_string().parse(), Ok(question));
        }
    }

    #[test]
    fn what_is_no_question_says_so() {
        let reason = |line: &str| line.parse::<Question>().unwrap_err();
        assert_eq!(reason("0000:01:00.1"), r#""0000:01:00.1" is no question"#);
        assert_eq!(reason("unbind 0000:01:00.1"), r#""unbind 0000:01:00.1" is no question"#);
        assert_eq!(reason("attach ../vfio/7"), r#""../vfio/7" is no PCI address"#);
    }
}
