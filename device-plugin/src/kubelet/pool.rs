//! One pool, served and registered.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use doorbell_common::host::Host;
use doorbell_common::kubelet::Connection;
use doorbell_common::kubelet::deviceplugin::device_plugin_server::DevicePluginServer;
use doorbell_common::kubelet::deviceplugin::registration_client::RegistrationClient;
use doorbell_common::kubelet::deviceplugin::{self, KUBELET_SOCKET, RegisterRequest};
use doorbell_common::kubelet::pluginregistration;
use doorbell_common::kubelet::pluginregistration::registration_server::RegistrationServer;
use futures_util::TryFutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Server;
use tracing::{info, warn};

use super::socket::Socket;
use super::watcher::Watcher;
use crate::advertise::{OPTIONS, PoolService};
use crate::config::{PoolName, Registration};
use crate::inventory::Inventory;
use crate::listening::Listening;
use crate::metrics::Counts;

/// `kubelet.sock` is there a moment before the kubelet listens on it.
const RETRY: Duration = Duration::from_millis(100);
/// A registration is one small call; a kubelet that takes longer is asked again.
const REGISTER_FOR: Duration = Duration::from_secs(10);
/// How long calls in flight may take to end: a kubelet that is back waits for us behind it.
const DRAIN_FOR: Duration = Duration::from_millis(500);

pub(super) struct ServedPool {
    pub(super) host: Host,
    pub(super) name: PoolName,
    pub(super) resource: String,
    pub(super) way: Registration,
    pub(super) inventory: watch::Receiver<Arc<Inventory>>,
    pub(super) listening: Listening,
    pub(super) counts: Counts,
}

/// How a generation ended.
enum End {
    Closed,
    /// The kubelet is another, or its folder.
    Anew,
    /// The kubelet takes registrations by the watcher only.
    ByWatcher,
}

impl ServedPool {
    /// Serves one generation of the kubelet after the other, until the pool is removed or all is closed; then its name.
    pub(super) async fn keep(
        self,
        mut generations: watch::Receiver<u64>,
        removed: CancellationToken,
        closing: CancellationToken,
    ) -> Result<PoolName> {
        let mut way = self.way;
        loop {
            generations.mark_unchanged();
            match self.generation(way, &mut generations, &removed, &closing).await? {
                End::Closed => return Ok(self.name),
                End::Anew => {}
                End::ByWatcher => way = Registration::Watcher,
            }
        }
    }

    /// Binds, serves, registers, and stays until that has an end.
    async fn generation(
        &self,
        way: Registration,
        generations: &mut watch::Receiver<u64>,
        removed: &CancellationToken,
        closing: &CancellationToken,
    ) -> Result<End> {
        let socket = match Socket::bind(self.socket(way)) {
            Ok(socket) => socket,
            // The folder is gone: it is a matter of moments until it is there anew, or we end.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tokio::select! {
                    () = closing.cancelled() => return Ok(End::Closed),
                    () = removed.cancelled() => return Ok(End::Closed),
                    _ = generations.changed() => {}
                    () = sleep(REGISTER_FOR) => {}
                }
                return Ok(End::Anew);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("bind the socket of pool {}", self.name));
            }
        };
        let (ending, over) = (CancellationToken::new(), CancellationToken::new());
        let service = PoolService::new(
            self.host.clone(),
            self.name.clone(),
            self.resource.clone(),
            self.inventory.clone(),
            self.listening.clone(),
            over.clone(),
        );
        let service = DevicePluginServer::new(service.counted(self.counts.clone()));
        let watcher = (way == Registration::Watcher)
            .then(|| RegistrationServer::new(Watcher::new(self.name.clone(), self.resource.clone())));
        let server = Server::builder().add_service(service).add_optional_service(watcher);
        let server = server.serve_with_incoming_shutdown(
            UnixListenerStream::new(socket.listener),
            ending.clone().cancelled_owned(),
        );
        // Owned here: dropped, and so ended, whichever way this function is left.
        let mut tasks = JoinSet::new();
        tasks.spawn(server.map_err(anyhow::Error::from));

        let end = tokio::select! {
            () = closing.cancelled() => End::Closed,
            // The list that says so is the stream's last.
            () = removed.cancelled() => End::Closed,
            _ = generations.changed() => End::Anew,
            end = self.register_and_wait(way) => end,
            Some(ended) = tasks.join_next() => {
                ended.context("the server panicked")?.with_context(|| format!("serve pool {}", self.name))?;
                End::Anew
            }
        };
        ending.cancel();
        if !removed.is_cancelled() {
            over.cancel();
        }
        if timeout(DRAIN_FOR, tasks.join_all()).await.is_err() {
            warn!(pool = %self.name, "calls still in flight, left behind");
        }
        if removed.is_cancelled() {
            info!(pool = %self.name, resource = self.resource, "no longer served");
        }
        // It stays until nobody is served by it.
        drop(socket.file);
        Ok(end)
    }

    /// Once registered there is nothing to do until the generation ends.
    async fn register_and_wait(&self, way: Registration) -> End {
        if way == Registration::Watcher {
            // The kubelet finds the socket, and says how that went.
            return std::future::pending().await;
        }
        let mut reported = false;
        loop {
            let failure = match timeout(REGISTER_FOR, self.register()).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) if way == Registration::Auto && is_unimplemented(&error) => {
                    info!(pool = %self.name, "the kubelet takes no registrations: left to its plugin watcher");
                    return End::ByWatcher;
                }
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => format!("no answer within {} s", REGISTER_FOR.as_secs()),
            };
            if !reported {
                warn!(pool = %self.name, error = failure, "not registered yet, trying on");
                reported = true;
            }
            sleep(RETRY).await;
        }
        info!(pool = %self.name, resource = self.resource, "registered");
        std::future::pending().await
    }

    async fn register(&self) -> Result<()> {
        let socket = self.host.path(deviceplugin::FOLDER).join(KUBELET_SOCKET);
        let connection = Connection::open(&socket).await?;
        let request = RegisterRequest {
            version: deviceplugin::VERSION.to_owned(),
            endpoint: self.endpoint(),
            resource_name: self.resource.clone(),
            options: Some(OPTIONS),
        };
        RegistrationClient::new(connection).register(request).await?;
        Ok(())
    }

    fn socket(&self, way: Registration) -> PathBuf {
        let folder = match way {
            Registration::Auto | Registration::Legacy => deviceplugin::FOLDER,
            Registration::Watcher => pluginregistration::FOLDER,
        };
        self.host.path(folder).join(self.endpoint())
    }

    fn endpoint(&self) -> String {
        format!("doorbell-{}.sock", self.name)
    }
}

fn is_unimplemented(error: &anyhow::Error) -> bool {
    error.downcast_ref::<tonic::Status>().is_some_and(|status| status.code() == Code::Unimplemented)
}
