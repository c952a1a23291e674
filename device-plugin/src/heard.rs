//! What the kernel tells everybody, as streams: uevents gathered until it is quiet, and changes of links.

use std::future::pending;
use std::time::Duration;

use anyhow::{Context, Result};
use doorbell_common::kernel::netlink::{Heard, Listener, NetlinkError};
use doorbell_common::kernel::uevent::Uevent;
use futures_util::{Stream, StreamExt, stream};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use crate::discovery::Touched;

/// One change is many uevents: a bind is four, and the node under `/dev` comes by the last.
const QUIET: Duration = Duration::from_millis(50);
/// Where it does not get quiet, what was heard so far is looked at all the same.
const QUIET_WITHIN: Duration = Duration::from_millis(500);

/// What is heard, one after the other; after an error, no more.
#[expect(
    deprecated,
    reason = "its successor is unsafe: any type could give any descriptor; ours gives that of the socket it owns"
)]
pub fn stream(listener: Listener) -> Result<impl Stream<Item = Result<Heard>> + Send + Unpin> {
    let listener = AsyncFd::new(listener).context("wait for netlink messages")?;
    Ok(Box::pin(stream::try_unfold(listener, |listener| async {
        let heard = next(&listener).await?;
        Ok(Some((heard, listener)))
    })))
}

async fn next(listener: &AsyncFd<Listener>) -> Result<Heard> {
    loop {
        let mut ready = listener.readable().await.context("wait for netlink messages")?;
        match listener.get_ref().next().map_err(|error: NetlinkError| anyhow::Error::from(error))? {
            Some(heard) => return Ok(heard),
            None => ready.clear_ready(),
        }
    }
}

/// Uevents, gathered.
pub struct Uevents<S> {
    heard: S,
    ended: bool,
    gathered: Option<Gathered>,
}

struct Gathered {
    touched: Touched,
    first: Instant,
    last: Instant,
}

impl Gathered {
    fn quiet_at(&self) -> Instant {
        (self.last + QUIET).min(self.first + QUIET_WITHIN)
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

impl<S: Stream<Item = Result<Heard>> + Unpin> Uevents<S> {
    /// Gathers from a stream. One that has ended tells nothing more.
    pub fn of(heard: S) -> Self {
        Self { heard, ended: false, gathered: None }
    }

    /// What was touched, a moment after the last that the kernel said of it. What was gathered is kept where nobody
    /// waits for the end.
    pub async fn touched(&mut self) -> Result<Touched> {
        loop {
            let quiet = self.gathered.as_ref().map(Gathered::quiet_at);
            tokio::select! {
                biased;
                heard = self.heard.next(), if !self.ended => match heard {
                    Some(heard) => self.add(&heard?),
                    None => self.ended = true,
                },
                () = at(quiet) => return Ok(self.take()),
            }
        }
    }

    fn take(&mut self) -> Touched {
        self.gathered.take().map(|gathered| gathered.touched).unwrap_or_default()
    }

    fn add(&mut self, heard: &Heard) {
        let now = Instant::now();
        let mut touched = Touched::default();
        let concerns = match heard {
            Heard::Message(message) => Uevent::parse(message).is_some_and(|uevent| touched.add(&uevent)),
            Heard::Lost => {
                touched = Touched::everything();
                true
            }
        };
        if concerns {
            let gathered =
                self.gathered.get_or_insert(Gathered { touched: Touched::default(), first: now, last: now });
            gathered.touched.and(touched);
            gathered.last = now;
        }
    }
}
