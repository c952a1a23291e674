//! The kubelet's side of device plugins, with a stamp on each list: it takes registrations, dials back and follows
//! ListAndWatch. It does nothing else with a list, so that what is measured is the plugin.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use doorbell_common::kubelet::deviceplugin::device_plugin_client::DevicePluginClient;
use doorbell_common::kubelet::deviceplugin::registration_server::{Registration, RegistrationServer};
use doorbell_common::kubelet::deviceplugin::{Device, Empty, RegisterRequest};
use tokio::net::UnixListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

/// The folder of device plugins.
pub const FOLDER: &str = "/var/lib/kubelet/device-plugins";
/// A list that takes longer will not come.
const WITHIN: Duration = Duration::from_secs(120);

/// A list, when it was there.
#[derive(Debug)]
pub struct List {
    /// The resource.
    pub resource: String,
    /// When it was read.
    pub at: Instant,
    /// Its devices.
    pub devices: Vec<Device>,
}

/// A kubelet that listens, in the runtime that it was made in.
#[derive(Debug)]
pub struct Kubelet {
    lists: UnboundedReceiver<Result<List>>,
    _tasks: JoinSet<()>,
}

impl Kubelet {
    /// Listens in an empty folder.
    pub fn listen() -> Result<Self> {
        match fs::remove_dir_all(FOLDER) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir_all(FOLDER)?,
        }
        let listener =
            UnixListener::bind(Path::new(FOLDER).join("kubelet.sock")).context("listen as the kubelet")?;
        let (sender, lists) = unbounded_channel();
        let server = Server::builder().add_service(RegistrationServer::new(Register { lists: sender }));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // One that ends shows as lists that don't come.
            let _ = server.serve_with_incoming(UnixListenerStream::new(listener)).await;
        });
        Ok(Self { lists, _tasks: tasks })
    }

    /// The next list of any resource.
    pub async fn next(&mut self) -> Result<List> {
        let list = timeout(WITHIN, self.lists.recv()).await.context("no list came")?;
        list.context("the kubelet ended")?
    }
}

struct Register {
    lists: UnboundedSender<Result<List>>,
}

#[tonic::async_trait]
impl Registration for Register {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let RegisterRequest { endpoint, resource_name, .. } = request.into_inner();
        let lists = self.lists.clone();
        tokio::spawn(async move {
            if let Err(error) = follow(&endpoint, &resource_name, &lists).await {
                // Nobody to tell where the measurement is over.
                let _ = lists.send(Err(error.context(format!("follow {resource_name}"))));
            }
        });
        Ok(Response::new(Empty {}))
    }
}

async fn follow(endpoint: &str, resource: &str, lists: &UnboundedSender<Result<List>>) -> Result<()> {
    let mut client = DevicePluginClient::new(dial(&Path::new(FOLDER).join(endpoint)).await?);
    client.get_device_plugin_options(Empty {}).await?;
    let mut stream = client.list_and_watch(Empty {}).await?.into_inner();
    // A plugin that is stopped breaks the stream off.
    while let Ok(Some(list)) = stream.message().await {
        let list = List { resource: resource.to_owned(), at: Instant::now(), devices: list.devices };
        if lists.send(Ok(list)).is_err() {
            break;
        }
    }
    Ok(())
}

/// A channel to a socket.
pub async fn dial(socket: &Path) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
    endpoint.connect().await.with_context(|| format!("dial {}", socket.display()))
}
