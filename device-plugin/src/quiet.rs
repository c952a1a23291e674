//! Waiting until a folder is quiet again: one change by a person or a program is many events.

use std::io;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use inotify::{EventStream, Inotify};
use tokio::time::timeout;

/// Events of inotify, read by buffers of [`BUFFER`] bytes.
pub type Events = EventStream<Vec<u8>>;

/// Some dozens of events.
const BUFFER: usize = 4096;

/// Where it does not get quiet.
const WITHIN: Duration = Duration::from_secs(2);

/// What a watch tells. Its buffer lies beside it: within, each future that has it would be many times as large.
pub fn events(inotify: Inotify) -> io::Result<Events> {
    inotify.into_event_stream(vec![0; BUFFER])
}

/// Returns `quiet` after the last event, or a while after the first, and never without one. `what` is watched.
pub async fn after_one(mut events: Events, quiet: Duration, what: &str) -> Result<()> {
    next(&mut events, what).await?;
    let more = async {
        while let Ok(event) = timeout(quiet, next(&mut events, what)).await {
            event?;
        }
        Ok(())
    };
    timeout(WITHIN, more).await.unwrap_or(Ok(()))
}

async fn next(events: &mut Events, what: &str) -> Result<()> {
    let event = events.next().await.with_context(|| format!("the watch on {what} ended"))?;
    event.with_context(|| format!("read the watch on {what}")).map(drop)
}
