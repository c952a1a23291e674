//! The command `keep-cni`: looks whenever the folders change, until it is told to stop.

use std::future::pending;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use doorbell_common::host::Host;
use inotify::{Inotify, WatchMask};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tracing::{info, warn};

use super::pace::Pace;
use super::{Folders, Keeping, Standing, look, take_out, uninstall};
use crate::quiet::{self, Events};

/// An installer writes in several steps.
const QUIET: Duration = Duration::from_millis(100);
/// From one look to the next where one fails or nothing can be watched, and now and then: a folder further up may have been
/// swapped.
const RETRY: Duration = Duration::from_secs(5);
const SELDOM: Duration = Duration::from_secs(60);

/// [`keep`] until SIGTERM or SIGINT.
pub async fn run(
    host: Host,
    folders: Folders,
    keeping: Keeping,
    uninstalled: impl AsyncFnOnce() -> bool,
) -> Result<()> {
    // Installed first, so that a signal during the first look is not lost.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let told = async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: closing"),
            _ = interrupt.recv() => info!("SIGINT: closing"),
        }
    };
    keep(&host, &folders, keeping, told, uninstalled).await
}

/// Keeps the entry where it belongs until `told` to stop, and leaves it there: an upgrade and a drained node end this too,
/// and pods that run then are to have their DEL. Where the plugin is `uninstalled`, which is asked at that moment, the
/// entry is taken out, and where that is wanted the binary after it.
pub async fn keep(
    host: &Host,
    folders: &Folders,
    keeping: Keeping,
    told: impl Future<Output = ()>,
    uninstalled: impl AsyncFnOnce() -> bool,
) -> Result<()> {
    let Keeping { entry, remove_binary } = keeping;
    tokio::select! {
        ended = rounds(host, folders), if entry => return ended,
        () = told => {}
    }
    if !uninstalled().await {
        return Ok(());
    }
    if remove_binary {
        uninstall(host, folders)?;
    } else {
        take_out(host, &folders.configs).context("take the CNI plugin out of the chain")?;
    }
    info!(remove_binary, "uninstalled: the CNI plugin is out of the chain");
    Ok(())
}

async fn rounds(host: &Host, folders: &Folders) -> Result<()> {
    let (mut pace, mut told) = (Pace::default(), Told::default());
    loop {
        // Armed before the look: what is written in between is an event.
        let events = arm(host, folders);
        told.tell_of_watch(events.as_ref().err());
        if host.is_removed(&folders.configs) || host.is_removed(&folders.binaries) {
            bail!(
                "a CNI folder was removed under its mount: only a container that is started anew has it again"
            );
        }
        let now = Instant::now();
        let seen = look(host, folders, &mut pace, now);
        told.tell(&seen, pace.is_contested(now));
        let late = match &seen {
            Ok((Standing::Early, _)) => pace.wait(now),
            Ok((Standing::Overtaken, _)) => QUIET,
            Ok(_) if events.is_ok() => SELDOM,
            _ => RETRY,
        };
        let changed = async {
            match events {
                Ok(events) => quiet::after_one(events, QUIET, "the CNI folders").await,
                Err(_) => pending().await,
            }
        };
        tokio::select! {
            changed = changed => changed?,
            () = sleep(late) => {}
        }
    }
}

fn arm(host: &Host, folders: &Folders) -> Result<Events> {
    let mask = WatchMask::ONLYDIR
        | WatchMask::CLOSE_WRITE
        | WatchMask::CREATE
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        // A binary that may be run from now on.
        | WatchMask::ATTRIB;
    let inotify = Inotify::init().context("watch the CNI folders")?;
    for folder in [host.path(&folders.configs), host.path(&folders.binaries)] {
        inotify.watches().add(&folder, mask).with_context(|| format!("watch {}", folder.display()))?;
    }
    quiet::events(inotify).context("read the watch on the CNI folders")
}

/// What was said: once is enough.
#[derive(Default)]
struct Told {
    standing: Option<Standing>,
    failure: Option<String>,
    unwatched: Option<String>,
    is_contested: bool,
}

impl Told {
    fn tell_of_watch(&mut self, error: Option<&anyhow::Error>) {
        let unwatched = error.map(|error| format!("{error:#}"));
        if let Some(error) = &unwatched
            && self.unwatched != unwatched
        {
            warn!(error, "the CNI folders are not watched, looking now and then");
        }
        self.unwatched = unwatched;
    }

    fn tell(&mut self, seen: &Result<(Standing, bool)>, is_contested: bool) {
        let (standing, wrote) = match seen {
            Ok(seen) => seen,
            Err(error) => {
                let failure = format!("{error:#}");
                if self.failure.as_ref() != Some(&failure) {
                    warn!(error = failure, "the CNI plugin is not seen to, trying on");
                    self.failure = Some(failure);
                }
                return;
            }
        };
        self.failure = None;
        self.is_contested &= is_contested;
        if *standing == Standing::Early && !self.is_contested {
            warn!(
                "somebody takes the CNI plugin out of the chain each time that it is put in: doing so less and less"
            );
            self.is_contested = true;
        }
        // Of a file that is changed there is more to come, and the rest was said.
        if matches!(standing, Standing::Early | Standing::Overtaken) {
            return;
        }
        if self.standing.as_ref() == Some(standing) {
            if *wrote && !self.is_contested {
                info!("the CNI plugin is in the chain again, and nowhere else");
            }
            return;
        }
        match standing {
            Standing::Chained(file) => info!(file, "the CNI plugin is in the chain"),
            Standing::ByHand(file) => {
                info!(file, "the CNI plugin is in the chain, by hand: that is left alone");
            }
            Standing::Refused(file, reason) => warn!(file, %reason, "the CNI plugin is not chained"),
            Standing::NoNetwork => info!("no network is configured, waiting for one"),
            Standing::NoBinary => warn!("the CNI binary is not there: nothing is chained until it is"),
            Standing::Early | Standing::Overtaken => {}
        }
        self.standing = Some(standing.clone());
    }
}
