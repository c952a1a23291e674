//! A plugin that runs on a node of files, and what the kubelet would be told by it.

// Each test program uses its part; helpers of tests are tests.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::time::Duration;

use doorbell_common::kernel::netlink::Heard;
use doorbell_common::kubelet::deviceplugin::device_plugin_client::DevicePluginClient;
use doorbell_common::kubelet::deviceplugin::{
    AllocateRequest, AllocateResponse, ContainerAllocateRequest, Empty, ListAndWatchResponse,
};
use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::run::{self, Beside, Settings};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::node::{GOOD, Node, PAGE, Vf};

pub(crate) const WITHIN: Duration = Duration::from_secs(20);
/// Longer than it takes to say what is to be said.
pub(crate) const SILENT_FOR: Duration = Duration::from_millis(700);
pub(crate) const HEAD: &str = "apiVersion: doorbell.dev/v1\npools:\n";
pub(crate) const FAST: &str = "- {name: fast, access: vfio, select: {pfNames: ['ens1f0#0-1']}}\n";
pub(crate) const REST: &str = "- {name: rest, access: vfio, select: {pfNames: ['ens1f0#2']}}\n";
pub(crate) const VFS: [&str; 3] = ["0000:01:00.1", "0000:01:00.2", "0000:01:00.3"];

/// A plugin that runs on a node of files.
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) uevents: UnboundedSender<Heard>,
    metrics: SocketAddr,
    closing: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

/// What the kubelet is told of one pool.
pub(crate) struct Lists(Streaming<ListAndWatchResponse>);

/// Health by id.
pub(crate) type List = BTreeMap<String, String>;

pub(crate) fn list(devices: &[(&str, &str)]) -> List {
    devices.iter().map(|(id, health)| ((*id).to_owned(), (*health).to_owned())).collect()
}

impl Running {
    pub(crate) fn start(pools: &[&str]) -> Self {
        Self::on(Node::with(&[GOOD, Vf { group: 8, ..GOOD }, Vf { group: 9, ..GOOD }]), pools)
    }

    /// The config is a ConfigMap's: a link to a file below a link that is swapped.
    pub(crate) fn on(node: Node, pools: &[&str]) -> Self {
        Self::beside(node, pools, Beside::default())
    }

    /// The same with what else is asked for; metrics always are.
    pub(crate) fn beside(node: Node, pools: &[&str], mut beside: Beside) -> Self {
        let (uevents, heard) = unbounded_channel();
        let closing = CancellationToken::new();
        config(&node, "1", pools);
        symlink("..data/config.yaml", node.at("etc/doorbell/config.yaml")).unwrap();
        let file = node.at("etc/doorbell/config.yaml");
        let config = Config::load(&file).unwrap().config;
        let heard = UnboundedReceiverStream::new(heard).map(Ok).boxed();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics = listener.local_addr().unwrap();
        beside.http = Some(listener);
        let settings = Settings { host: node.host(), file, config, page: PAGE, beside };
        let serving = run::serve(settings, heard, closing.clone());
        let task = tokio::spawn(serving);
        Self { node, uevents, metrics, closing, task }
    }

