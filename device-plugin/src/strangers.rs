//! Whether a stranger has a device open: a process that no pod of ours is.
//!
//! A device that somebody else drives must not be handed out, and is not to be unbound or removed: the kernel would wait
//! for that process. Opening the node to see would reset the device. So the nodes are watched: one look through /proc at
//! the start, and another where a node has been opened or closed since. A pod's container has nodes of its own making,
//! whose opening is not seen here; it is no stranger, as its device is claimed or allocated.

use std::collections::BTreeMap;
use std::future::pending;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use doorbell_common::allocation;
use doorbell_common::claim;
use doorbell_common::host::Host;
use doorbell_common::kernel::{pci, process, vfio};
use doorbell_common::subdevice::{DeviceId, Eligible, Nodes};
use futures_util::StreamExt;
use inotify::{Inotify, WatchMask};
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::allocated;
use crate::inventory::Inventory;
use crate::prepare::Allocated;
use crate::quiet::{self, Events};
use crate::tasks::aside;

/// The CNI opens a device for a quarter of a second at most, and claims it before.
const QUIET: Duration = Duration::from_millis(300);
/// From one look to the next where a holder is known, whose end may not be seen, or where nothing can be watched.
const RETRY: Duration = Duration::from_secs(5);

/// Devices that a stranger has open, with who that is.
pub type Strangers = BTreeMap<DeviceId, String>;

/// Keeps `strangers` up to date with the inventory's devices, until `closing`.
pub async fn keep(
    host: Host,
    inventory: watch::Receiver<Arc<Inventory>>,
    strangers: watch::Sender<Strangers>,
    closing: CancellationToken,
) -> Result<()> {
    if !process::open_files_show(&host) {
        warn!(
            "who has a device open is not seen, it may be handed out: other processes are closed to us (is CAP_SYS_PTRACE missing?)"
        );
    }
    closing.run_until_cancelled_owned(rounds(host, inventory, strangers)).await.unwrap_or(Ok(()))
}

async fn rounds(
    host: Host,
    mut inventory: watch::Receiver<Arc<Inventory>>,
    strangers: watch::Sender<Strangers>,
) -> Result<()> {
    // Said when it begins, not at each look.
    let mut watched = true;
    loop {
        let now = Arc::clone(&inventory.borrow_and_update());
        let of = Arc::clone(&now);
        let looked = move |host: &Host| {
            let nodes = nodes(host, &of);
            // Armed before the look: what is opened in between is an event.
            let events = arm(host, &nodes);
            Ok((events, unclaimed(host, &nodes)))
        };
        let (events, found) = aside(&host, looked).await?;
        if let (Err(error), true) = (&events, watched) {
            warn!(error = format!("{error:#}"), "device nodes are not watched, looking at them now and then");
        }
        watched = events.is_ok();
        let found = of_no_pod(&host, found).await;
        let again = !found.is_empty() || events.is_err();
        strangers.send_if_modified(|before| {
            let changed = *before != found;
            *before = found;
            changed
        });
        let opened = async {
            match events {
                Ok(watched) => watched.by_somebody(&host).await,
                Err(_) => pending().await,
            }
        };
        tokio::select! {
            // No sender, no change: the plugin is about to close.
            Ok(()) = other_devices(&mut inventory, &now) => {}
            event = opened => {
                event?;
                sleep(QUIET).await;
            }
            () = sleep(RETRY), if again => {}
        }
    }
}

/// Returns once the inventory is one of other devices.
async fn other_devices(
    inventory: &mut watch::Receiver<Arc<Inventory>>,
    watched: &Inventory,
) -> Result<(), RecvError> {
    inventory.wait_for(|now| !now.has_same_devices(watched)).await.map(drop)
}

/// Every node by which a device of the inventory can be opened, with the device.
fn nodes(host: &Host, inventory: &Inventory) -> BTreeMap<String, DeviceId> {
    let mut nodes = BTreeMap::new();
    for device in inventory.pools.values().flat_map(|pool| pool.devices.values()) {
        let of_device = own_nodes(host, device).into_iter().map(|node| (node, device.id.clone()));
        nodes.extend(of_device);
    }
    nodes
}

