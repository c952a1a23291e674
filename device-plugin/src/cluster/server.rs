//! The API server as this room has it: asked until it answers, with a word in the log when it begins to be in the way and
//! when that is over, and none in between.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use doorbell_common::error::chain;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::Status;
use kube::core::response::StatusDetails;
use kube::{Client, Config};
use tokio::time::{sleep, timeout};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;
use tracing::{info, warn};

use super::Reach;

/// For one request, connecting included.
const ANSWER_FOR: Duration = Duration::from_secs(5);
/// Between tries: each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// The API server, for one purpose.
pub(super) struct Server {
    reach: Reach,
    /// What waits while it does not answer.
    what: &'static str,
    client: Option<Client>,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// A kubeconfig is not usable.
    #[error("read the kubeconfig")]
    Kubeconfig(#[from] KubeconfigError),
    /// This is no pod with a service account.
    #[error("find the service account")]
    ServiceAccount(#[from] InClusterError),
    /// The API server can't be reached, or what it says is no answer.
    #[error("ask the API server")]
    Api(#[source] kube::Error),
    /// The API server answers that it does not do that.
    #[error("the API server answers {} {}: {}", .0.code, .0.reason, .0.message)]
    Refused(Box<Status>),
    /// It took too long.
    #[error("no answer of the API server within {} s", ANSWER_FOR.as_secs())]
    Slow,
}

impl Server {
    pub(super) fn new(reach: Reach, what: &'static str) -> Self {
        Self { reach, what, client: None }
    }

    /// Asks until there is an answer, which may be that the request is wrong.
    pub(super) async fn ask<T, F>(&mut self, request: impl Fn(Client) -> F) -> Result<T, Box<Status>>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let mut pause = FIRST_PAUSE;
        let mut in_trouble = false;
        let answer = loop {
            match self.once(&request).await {
                Ok(answer) => break Ok(answer),
                Err(Failure::Refused(status)) if is_final(&status) => break Err(status),
                Err(failure) if !in_trouble => {
                    in_trouble = true;
                    warn!(reason = chain(&failure), "the API server is not told of {}, trying on", self.what);
                }
                Err(_) => {}
            }
            sleep(at_random(pause)).await;
            pause = LAST_PAUSE.min(pause * 2);
        };
        if in_trouble {
            info!("the API server is told of {} again", self.what);
        }
        answer
    }

    /// Asks once.
    pub(super) async fn once<T, F>(&mut self, request: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let asking = async {
            let client = match &self.client {
                Some(client) => client.clone(),
                None => self.reach.client().await?,
            };
            let answer = request(client.clone()).await;
            Ok((client, answer.map_err(Failure::from)?))
        };
        // kube logs each failure as an error by itself: it is told here, and once.
        let asking = asking.with_subscriber(NoSubscriber::default());
        match timeout(ANSWER_FOR, asking).await.unwrap_or(Err(Failure::Slow)) {
            Ok((client, answer)) => {
                self.client = Some(client);
                Ok(answer)
            }
            Err(failure) => {
                // The next try connects anew, as the files say then: an address or a token may be another.
                self.client = None;
                Err(failure)
            }
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            error => Self::Api(error),
        }
    }
}

impl Reach {
    async fn client(&self) -> Result<Client, Failure> {
        let mut config = match self {
            Self::ServiceAccount => Config::incluster()?,
            Self::Kubeconfig(files) => from_kubeconfig(files).await?,
        };
        // Tries, and how long they take, are told here.
        config.default_retry = false;
        // Where it was said before, this changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::try_from(config).map_err(Failure::from)
    }
}

async fn from_kubeconfig(files: &[PathBuf]) -> Result<Config, KubeconfigError> {
    let mut merged = Kubeconfig::default();
    for file in files {
        merged = merged.merge(Kubeconfig::read_from(file)?)?;
    }
    let clusters = merged.clusters.iter().filter_map(|named| named.cluster.as_ref());
    let is_proxied = clusters.filter_map(|cluster| cluster.proxy_url.as_ref()).count() > 0;
    let mut config = Config::from_custom_kubeconfig(merged, &KubeConfigOptions::default()).await?;
    if !is_proxied {
        // Else it is one that the environment has for who reaches the world, and refused: proxies are a feature of kube's.
        config.proxy_url = None;
    }
    Ok(config)
}

/// Whether another try would be answered the same. What may be forbidden may be allowed a moment later: the role comes
/// after the pod. Not so in a namespace that is being removed.
fn is_final(status: &Status) -> bool {
    let ends =
        |details: &StatusDetails| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating");
    match status.code {
        403 => status.details.as_ref().is_some_and(ends),
        401 | 408 | 429 => false,
        code => (400..500).contains(&code),
    }
}

/// Between a half and the whole of it: when an API server is back, a cluster's nodes do not all come at once.
fn at_random(pause: Duration) -> Duration {
    let chance = RandomState::new().hash_one(()) % 1024;
    pause / 2 + pause / 2 * u32::try_from(chance).unwrap_or_default() / 1024
}
