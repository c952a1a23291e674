//! The running plugin: what happens to devices and to the config is told to the kubelet, and nothing else is.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use doorbell_common::kernel::netlink::Heard;
use doorbell_common::kubelet::deviceplugin::device_plugin_client::DevicePluginClient;
use doorbell_common::kubelet::deviceplugin::{Empty, ListAndWatchResponse};
use doorbell_common::subdevice::DeviceId;
use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::run;
use futures_util::StreamExt;
use node::{GOOD, Node, PAGE, PF, Vf};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Endpoint;

const WITHIN: Duration = Duration::from_secs(20);
/// Longer than it takes to say what is to be said.
const SILENT_FOR: Duration = Duration::from_millis(700);
const HEAD: &str = "apiVersion: doorbell.dev/v1\npools:\n";
const FAST: &str = "- {name: fast, access: vfio, select: {pfNames: ['ens1f0#0-1']}}\n";
const REST: &str = "- {name: rest, access: vfio, select: {pfNames: ['ens1f0#2']}}\n";
const VFS: [&str; 3] = ["0000:01:00.1", "0000:01:00.2", "0000:01:00.3"];

/// A plugin that runs on a node of files.
struct Running {
    node: Node,
    uevents: UnboundedSender<Heard>,
    closing: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

/// What the kubelet is told of one pool.
struct Lists(Streaming<ListAndWatchResponse>);

/// Health by id.
type List = BTreeMap<String, String>;

fn list(devices: &[(&str, &str)]) -> List {
    devices.iter().map(|(id, health)| ((*id).to_owned(), (*health).to_owned())).collect()
}

impl Running {
    fn start(pools: &[&str]) -> Self {
        Self::on(Node::with(&[GOOD, Vf { group: 8, ..GOOD }, Vf { group: 9, ..GOOD }]), pools)
    }

    /// The config is a ConfigMap's: a link to a file below a link that is swapped.
    fn on(node: Node, pools: &[&str]) -> Self {
        let (uevents, heard) = unbounded_channel();
        let closing = CancellationToken::new();
        config(&node, "1", pools);
        symlink("..data/config.yaml", node.at("etc/doorbell/config.yaml")).unwrap();
        let file: PathBuf = node.at("etc/doorbell/config.yaml");
        let config = Config::load(&file).unwrap();
        let heard = UnboundedReceiverStream::new(heard).map(Ok).boxed();
        let task = tokio::spawn(run::serve(node.host(), file, config, PAGE, heard, closing.clone()));
        Self { node, uevents, closing, task }
    }

    async fn lists(&self, pool: &str) -> Lists {
        let socket = self.node.at(&format!("var/lib/kubelet/device-plugins/doorbell-{pool}.sock"));
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        let dialling = async {
            loop {
                if let Ok(channel) = endpoint.connect().await {
                    return DevicePluginClient::new(channel);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let mut client = timeout(WITHIN, dialling).await.unwrap();
        Lists(client.list_and_watch(Empty {}).await.unwrap().into_inner())
    }

    /// The kernel says it of a function.
    fn says(&self, action: &str, subsystem: &str, below: &str) {
        let path = format!("/devices/pci0000:00/{below}");
        let message = format!("{action}@{path}\0ACTION={action}\0DEVPATH={path}\0SUBSYSTEM={subsystem}\0");
        self.uevents.send(Heard::Message(message.into_bytes())).unwrap();
    }

    /// Takes a VF off VFIO, without a word.
    fn unbinds(&self, vf: usize) {
        fs::remove_file(self.node.at(&format!("sys/bus/pci/devices/{}/driver", VFS[vf]))).unwrap();
        fs::rename(self.node.at(&vfio_dev(vf)), self.node.at("vfio-dev")).unwrap();
    }

    fn binds(&self, vf: usize) {
        let driver = self.node.at(&format!("sys/bus/pci/devices/{}/driver", VFS[vf]));
        symlink("../../drivers/vfio-pci", driver).unwrap();
        fs::rename(self.node.at("vfio-dev"), self.node.at(&vfio_dev(vf))).unwrap();
    }

    async fn ends(self) {
        self.closing.cancel();
        timeout(WITHIN, self.task).await.unwrap().unwrap().unwrap();
    }
}

fn vfio_dev(vf: usize) -> String {
    format!("sys/bus/pci/devices/{}/vfio-dev", VFS[vf])
}

/// Writes another version of the ConfigMap, and swaps the link as the kubelet does.
fn config(node: &Node, version: &str, pools: &[&str]) {
    let text = format!("{HEAD}{}", pools.concat());
    node.write(&format!("etc/doorbell/..{version}/config.yaml"), text.as_bytes());
    symlink(format!("..{version}"), node.at("etc/doorbell/..data_tmp")).unwrap();
    fs::rename(node.at("etc/doorbell/..data_tmp"), node.at("etc/doorbell/..data")).unwrap();
}

impl Lists {
    async fn next(&mut self) -> Option<List> {
        let message = timeout(WITHIN, self.0.message()).await.unwrap().unwrap()?;
        Some(message.devices.into_iter().map(|device| (device.id, device.health)).collect())
    }

    async fn says_nothing(&mut self) {
        let said = timeout(SILENT_FOR, self.0.message()).await;
        assert!(said.is_err(), "{said:?}");
    }
}

const HEALTHY: &str = "Healthy";
const UNHEALTHY: &str = "Unhealthy";

#[tokio::test]
async fn a_vf_that_goes_leaves_the_list_and_one_that_comes_is_in_it() {
    let running = Running::start(&[FAST, REST]);
    let (mut fast, mut rest) = (running.lists("fast").await, running.lists("rest").await);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], HEALTHY)])));
    assert_eq!(rest.next().await, Some(list(&[(VFS[2], HEALTHY)])));

    let link = running.node.at(&format!("sys/bus/pci/devices/{PF}/virtfn1"));
    let (folder, away) =
        (running.node.at(&format!("sys/bus/pci/devices/{}", VFS[1])), running.node.at("away"));
    fs::remove_file(&link).unwrap();
    fs::rename(&folder, &away).unwrap();
    running.says("remove", "pci", VFS[1]);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY)])));

    fs::rename(&away, &folder).unwrap();
    symlink(format!("../{}", VFS[1]), &link).unwrap();
    running.says("add", "pci", VFS[1]);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], HEALTHY)])));
    rest.says_nothing().await;
    running.ends().await;
}

