//! An eventfd that a thread of ours waits for: a kick that somebody else acts on, as the worker of a VMM or of vhost does.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EventFd};

/// Added to the count at the end: more than anybody kicks between two looks at it.
const END: u64 = 1 << 32;

/// The thread, and what it waits for. Dropped, it ends after what it was kicked for is done.
#[derive(Debug)]
pub(crate) struct Relay {
    kick: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts the thread. `ready` runs in it, and gives what is to be done each time that it wakes up: once, however
    /// many kicks came meanwhile.
    pub(crate) fn start<F: FnMut()>(ready: impl FnOnce() -> Result<F> + Send + 'static) -> Result<Self> {
        let kick = EventFd::new(EFD_CLOEXEC).context("make an eventfd")?;
        let waited = kick.try_clone().context("duplicate an eventfd")?;
        let (told, hears) = mpsc::channel();
        let thread = thread::spawn(move || {
            let (act, said) = match ready() {
                Ok(act) => (Some(act), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // Who started us waits for this.
            let _ = told.send(said);
            if let Some(act) = act {
                wait(&waited, act);
            }
        });
        hears.recv().context("a thread that was just started is gone")??;
        Ok(Self { kick, thread: Some(thread) })
    }

    /// Kicks: a write of eight bytes.
    pub(crate) fn kick(&self) -> std::io::Result<()> {
        self.kick.write(1)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // A count that takes no more has been left unread, by a thread that is gone.
        if self.kick.write(END).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn wait(kick: &EventFd, mut act: impl FnMut()) {
    // It blocks, and nothing is left to do where it can't be read.
    while let Ok(count) = kick.read() {
        if !count.is_multiple_of(END) {
            act();
        }
        if count >= END {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use anyhow::bail;

    use super::*;

    #[test]
    fn a_kick_is_acted_on_and_the_end_is_none() {
        let acted = Arc::new(AtomicU32::new(0));
        let start = || {
            let acted = Arc::clone(&acted);
            Relay::start(move || {
                Ok(move || {
                    acted.fetch_add(1, Ordering::Relaxed);
                })
            })
        };
        drop(start().unwrap());
        assert_eq!(acted.load(Ordering::Relaxed), 0);
        let relay = start().unwrap();
        relay.kick().unwrap();
        drop(relay);
        assert_eq!(acted.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_thread_that_does_not_get_ready_says_why() {
        let relay = Relay::start(|| {
            if true {
                bail!("no page");
            }
            Ok(|| ())
        });
        assert_eq!(relay.unwrap_err().to_string(), "no page");
    }
}
