//! Keeping every pool served and registered, whatever the kubelet does.
//!
//! A kubelet that starts deletes all sockets in its folder, ours too, and then makes `kubelet.sock` anew. One watch on
//! the folder, armed before the first registration, turns each new `kubelet.sock` into a new generation; each pool
//! then binds its socket again and registers. Shutdown is one token: streams end, servers drain, sockets go.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use doorbell_common::host::Host;
use doorbell_common::kubelet::deviceplugin::RegisterRequest;
use doorbell_common::kubelet::deviceplugin::device_plugin_server::DevicePluginServer;
use doorbell_common::kubelet::deviceplugin::registration_client::RegistrationClient;
use futures_util::{StreamExt, TryFutureExt};
use inotify::{EventMask, Inotify, WatchMask};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Endpoint, Server};
use tracing::{info, warn};

use crate::advertise::{OPTIONS, PoolService};
use crate::config::PoolName;
use crate::inventory::Inventory;
use crate::tasks::together;

const FOLDER: &str = "/var/lib/kubelet/device-plugins";
const KUBELET_SOCKET: &str = "kubelet.sock";
const API_VERSION: &str = "v1beta1";
/// `kubelet.sock` is there a moment before the kubelet listens on it.
const RETRY: Duration = Duration::from_millis(100);
/// A registration is one small call; a kubelet that takes longer is asked again.
const REGISTER_FOR: Duration = Duration::from_secs(10);
/// How long calls in flight may take to end: a kubelet that is back waits for us behind it.
const DRAIN_FOR: Duration = Duration::from_millis(500);

/// Serves and registers every pool of the inventory until `closing`.
pub async fn serve(
    host: Host,
    inventory: watch::Receiver<Arc<Inventory>>,
    closing: CancellationToken,
) -> Result<()> {
    host.make_folder(FOLDER)?;
    let (generation, generations) = watch::channel(0_u64);
    let mut tasks = JoinSet::new();
    tasks.spawn(watch_kubelet(arm(&host.path(FOLDER))?, generation, closing.clone()));
    let pools: Vec<(PoolName, String)> =
        inventory.borrow().pools.iter().map(|(name, pool)| (name.clone(), pool.resource.clone())).collect();
    for (name, resource) in pools {
        let pool = ServedPool { host: host.clone(), name, resource, inventory: inventory.clone() };
        tasks.spawn(pool.keep(generations.clone(), closing.clone()));
    }
    together(tasks, &closing).await
}

fn arm(folder: &Path) -> Result<Inotify> {
    let arm = || {
        let inotify = Inotify::init()?;
        inotify.watches().add(folder, WatchMask::CREATE | WatchMask::MOVED_TO)?;
        Ok::<_, io::Error>(inotify)
    };
    arm().with_context(|| format!("watch {}", folder.display()))
}

/// Counts how often `kubelet.sock` was made anew.
async fn watch_kubelet(
    inotify: Inotify,
    generation: watch::Sender<u64>,
    closing: CancellationToken,
) -> Result<()> {
    let mut buffer = [0; 4096];
    let mut events =
        inotify.into_event_stream(&mut buffer[..]).context("read the watch on the kubelet's folder")?;
    loop {
        let event = tokio::select! {
            () = closing.cancelled() => return Ok(()),
            event = events.next() => event,
        };
        let event = event.context("the watch on the kubelet's folder ended")?;
        let event = event.context("read the watch on the kubelet's folder")?;
        // Where events were lost, one of them may have been it.
        let lost = event.mask.contains(EventMask::Q_OVERFLOW);
        if lost || event.name.as_deref().is_some_and(|name| name == KUBELET_SOCKET) {
            generation.send_modify(|generation| *generation += 1);
        }
    }
}

struct ServedPool {
    host: Host,
    name: PoolName,
    resource: String,
    inventory: watch::Receiver<Arc<Inventory>>,
}

impl ServedPool {
    /// Serves one generation of the kubelet after the other.
    async fn keep(self, mut generations: watch::Receiver<u64>, closing: CancellationToken) -> Result<()> {
        while !closing.is_cancelled() {
            generations.mark_unchanged();
            self.generation(&mut generations, &closing).await?;
        }
        Ok(())
    }

    /// Binds, serves, registers, and stays until the kubelet is a new one or we close.
    async fn generation(
        &self,
        generations: &mut watch::Receiver<u64>,
        closing: &CancellationToken,
    ) -> Result<()> {
        let socket = Socket::bind(self.path(&self.endpoint()))?;
        let over = CancellationToken::new();
        let service =
            PoolService::new(self.host.clone(), self.name.clone(), self.inventory.clone(), over.clone());
        let server =
            Server::builder().add_service(DevicePluginServer::new(service)).serve_with_incoming_shutdown(
                UnixListenerStream::new(socket.listener),
                over.clone().cancelled_owned(),
            );
        // Owned here: dropped, and so ended, whichever way this function is left.
        let mut tasks = JoinSet::new();
        tasks.spawn(server.map_err(anyhow::Error::from));

        tokio::select! {
            () = closing.cancelled() => {}
            _ = generations.changed() => {}
            () = self.register_and_wait() => {}
            Some(ended) = tasks.join_next() => {
                ended.context("the server panicked")?.with_context(|| format!("serve pool {}", self.name))?;
            }
        }
        over.cancel();
        if tokio::time::timeout(DRAIN_FOR, tasks.join_all()).await.is_err() {
            warn!(pool = %self.name, "calls still in flight, left behind");
        }
        Ok(())
    }

    /// Never returns: once registered there is nothing to do until the generation ends.
    async fn register_and_wait(&self) {
        let mut reported = false;
        loop {
            let failure = match tokio::time::timeout(REGISTER_FOR, self.register()).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => format!("no answer within {} s", REGISTER_FOR.as_secs()),
            };
            if !reported {
                warn!(pool = %self.name, error = failure, "not registered yet, trying on");
                reported = true;
            }
            tokio::time::sleep(RETRY).await;
        }
        info!(pool = %self.name, resource = self.resource, "registered");
        std::future::pending::<()>().await;
    }

    async fn register(&self) -> Result<()> {
        let socket = self.path(KUBELET_SOCKET);
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display()))?.connect().await?;
        let request = RegisterRequest {
            version: API_VERSION.to_owned(),
            endpoint: self.endpoint(),
            resource_name: self.resource.clone(),
            options: Some(OPTIONS),
        };
        RegistrationClient::new(channel).register(request).await?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.host.path(FOLDER).join(name)
    }

    fn endpoint(&self) -> String {
        format!("doorbell-{}.sock", self.name)
    }
}

/// A listening socket whose file goes with it.
struct Socket {
    listener: UnixListener,
    _file: SocketFile,
}

struct SocketFile(PathBuf);

impl Socket {
    fn bind(path: PathBuf) -> Result<Self> {
        // A socket that a killed predecessor left is nobody's.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => UnixListener::bind(&path),
        }
        .with_context(|| format!("bind {}", path.display()))
        .map(|listener| Self { listener, _file: SocketFile(path) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The kubelet may have deleted it already.
        let _ = std::fs::remove_file(&self.0);
    }
}