/// Its own node, and for a VFIO function the one that leads to it the other way.
fn own_nodes(host: &Host, device: &Eligible) -> Vec<String> {
    let mut nodes: Vec<String> = device.nodes.own().map(str::to_owned).into_iter().collect();
    if let (Nodes::Vfio(_), Some(address)) = (&device.nodes, device.function) {
        // What can't be read is looked for by its own node alone.
        let found = vfio::own_nodes(host, &pci::folder(address), device.isolation.group);
        nodes.extend(found.unwrap_or_default());
    }
    nodes
}

/// A watch on nodes, and whose they are.
struct Watched {
    events: Events,
    /// By their watches' numbers, sorted.
    devices: Vec<(i32, DeviceId)>,
}

fn arm(host: &Host, nodes: &BTreeMap<String, DeviceId>) -> Result<Watched> {
    let inotify = Inotify::init().context("watch the device nodes")?;
    let mut devices = Vec::with_capacity(nodes.len());
    for (node, id) in nodes {
        match inotify.watches().add(host.path(node), WatchMask::OPEN | WatchMask::CLOSE) {
            // It went away: what that means is not for here.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            watched => {
                let watch = watched.with_context(|| format!("watch {node}"))?;
                devices.push((watch.get_watch_descriptor_id(), id.clone()));
            }
        }
    }
    devices.sort_unstable_by_key(|(watch, _)| *watch);
    let events = quiet::events(inotify).context("read the watch on the device nodes")?;
    Ok(Watched { events, devices })
}

impl Watched {
    /// Returns once a node was opened or closed by somebody else than the CNI, which claims a device before.
    async fn by_somebody(mut self, host: &Host) -> Result<()> {
        loop {
            let event = self.events.next().await.context("the watch on the device nodes ended")?;
            let event = event.context("read the watch on the device nodes")?;
            let watch = event.wd.get_watch_descriptor_id();
            let at = self.devices.binary_search_by_key(&watch, |(watch, _)| *watch);
            let device = at.ok().and_then(|at| self.devices.get(at));
            if device.is_none_or(|(_, id)| !claim::may_be_in_use(host, id)) {
                return Ok(());
            }
        }
    }
}

/// Devices that somebody has open who has no claim to them, with who that is.
fn unclaimed(host: &Host, nodes: &BTreeMap<String, DeviceId>) -> Strangers {
    let held = process::holders(host, |file| nodes.contains_key(file));
    let mut strangers = Strangers::new();
    for (node, holder) in held {
        if let Some(id) = nodes.get(&node)
            && !claim::may_be_in_use(host, id)
        {
            strangers.insert(id.clone(), format!("{node} is in use by {holder}, and no pod has it"));
        }
    }
    strangers
}

/// Those of them that no pod has.
async fn of_no_pod(host: &Host, mut strangers: Strangers) -> Strangers {
    if strangers.is_empty() {
        return strangers;
    }
    // A pod whose network has no `doorbell` in its chain leaves no claim; the kubelet knows of it.
    match allocated::ask(host).await {
        Allocated::To(pods) => strangers.retain(|id, _| !pods.contains_key(id.as_str())),
        // While it can't be asked, who was ever given the device may have it.
        Allocated::Unknown(_) | Allocated::Unasked => {
            strangers.retain(|id, _| matches!(allocation::read(host, id), Ok(None)));
        }
    }
    strangers
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const NODE: &str = "/dev/vhost-vdpa-0";

    fn held() -> (tempfile::TempDir, Host, BTreeMap<String, DeviceId>) {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        host.make_folder("/proc/42/fd").unwrap();
        host.replace("/proc/42/comm", b"tail\n").unwrap();
        symlink(NODE, host.path("/proc/42/fd/3")).unwrap();
        let nodes = BTreeMap::from([(NODE.to_owned(), "0000:01:00.1".parse().unwrap())]);
        (root, host, nodes)
    }

    #[tokio::test]
    async fn a_process_that_no_pod_is_is_named() {
        let (_root, host, nodes) = held();
        let strangers = of_no_pod(&host, unclaimed(&host, &nodes)).await;
        let reasons: Vec<&String> = strangers.values().collect();
        assert_eq!(reasons, ["/dev/vhost-vdpa-0 is in use by process 42 (tail), and no pod has it"]);
    }

    #[tokio::test]
    async fn who_claims_a_device_is_no_stranger() {
        let (_root, host, nodes) = held();
        let id: DeviceId = "0000:01:00.1".parse().unwrap();
        // A claim that can't be read may be anybody's.
        host.keep_as(claim::path(&id), b"{").unwrap();
        assert!(of_no_pod(&host, unclaimed(&host, &nodes)).await.is_empty());
    }
}
