//! The config file, read again when it changes. A file that is wrong changes nothing: the config before stays in force.
//!
//! Kubernetes mounts a ConfigMap as links: `config.yaml` → `..data/config.yaml`, and `..data` to a folder that is another
//! at each change, swapped by a rename. So it is the folders that are watched, that of the name and that of the file.

use std::collections::BTreeSet;
use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use doorbell_common::error::chain;
use inotify::{Inotify, WatchMask};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Config, Loaded};
use crate::metrics::Counts;
use crate::quiet::{self, Events};

/// An editor writes in several steps.
const QUIET: Duration = Duration::from_millis(100);
/// From one look to the next where nothing can be watched, and now and then: a folder further up may have been swapped.
const RETRY: Duration = Duration::from_secs(5);
const SELDOM: Duration = Duration::from_secs(60);

/// Keeps `config` as the file has it, until `closing`.
pub async fn keep(
    file: PathBuf,
    config: watch::Sender<Arc<Config>>,
    counts: Counts,
    closing: CancellationToken,
) -> Result<()> {
    closing.run_until_cancelled_owned(rounds(file, config, counts)).await.unwrap_or(Ok(()))
}

async fn rounds(file: PathBuf, config: watch::Sender<Arc<Config>>, counts: Counts) -> Result<()> {
    let mut told = None;
    loop {
        // Armed before the file is read: what is written in between is an event.
        let events = arm(&file).inspect_err(|error| {
            warn!(error = format!("{error:#}"), "the config is not watched, reading it now and then");
        });
        read(&file, &config, &counts, &mut told);
        let late = if events.is_ok() { SELDOM } else { RETRY };
        let changed = async {
            match events {
                Ok(events) => quiet::after_one(events, QUIET, "the config").await,
                Err(_) => pending().await,
            }
        };
        tokio::select! {
            changed = changed => changed?,
            () = sleep(late) => {}
        }
    }
}

/// Takes the file's config over if it is another. `told` is what was said of a wrong one: once is enough.
fn read(file: &Path, config: &watch::Sender<Arc<Config>>, counts: &Counts, told: &mut Option<String>) {
    match Config::load(file) {
        Ok(Loaded { config: read, notes }) => {
            *told = None;
            counts.usable();
            config.send_if_modified(|now| {
                let other = **now != read;
                if other {
                    for note in &notes {
                        warn!("{}:{note}", file.display());
                    }
                    info!(file = %file.display(), pools = read.pools.len(), "another config is in force");
                    counts.applied();
                    *now = Arc::new(read);
                }
                other
            });
        }
        Err(error) => {
            let reason = chain(&error);
            if told.as_ref() != Some(&reason) {
                warn!(reason, "the config is not usable: the one before stays in force");
                counts.refused();
                *told = Some(reason);
            }
        }
    }
}

fn arm(file: &Path) -> Result<Events> {
    let mask = WatchMask::CLOSE_WRITE
        | WatchMask::CREATE
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::DELETE
        | WatchMask::ONLYDIR;
    let inotify = Inotify::init().context("watch the config")?;
    for folder in folders(file) {
        inotify.watches().add(&folder, mask).with_context(|| format!("watch {}", folder.display()))?;
    }
    quiet::events(inotify).context("read the watch on the config")
}

/// The folder in which the file's name is, and that in which the file is that it leads to.
fn folders(file: &Path) -> BTreeSet<PathBuf> {
    let of = |path: &Path| match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let target = fs::canonicalize(file);
    [Some(of(file)), target.ok().as_deref().map(of)].into_iter().flatten().collect()
}
