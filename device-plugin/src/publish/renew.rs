//! Publishing anew: after each change of the inventory, and after somebody took away what had been published.
//!
//! `/run` is everybody's: a node's clean-up script, another plugin's uninstaller, a person with `rm -rf`. Until the
//! files are back nothing is handed out and no container starts, so they come back by themselves.
//!
//! Each round writes, arms watches on the folders as they stand then, and looks once more. So what is lost between the
//! writing and the arming is seen, and our own writes are not. What an event says does not matter, only what is gone.
//!
//! In a container the folders are mounts. One that was removed on the host can't be filled from here: the plugin ends,
//! and the runtime makes the folder anew when it starts the container again.

use std::collections::BTreeSet;
use std::future::pending;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use doorbell_common::error::chain;
use doorbell_common::host::Host;
use inotify::{Inotify, WatchMask};
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{all, files, has_same_files, lost};
use crate::inventory::Inventory;
use crate::quiet::{self, Events};
use crate::tasks::aside;

/// `rm -rf` is many events; one that finds a folder filled again fails.
const QUIET: Duration = Duration::from_millis(200);
/// How long after a failed write the next one is tried, if no event comes before; and how long from one look to the
/// next where nothing can be watched: others may have used up the user's inotify instances.
const RETRY: Duration = Duration::from_secs(5);
/// Made at boot and never removed; they are busy, and not watched.
const ROOTS: [&str; 2] = ["/run", "/var/run"];

/// Keeps published what the inventory lists, until `closing`. What it lists at first is published already.
///
/// A change is published here, and yet who makes it publishes first: the kubelet is told at the same moment.
pub async fn keep(
    host: Host,
    inventory: watch::Receiver<Arc<Inventory>>,
    closing: CancellationToken,
) -> Result<()> {
    closing.run_until_cancelled_owned(rounds(host, inventory)).await.unwrap_or(Ok(()))
}

async fn rounds(host: Host, mut inventory: watch::Receiver<Arc<Inventory>>) -> Result<()> {
    // Whether something else is published than is listed: what is listed at first is, and may have changed since.
    let mut behind = inventory.has_changed().unwrap_or(false);
    loop {
        let now = Arc::clone(&inventory.borrow_and_update());
        let of = Arc::clone(&now);
        let Round { failed, lacks, events } = aside(&host, move |host| round(host, &of, behind)).await?;
        behind = failed;
        let late = behind || events.is_none();
        let watched = async {
            match events {
                Some(events) => quiet::after_one(events, QUIET, "the published files").await,
                None => pending().await,
            }
        };
        tokio::select! {
            // No sender, no change: the plugin is about to close.
            Ok(()) = other_files(&mut inventory, &now) => behind = true,
            event = watched => event?,
            () = sleep(if late { RETRY } else { QUIET }), if lacks => {}
        }
    }
}

/// Returns once the inventory is one that has other files.
async fn other_files(
    inventory: &mut watch::Receiver<Arc<Inventory>>,
    published: &Inventory,
) -> Result<(), RecvError> {
    inventory.wait_for(|now| !has_same_files(published, now)).await.map(drop)
}

/// What came of one round.
struct Round {
    /// Not everything could be written.
    failed: bool,
    /// Something is to be looked at again, also if nothing is heard.
    lacks: bool,
    /// The watch, where there can be one.
    events: Option<Events>,
}

fn round(host: &Host, now: &Inventory, behind: bool) -> Result<Round> {
    let gone = lost(host, now);
    let failed = (behind || gone.is_some()) && !write(host, now, gone.filter(|_| !behind));
    let folders = folders(now);
    if let Some(folder) = folders.iter().find(|folder| host.is_removed(folder)) {
        bail!("{folder} was removed under its mount: only a container that is started anew has it again");
    }
    let events = arm(host, &folders)
        .inspect_err(|error| {
            warn!(
                error = format!("{error:#}"),
                "published files are not watched, looking at them now and then"
            );
        })
        .ok();
    let lacks = failed || events.is_none() || lost(host, now).is_some();
    Ok(Round { failed, lacks, events })
}

/// Whether everything is written; `taken` is what somebody took away.
fn write(host: &Host, now: &Inventory, taken: Option<String>) -> bool {
    match (all(host, now), taken) {
        (Ok(()), Some(first)) => info!(first, "published files were taken away: written anew"),
        (Ok(()), None) => info!("published anew"),
        (Err(error), _) => {
            warn!(error = chain(&error), "what others read of the devices is not written, trying on");
            return false;
        }
    }
    true
}

/// Watches every folder of ours, those that hold no files too: whoever moves one away takes all below it along.
fn arm(host: &Host, folders: &BTreeSet<String>) -> Result<Events> {
    let mask = WatchMask::ONLYDIR
        | WatchMask::DELETE
        | WatchMask::MOVED_FROM
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF;
    let inotify = Inotify::init().context("watch the published files")?;
    for folder in folders {
        match inotify.watches().add(host.path(folder), mask) {
            // What should be in it shows as lost.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            watched => {
                watched.with_context(|| format!("watch {folder}"))?;
            }
        }
    }
    quiet::events(inotify).context("read the watch on the published files")
}

fn folders(inventory: &Inventory) -> BTreeSet<String> {
    let mut folders = BTreeSet::new();
    for file in files(inventory) {
        let mut folder = file.as_str();
        while let Some((above, _)) = folder.rsplit_once('/').filter(|(above, _)| !ROOTS.contains(above)) {
            // What is above one that is known is known too.
            if folders.contains(above) {
                break;
            }
            folders.insert(above.to_owned());
            folder = above;
        }
    }
    folders
}
