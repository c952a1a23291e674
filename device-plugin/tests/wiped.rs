//! What was published comes back by itself: after a wipe, whole or in part, and after a failed write.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use doorbell_device_plugin::inventory::Inventory;
use doorbell_device_plugin::publish::{self, renew};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use node::{GOOD, Node, Vf};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
cdi: true
pools:
- {name: fast, access: vfio, select: {pfNames: ['ens1f0#0']}}
- {name: rest, access: vfio, select: {pfNames: ['ens1f0#1']}}
- {name: none, access: vfio, select: {pfNames: ['ens1f0#7']}}
";
const FOLDERS: [&str; 3] = ["run/doorbell", "var/run/cdi", "var/run/k8s.cni.cncf.io"];
const WITHIN: Duration = Duration::from_secs(10);

/// A plugin that has published, and keeps it so.
struct Running {
    node: Node,
    published: BTreeMap<PathBuf, Vec<u8>>,
    inventory: watch::Sender<Arc<Inventory>>,
    closing: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    fn start() -> Self {
        let node = Node::with(&[GOOD, Vf { group: 8, ..GOOD }]);
        let inventory = node.inventory(CONFIG);
        publish::all(&node.host(), &inventory).unwrap();
        let published = files(&node);
        assert_eq!(published.len(), 6, "two descriptors, two specifications, two device-infos");
        let (inventory, receiver) = watch::channel(Arc::new(inventory));
        let closing = CancellationToken::new();
        let task = tokio::spawn(renew::keep(node.host(), receiver, closing.clone()));
        Self { node, published, inventory, closing, task }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.node.root.path().join(path)
    }

    /// Every file is there again as it was, and nothing else.
    async fn all_back(&self) {
        self.until(|node| files(node) == self.published).await;
    }

    async fn until(&self, reached: impl Fn(&Node) -> bool) {
        let waiting = async {
            while !reached(&self.node) {
                assert!(!self.task.is_finished(), "it keeps on");
                tokio::task::yield_now().await;
            }
        };
        let outcome = tokio::time::timeout(WITHIN, waiting).await;
        assert!(outcome.is_ok(), "{:?} are there", files(&self.node).keys());
    }

    async fn end(self) {
        self.closing.cancel();
        tokio::time::timeout(WITHIN, self.task).await.unwrap().unwrap().unwrap();
    }
}

fn files(node: &Node) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in FOLDERS {
        collect(&node.root.path().join(folder), &mut found);
    }
    found
}

/// A file that goes while it is looked at is one that is not there.
fn collect(path: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    if let Ok(content) = fs::read(path) {
        found.insert(path.to_owned(), content);
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        collect(&entry.path(), found);
    }
}

#[tokio::test]
async fn what_was_published_comes_back_after_every_folder_was_wiped() {
    let running = Running::start();
    // Twice: the watches have to be on the new folders.
    for _ in 0..2 {
        for folder in FOLDERS {
            fs::remove_dir_all(running.path(folder)).unwrap();
        }
        running.all_back().await;
    }
    running.end().await;
}

#[tokio::test]
async fn a_single_file_comes_back() {
    let running = Running::start();
    for file in running.published.keys() {
        fs::remove_file(file).unwrap();
        running.all_back().await;
    }
    running.end().await;
}

#[tokio::test]
async fn a_folder_that_was_moved_away_with_its_files_is_made_anew() {
    let running = Running::start();
    fs::rename(running.path("run/doorbell"), running.path("run/aside")).unwrap();
    running.all_back().await;
    assert!(
        running.path("run/aside/devices/0000:01:00.1/device.json").exists(),
        "what was moved is left alone"
    );
    running.end().await;
}

#[tokio::test]
async fn files_that_are_not_ours_stay_away() {
    let running = Running::start();
    let attachment = running.path("run/doorbell/devices/0000:01:00.1/attachment.json");
    fs::write(&attachment, b"{}").unwrap();
    fs::remove_file(&attachment).unwrap();
    fs::remove_file(running.path("var/run/cdi/doorbell-fast.json")).unwrap();
    running.all_back().await;
    running.end().await;
}

#[tokio::test]
async fn what_could_not_be_written_is_tried_again() {
    let running = Running::start();
    let (cdi, described) =
        (running.path("var/run/cdi"), running.path("run/doorbell/devices/0000:01:00.1/device.json"));
    // A file in the place of the folder: descriptors can be written, specifications can't.
    fs::remove_dir_all(&cdi).unwrap();
    fs::write(&cdi, b"").unwrap();
    fs::remove_file(&described).unwrap();
    running.until(|_| described.exists()).await;
    fs::remove_file(&cdi).unwrap();
    // Any event brings the next try forward.
    fs::remove_file(&described).unwrap();
    running.all_back().await;
    running.end().await;
}

#[tokio::test]
async fn a_folder_that_was_removed_under_its_mount_ends_the_plugin() {
    let running = Running::start();
    // A file descriptor holds on to a removed folder as a mount does.
    let (cdi, on_the_host) = (running.path("var/run/cdi"), running.path("cdi"));
    fs::create_dir(&on_the_host).unwrap();
    let mount = fs::File::open(&on_the_host).unwrap();
    fs::remove_dir(&on_the_host).unwrap();
    fs::remove_dir_all(&cdi).unwrap();
    symlink(format!("/proc/self/fd/{}", mount.as_raw_fd()), &cdi).unwrap();
    let ended = tokio::time::timeout(WITHIN, running.task).await.unwrap().unwrap();
    assert!(ended.unwrap_err().to_string().starts_with("/var/run/cdi was removed under its mount"));
}

#[tokio::test]
async fn a_changed_inventory_is_published() {
    let running = Running::start();
    let mut without = Inventory::clone(&running.inventory.borrow());
    without.pools.get_mut(&"rest".parse().unwrap()).unwrap().devices = Arc::default();
    let whole = running.inventory.send_replace(Arc::new(without));
    running.until(|node| files(node).len() == 3).await;
    running.inventory.send_replace(whole);
    running.all_back().await;
    running.end().await;
}

#[tokio::test]
async fn a_wipe_while_the_plugin_closes_does_not_hold_it_up() {
    let running = Running::start();
    fs::remove_dir_all(running.path("run/doorbell/devices")).unwrap();
    // Whether it has seen the first event by now, and waits for the last, or not.
    tokio::task::yield_now().await;
    running.end().await;
}
