//! Keeping the inventory true: one task looks again when something changed, and everybody else reads what it sends.
//!
//! Looked at is what the kernel says was touched; everything, where it does not say, where uevents were lost, and now and
//! then. What is to be known besides of devices (who has one open, which links are up) is laid over the look.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::kernel::netlink::Heard;
use doorbell_common::subdevice::Kind;
use futures_util::Stream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::config::Config;
use crate::discovery::Touched;
use crate::heard::{Gathered, Uevents};
use crate::inventory::{Inventory, news};
use crate::links::{self, Links};
use crate::look::{Cause, Seen};
use crate::metrics::Counts;
use crate::publish;
use crate::strangers::Strangers;

/// From one look at everything to the next. What has no uevent shows then: a module's parameter, a device's own state.
const RESYNC: Duration = Duration::from_secs(60);
/// After a look that failed.
const RETRY: Duration = Duration::from_secs(5);

/// What the inventory is made of.
pub struct Live<S> {
    /// The host.
    pub host: Host,
    /// Bytes of a page of memory on this host.
    pub page: u64,
    /// The last look.
    pub seen: Seen,
    /// What the kernel says.
    pub uevents: Uevents<S>,
    /// The config, as its file has it.
    pub configs: watch::Receiver<Arc<Config>>,
    /// Who has devices open.
    pub strangers: watch::Receiver<Strangers>,
    /// Links of PFs.
    pub links: Links,
    /// Where looks are counted.
    pub counts: Counts,
}

impl<S: Stream<Item = Result<Heard>> + Unpin> Live<S> {
    /// Keeps the inventory true until `closing`.
    pub async fn keep(
        self,
        inventory: watch::Sender<Arc<Inventory>>,
        closing: CancellationToken,
    ) -> Result<()> {
        closing.run_until_cancelled_owned(self.rounds(inventory)).await.unwrap_or(Ok(()))
    }

    async fn rounds(mut self, inventory: watch::Sender<Arc<Inventory>>) -> Result<()> {
        let mut failed = None;
        let mut resync = Instant::now() + RESYNC;
        loop {
            let cause = tokio::select! {
                heard = self.uevents.touched() => match heard? {
                    Gathered::First(touched) => {
                        self.glance(touched).await;
                        None
                    }
                    Gathered::All(touched) => Some(Cause::Touched(touched)),
                },
                // No sender, no change: the plugin is about to close.
                Ok(()) = self.configs.changed() => Some(Cause::Config(Arc::clone(&self.configs.borrow_and_update()))),
                () = sleep_until(resync) => Some(Cause::Resync),
                Ok(()) = self.strangers.changed() => None,
                changed = self.links.changed() => {
                    changed?;
                    None
                }
            };
            if let Some(cause) = cause {
                let cause = cause.with(failed.take());
                let next = self.seen.next(&self.host, &cause, self.page).await;
                self.counts.rescanned(!matches!(cause, Cause::Touched(_)), next.is_ok());
                debug!(?cause, done = next.is_ok(), "looked at the host");
                match next {
                    Ok(seen) => {
                        self.seen = seen;
                        self.links.follow(self.seen.config());
                        if !matches!(cause, Cause::Touched(_)) {
                            resync = Instant::now() + RESYNC;
                        }
                    }
                    Err(error) => {
                        warn!(error = format!("{error:#}"), "the host was not looked at, trying on");
                        failed = Some(cause);
                        resync = Instant::now() + RETRY;
                    }
                }
            }
            self.send(&inventory);
        }
    }

    /// What fails is looked at again in a moment.
    async fn glance(&mut self, touched: Touched) {
        if let Err(error) = self.seen.glance(&self.host, touched, self.page).await {
            debug!(error = format!("{error:#}"), "no glance at the host");
        }
    }

    /// The inventory of all that is known.
    pub fn inventory(&mut self) -> Inventory {
        let mut now = Inventory::clone(&self.seen.inventory);
        let down = links::down(&self.host, self.seen.config(), &now);
        now.mark(Kind::Link, &down);
        now.mark(Kind::Stranger, &self.strangers.borrow_and_update());
        now
    }

    fn send(&mut self, inventory: &watch::Sender<Arc<Inventory>>) {
        let now = self.inventory();
        let before = Arc::clone(&inventory.borrow());
        if *before == now {
            return;
        }
        news::tell(Some(&before), &now);
        // What others read comes before the kubelet is told; what fails here is written anew beside it, and nothing
        // that lacks its files is handed out.
        if let Err(error) = publish::news(&self.host, &before, &now) {
            warn!(error = chain(&error), "what others read of the devices is not written yet");
        }
        inventory.send_replace(Arc::new(now));
    }
}
