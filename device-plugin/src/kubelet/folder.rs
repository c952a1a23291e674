//! The kubelet's folder: when a kubelet is there anew, and when the folder is.
//!
//! A kubelet that starts deletes all sockets in its folder, ours too, and then makes `kubelet.sock` anew. A watch that is
//! armed before the first registration turns each new `kubelet.sock` into a new generation. The folder itself may be
//! removed and made anew, by whoever resets a node: its inode tells, and then everything starts over in the new one.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use doorbell_common::host::Host;
use doorbell_common::kubelet::deviceplugin::{FOLDER, KUBELET_SOCKET};
use futures_util::StreamExt;
use inotify::{EventMask, EventOwned, Inotify, WatchMask};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::quiet::{self, Events};

/// From what is deleted in the folder, or beside it, to the look whether it is the folder itself that went.
const QUIET: Duration = Duration::from_millis(200);
/// From one such look to the next: a folder whose sockets are bound does not say that it is gone.
const SELDOM: Duration = Duration::from_secs(5);

/// A watch on the folder as it stands.
pub(super) struct Watched {
    events: Events,
    inode: Option<u64>,
}

impl Watched {
    /// Makes the folder where there is none, and watches it.
    pub(super) fn arm(host: &Host) -> Result<Self> {
        host.make_folder(FOLDER)?;
        if host.is_removed(FOLDER) {
            bail!("{FOLDER} was removed under its mount: only a container that is started anew has it again");
        }
        let folder = host.path(FOLDER);
        let inode = inode(&folder);
        let arm = || {
            let inotify = Inotify::init()?;
            let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::DELETE | WatchMask::MOVE_SELF;
            inotify.watches().add(&folder, mask)?;
            quiet::events(inotify)
        };
        let events: io::Result<_> = arm();
        Ok(Self { events: events.with_context(|| format!("watch {}", folder.display()))?, inode })
    }
}

fn inode(folder: &Path) -> Option<u64> {
    std::fs::metadata(folder).ok().filter(|folder| folder.nlink() > 0).map(|folder| folder.ino())
}

/// Counts kubelets, and folders, that are there anew.
pub(super) async fn keep(
    host: Host,
    watched: Watched,
    generation: watch::Sender<u64>,
    closing: CancellationToken,
) -> Result<()> {
    closing.run_until_cancelled_owned(rounds(host, watched, generation)).await.unwrap_or(Ok(()))
}

async fn rounds(host: Host, mut watched: Watched, generation: watch::Sender<u64>) -> Result<()> {
    let mut look = SELDOM;
    loop {
        tokio::select! {
            event = watched.events.next() => {
                let event = event.context("the watch on the kubelet's folder ended")?;
                let event = event.context("read the watch on the kubelet's folder")?;
                if is_new_kubelet(&event) {
                    generation.send_modify(|generation| *generation += 1);
                } else if !event.mask.intersects(EventMask::CREATE | EventMask::MOVED_TO) {
                    look = QUIET;
                }
            }
            () = sleep(look) => {
                look = SELDOM;
                if inode(&host.path(FOLDER)) != watched.inode {
                    info!(folder = FOLDER, "the kubelet's folder is another: starting over in it");
                    watched = Watched::arm(&host)?;
                    generation.send_modify(|generation| *generation += 1);
                }
            }
        }
    }
}

/// Where events were lost, one of them may have been it.
fn is_new_kubelet(event: &EventOwned) -> bool {
    let made = event.mask.intersects(EventMask::CREATE | EventMask::MOVED_TO);
    event.mask.contains(EventMask::Q_OVERFLOW)
        || made && event.name.as_deref() == Some(OsStr::new(KUBELET_SOCKET))
}
