//! When to end: one flag that signals and the end of stdin raise, and a bound in time.
//!
//! The signals are blocked and waited for in a thread of their own. That needs no handler, and works for PID 1 of a
//! container too, where a signal that is neither handled nor blocked is dropped.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};

/// The end, as it comes.
#[derive(Debug)]
pub(crate) struct Stop {
    raised: Arc<AtomicBool>,
    bound: Option<Instant>,
}

impl Stop {
    /// Waits for SIGTERM and SIGINT from here on, and for the bound. Called once, before other threads are.
    pub(crate) fn arm(bound: Option<Duration>) -> Result<Self> {
        let raised = Arc::new(AtomicBool::new(false));
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
        signals.thread_block().context("block SIGTERM and SIGINT")?;
        raise_after(&raised, move || {
            // A wait that fails leaves the bound; the signals stay blocked.
            signals.wait().is_ok()
        });
        Ok(Self { raised, bound: bound.map(|bound| Instant::now() + bound) })
    }

    /// Ends at the end of stdin too, if that is a pipe that still has a writer. A container that was given no stdin
    /// has /dev/null, or a pipe at its end already, and is not to end at once.
    pub(crate) fn watch_stdin(&self) -> Result<()> {
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned().context("duplicate stdin")?);
        if open_pipe(&stdin)? {
            raise_after(&self.raised, move || {
                // Its end and its failure are the same to us.
                let _ = io::copy(&mut &stdin, &mut io::sink());
                true
            });
        }
        Ok(())
    }

    /// Whether it is time.
    pub(crate) fn now(&self) -> bool {
        self.raised.load(Ordering::Relaxed) || self.bound.is_some_and(|bound| Instant::now() >= bound)
    }
}

/// Whether a file is a pipe with a writer, or with something left in it.
fn open_pipe(file: &File) -> Result<bool> {
    if !file.metadata().context("ask what stdin is")?.file_type().is_fifo() {
        return Ok(false);
    }
    let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).context("poll stdin")?;
    Ok(polled[0].revents() != Some(PollFlags::POLLHUP))
}

/// Raises the flag if `wait`, in a thread that ends with the process, says so.
fn raise_after(raised: &Arc<AtomicBool>, wait: impl FnOnce() -> bool + Send + 'static) {
    let raised = Arc::clone(raised);
    thread::spawn(move || {
        if wait() {
            raised.store(true, Ordering::Relaxed);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    #[test]
    fn only_a_pipe_with_a_writer_can_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let pipe = File::from(OwnedFd::from(reader));
        assert!(open_pipe(&pipe).unwrap());
        writer.write_all(b"left").unwrap();
        drop(writer);
        assert!(open_pipe(&pipe).unwrap(), "what is left is read to its end");
        io::copy(&mut &pipe, &mut io::sink()).unwrap();
        assert!(!open_pipe(&pipe).unwrap());
        assert!(!open_pipe(&File::open("/dev/null").unwrap()).unwrap());
    }
}
