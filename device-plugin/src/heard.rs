//! What the kernel tells everybody, as streams: uevents gathered until it is quiet, and changes of links.

use std::future::{pending, ready};
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
    gathering: Option<Gathering>,
}

/// What was gathered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gathered {
    /// What the first uevent after a quiet time touched, and what came with it: told at once, and again with all.
    First(Touched),
    /// All that was touched, now that it is quiet.
    All(Touched),
}

struct Gathering {
    touched: Touched,
    /// Whether the first of it was told.
    told: bool,
    first: Instant,
    last: Instant,
}

impl Gathering {
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
        Self { heard, ended: false, gathering: None }
    }

    /// What was touched: at once where it is the first after a quiet time, and all of it a moment after the last that the
    /// kernel said. What was gathered is kept where nobody waits for the end.
    pub async fn touched(&mut self) -> Result<Gathered> {
        loop {
            let (quiet, untold) = match &self.gathering {
                Some(gathering) => (Some(gathering.quiet_at()), !gathering.told),
                None => (None, false),
            };
            tokio::select! {
                biased;
                heard = self.heard.next(), if !self.ended => match heard {
                    Some(heard) => self.add(&heard?),
                    None => self.ended = true,
                },
                // Nothing more waits to be heard.
                () = ready(()), if untold => if let Some(first) = self.tell() { return Ok(Gathered::First(first)) },
                () = at(quiet) => return Ok(Gathered::All(self.take())),
            }
        }
    }

    /// The first of it; of everything there is no first.
    fn tell(&mut self) -> Option<Touched> {
        let gathering = self.gathering.as_mut()?;
        gathering.told = true;
        (!gathering.touched.is_everything()).then(|| gathering.touched.clone())
    }

    fn take(&mut self) -> Touched {
        self.gathering.take().map(|gathering| gathering.touched).unwrap_or_default()
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
            let gathering = self.gathering.get_or_insert(Gathering {
                touched: Touched::default(),
                told: false,
                first: now,
                last: now,
            });
            gathering.touched.and(touched);
            gathering.last = now;
        }
    }
}
