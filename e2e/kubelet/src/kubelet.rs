//! The double itself: its servers and its lives, from start over stop and resume.
//! Admission is in `admission`, the running of pods in `lifecycle`, waiting in `wait`; they add methods to [`Kubelet`].

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use doorbell_common::kubelet::{
    deviceplugin::registration_server::RegistrationServer,
    podresources::pod_resources_lister_server::PodResourcesListerServer,
};
use tokio::{net::UnixListener, time::timeout};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tonic::transport::{Server, server::Router};

use crate::{
    checkpoint,
    config::KubeletConfig,
    cri::{Cri, CriError},
    knobs::Knobs,
    podresources::PodResources,
    rate_limit::RateLimit,
    registration::{Registration, expire_after_grace, remove_sockets},
    state::Shared,
    watcher,
};

/// How long the servers have to end what they are at.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// Why the double did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A folder could not be made or cleared.
    #[error("cannot prepare the folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A socket could not be listened on.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The runtime could not be reached.
    #[error("cannot reach the container runtime")]
    Runtime(#[from] CriError),
    /// Its servers run already.
    #[error("the kubelet is running")]
    Running,
}

/// A kubelet on this node. Dropping it closes its sockets and ends its tasks; pods stay as they are.
#[derive(Debug)]
pub struct Kubelet {
    pub(crate) shared: Arc<Shared>,
    pub(crate) runtime: Option<Cri>,
    pub(crate) knobs: Arc<Knobs>,
    run: tokio::sync::Mutex<Option<Run>>,
}

/// The tasks of one life of the kubelet.
#[derive(Debug)]
struct Run {
    stop: DropGuard,
    tasks: TaskTracker,
}

impl Kubelet {
    /// Starts on the folder of `config`: reads the checkpoint, deletes every socket, listens.
    pub async fn start(config: KubeletConfig) -> Result<Self, StartError> {
        let runtime = match &config.runtime {
            Some(socket) => Some(Cri::connect(socket, config.runtime_limit).await?),
            None => None,
        };
        let kubelet = Self {
            knobs: Arc::new(Knobs::new(config.get_enabled)),
            shared: Arc::new(Shared::new(config)),
            runtime,
            run: tokio::sync::Mutex::default(),
        };
        kubelet.resume().await?;
        Ok(kubelet)
    }

    /// Stops serving. Pods and their containers stay as they are, and so do the socket files, as after a kill.
    pub async fn stop(&self) {
        let Some(Run { stop, tasks }) = self.run.lock().await.take() else { return };
        drop(stop);
        tasks.close();
        if timeout(SHUTDOWN_LIMIT, tasks.wait()).await.is_err() {
            tracing::warn!(limit = ?SHUTDOWN_LIMIT, "some tasks of the kubelet outlast it");
        }
        // The connections to the plugins close with their last clients.
        self.shared.update(|state| state.plugins.clear());
    }

    /// Starts again after [`Kubelet::stop`]: what is known of devices is lost but for the checkpoint. The pods are
    /// known, as the API server would tell; none is re-admitted before [`Kubelet::readmit`] is called for it.
    pub async fn resume(&self) -> Result<(), StartError> {
        let mut run = self.run.lock().await;
        if run.is_some() {
            return Err(StartError::Running);
        }
        let config = &self.shared.config;
        let folder = |path: &Path, source| StartError::Folder { path: path.to_owned(), source };
        for path in [config.plugins(), config.registry(), config.root.join("pod-resources")] {
            std::fs::create_dir_all(&path).map_err(|source| folder(&path, source))?;
        }
        // A kubelet that cannot read its checkpoint goes on without one.
        let (allocations, registered) = checkpoint::read(&config.checkpoint()).unwrap_or_else(|error| {
            tracing::error!(%error, "checkpoint not used");
            Default::default()
        });
        self.shared.update(|state| {
            state.allocations = allocations;
            state.table.restart(registered.into_keys());
        });
        remove_sockets(&config.plugins()).map_err(|source| folder(&config.plugins(), source))?;

        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let registration =
            Registration { shared: Arc::clone(&self.shared), stop: stop.clone(), tasks: tasks.clone() };
        tasks.spawn(stop.clone().run_until_cancelled_owned(watcher::watch(registration.clone())));
        let registration = Server::builder().add_service(RegistrationServer::new(registration));
        serve(&config.registration_socket(), registration, &stop, &tasks)?;
        serve(&config.pod_resources_socket(), self.pod_resources(), &stop, &tasks)?;
        self.spawn_restored_graces(&stop, &tasks);
        let shared = Arc::clone(&self.shared);
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move { shared.schedule().await }));
        *run = Some(Run { stop: stop.drop_guard(), tasks });
        Ok(())
    }

    /// [`Kubelet::stop`] and [`Kubelet::resume`].
    pub async fn restart(&self) -> Result<(), StartError> {
        self.stop().await;
        self.resume().await
    }

    /// How the double was set up.
    pub fn config(&self) -> &KubeletConfig {
        &self.shared.config
    }

    fn pod_resources(&self) -> Router {
        let service = PodResources {
            shared: Arc::clone(&self.shared),
            knobs: Arc::clone(&self.knobs),
            limit: RateLimit::new(Instant::now()),
        };
        Server::builder().add_service(PodResourcesListerServer::new(service))
    }

    /// Resources that only the checkpoint names are dropped too, if nobody registers them within the grace.
    fn spawn_restored_graces(&self, stop: &CancellationToken, tasks: &TaskTracker) {
        let restored: Vec<_> = self.shared.read(|state| {
            let listed = state.table.iter().filter(|(_, resource)| resource.listed);
            listed.map(|(name, resource)| (name.clone(), resource.endpoint)).collect()
        });
        for (name, endpoint) in restored {
            let shared = Arc::clone(&self.shared);
            tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
                expire_after_grace(&shared, &name, endpoint).await;
            }));
        }
    }
}

/// Listens on a socket, removing what lay there, and serves until `stop`.
fn serve(
    path: &Path,
    router: Router,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<(), StartError> {
    let listen = |source| StartError::Listen { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(listen(error)),
        _ => {}
    }
    let connections = UnixListenerStream::new(UnixListener::bind(path).map_err(listen)?);
    let stop = stop.clone().cancelled_owned();
    let path = path.to_owned();
    tasks.spawn(async move {
        if let Err(error) = router.serve_with_incoming_shutdown(connections, stop).await {
            tracing::error!(path = %path.display(), %error, "server ended");
        }
    });
    Ok(())
}