#[tokio::test]
async fn a_vf_that_is_taken_off_its_driver_is_unhealthy_until_it_is_back() {
    let running = Running::start(&[FAST]);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    running.unbinds(0);
    running.says("unbind", "pci", VFS[0]);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], UNHEALTHY), (VFS[1], HEALTHY)])));
    // Its descriptor stays: a container may have it.
    let id: DeviceId = VFS[0].parse().unwrap();
    assert!(running.node.at(&format!("run/doorbell/devices/{id}/device.json")).exists());
    running.binds(0);
    running.says("bind", "pci", VFS[0]);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], HEALTHY)])));
    running.ends().await;
}

#[tokio::test]
async fn who_joins_a_group_makes_its_members_unhealthy() {
    let running = Running::start(&[FAST]);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    let stranger = "0000:01:00.7";
    running.node.write(&format!("sys/bus/pci/devices/{stranger}/class"), b"0x020000\n");
    fs::create_dir_all(running.node.at(&format!("sys/kernel/iommu_groups/8/devices/{stranger}"))).unwrap();
    let group = running.node.at(&format!("sys/bus/pci/devices/{stranger}/iommu_group"));
    symlink("../../../../kernel/iommu_groups/8", group).unwrap();
    running.says("add", "pci", stranger);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], UNHEALTHY)])));
    running.ends().await;
}

#[tokio::test]
async fn where_uevents_were_lost_everything_is_looked_at() {
    let running = Running::start(&[FAST, REST]);
    let mut rest = running.lists("rest").await;
    rest.next().await;
    running.unbinds(2);
    rest.says_nothing().await;
    running.uevents.send(Heard::Lost).unwrap();
    assert_eq!(rest.next().await, Some(list(&[(VFS[2], UNHEALTHY)])));
    running.ends().await;
}

#[tokio::test]
async fn a_config_is_swapped_and_pools_that_stay_are_not_touched() {
    let running = Running::start(&[FAST, REST]);
    let (mut fast, mut rest) = (running.lists("fast").await, running.lists("rest").await);
    fast.next().await;
    rest.next().await;

    let other = "- {name: other, access: vfio, select: {pfNames: ['ens1f0#2']}}\n";
    config(&running.node, "2", &[FAST, other]);
    assert_eq!(rest.next().await, Some(List::new()), "what is no longer offered is withdrawn");
    assert_eq!(rest.next().await, None, "and that is the last word");
    let mut other = running.lists("other").await;
    assert_eq!(other.next().await, Some(list(&[(VFS[2], HEALTHY)])));
    fast.says_nothing().await;
    assert!(!running.node.at("var/lib/kubelet/device-plugins/doorbell-rest.sock").exists());
    running.ends().await;
}

#[tokio::test]
async fn a_wrong_config_changes_nothing_and_the_next_right_one_does() {
    let running = Running::start(&[FAST]);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    config(&running.node, "2", &["- {name: fast, access: vfio}\n"]);
    fast.says_nothing().await;
    config(&running.node, "3", &["- {name: fast, access: vfio, select: {pfNames: ['ens1f0#0']}}\n"]);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY)])));
    running.ends().await;
}

#[tokio::test]
async fn a_pool_under_another_prefix_is_another_resource() {
    let running = Running::start(&[FAST]);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    config(&running.node, "2", &[FAST, "resourcePrefix: example.com\n"]);
    assert_eq!(fast.next().await, Some(List::new()));
    assert_eq!(fast.next().await, None);
    let mut fast = running.lists("fast").await;
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], HEALTHY)])));
    running.ends().await;
}

#[tokio::test]
async fn a_pf_without_a_link_matters_to_the_pool_that_says_so() {
    let node = Node::with(&[GOOD, Vf { group: 8, ..GOOD }, Vf { group: 9, ..GOOD }]);
    let carrier = "sys/class/net/ens1f0/carrier";
    node.write(carrier, b"0\n");
    let caring = "- {name: caring, access: vfio, pfLinkDown: unhealthy, select: {pfNames: ['ens1f0#2']}}\n";
    let running = Running::on(node, &[FAST, caring]);
    let (mut fast, mut cares) = (running.lists("fast").await, running.lists("caring").await);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], HEALTHY)])));
    assert_eq!(cares.next().await, Some(list(&[(VFS[2], UNHEALTHY)])));
    running.node.write(carrier, b"1\n");
    running.uevents.send(Heard::Lost).unwrap();
    assert_eq!(cares.next().await, Some(list(&[(VFS[2], HEALTHY)])));
    running.ends().await;
}

#[tokio::test]
async fn a_folder_that_is_made_anew_is_registered_in() {
    let running = Running::start(&[FAST]);
    running.lists("fast").await.next().await;
    fs::remove_dir_all(running.node.at("var/lib/kubelet/device-plugins")).unwrap();
    let mut fast = running.lists("fast").await;
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], HEALTHY)])));
    running.ends().await;
}