    /// Waits until the metrics say this line.
    pub(crate) async fn counts(&self, line: &str) {
        let mut page = String::new();
        let seen = async {
            while !page.lines().any(|said| said == line) {
                page = scrape(self.metrics).await;
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(WITHIN, seen).await.is_err() {
            panic!("no {line} in:\n{page}");
        }
    }

    /// Waits until a probe is answered with this status and, at its end, this text.
    pub(crate) async fn answers(&self, path: &str, status: u16, text: &str) {
        let mut response = String::new();
        let seen = async {
            let status = format!("HTTP/1.1 {status} ");
            while !(response.starts_with(&status) && response.ends_with(&format!("\r\n\r\n{text}\n"))) {
                response = ask(self.metrics, path).await;
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(WITHIN, seen).await.is_err() {
            panic!("{path} is never answered with {status} and {text}, but:\n{response}");
        }
    }

    async fn dials(&self, pool: &str) -> DevicePluginClient<Channel> {
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
        timeout(WITHIN, dialling).await.unwrap()
    }

    pub(crate) async fn lists(&self, pool: &str) -> Lists {
        Lists(self.dials(pool).await.list_and_watch(Empty {}).await.unwrap().into_inner())
    }

    /// What a container is answered that is to have one device.
    pub(crate) async fn allocates(&self, pool: &str, id: &str) -> Result<AllocateResponse, Status> {
        let container = ContainerAllocateRequest { devices_ids: vec![id.to_owned()] };
        let request = AllocateRequest { container_requests: vec![container] };
        let mut client = self.dials(pool).await;
        timeout(WITHIN, client.allocate(request)).await.unwrap().map(tonic::Response::into_inner)
    }

    /// What a pool says now; nothing where nobody serves it.
    pub(crate) async fn said(&self, pool: &str) -> Option<List> {
        let socket = self.node.at(&format!("var/lib/kubelet/device-plugins/doorbell-{pool}.sock"));
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).ok()?;
        let mut client = DevicePluginClient::new(endpoint.connect().await.ok()?);
        let mut lists = client.list_and_watch(Empty {}).await.ok()?.into_inner();
        Some(health(lists.message().await.ok()??))
    }

    /// The kernel says it of a function.
    pub(crate) fn says(&self, action: &str, subsystem: &str, below: &str) {
        let path = format!("/devices/pci0000:00/{below}");
        let message = format!("{action}@{path}\0ACTION={action}\0DEVPATH={path}\0SUBSYSTEM={subsystem}\0");
        self.uevents.send(Heard::Message(message.into_bytes())).unwrap();
    }

    /// Takes a VF off VFIO, without a word.
    pub(crate) fn unbinds(&self, vf: usize) {
        fs::remove_file(self.node.at(&format!("sys/bus/pci/devices/{}/driver", VFS[vf]))).unwrap();
        fs::rename(self.node.at(&vfio_dev(vf)), self.node.at("vfio-dev")).unwrap();
    }

    pub(crate) fn binds(&self, vf: usize) {
        let driver = self.node.at(&format!("sys/bus/pci/devices/{}/driver", VFS[vf]));
        symlink("../../drivers/vfio-pci", driver).unwrap();
        fs::rename(self.node.at("vfio-dev"), self.node.at(&vfio_dev(vf))).unwrap();
    }

    pub(crate) async fn ends(self) {
        self.closing.cancel();
        timeout(WITHIN, self.task).await.unwrap().unwrap().unwrap();
    }
}

async fn scrape(address: SocketAddr) -> String {
    let response = ask(address, "/metrics").await;
    assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
    response
}

async fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: doorbell\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

pub(crate) fn vfio_dev(vf: usize) -> String {
    format!("sys/bus/pci/devices/{}/vfio-dev", VFS[vf])
}

/// Writes another version of the ConfigMap, and swaps the link as the kubelet does.
pub(crate) fn config(node: &Node, version: &str, pools: &[&str]) {
    let text = format!("{HEAD}{}", pools.concat());
    node.write(&format!("etc/doorbell/..{version}/config.yaml"), text.as_bytes());
    symlink(format!("..{version}"), node.at("etc/doorbell/..data_tmp")).unwrap();
    fs::rename(node.at("etc/doorbell/..data_tmp"), node.at("etc/doorbell/..data")).unwrap();
}

fn health(list: ListAndWatchResponse) -> List {
    list.devices.into_iter().map(|device| (device.id, device.health)).collect()
}

impl Lists {
    pub(crate) async fn next(&mut self) -> Option<List> {
        let message = timeout(WITHIN, self.0.message()).await.unwrap().unwrap()?;
        Some(health(message))
    }

    pub(crate) async fn says_nothing(&mut self) {
        let said = timeout(SILENT_FOR, self.0.message()).await;
        assert!(said.is_err(), "{said:?}");
    }
}

pub(crate) const HEALTHY: &str = "Healthy";
pub(crate) const UNHEALTHY: &str = "Unhealthy";
