//! The API server as this room has it: asked until it answers, with a word in the log when it begins to be in the way and
//! when that is over, and none in between.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use doorbell_common::error::chain;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::Reach;
use super::access::{Access, AccessError};
use super::connection::{Connection, ConnectionError, Question};
use super::kubeconfig::{self, KubeconfigError};
use super::objects::{Status, StatusDetails};

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
    connection: Option<Connection>,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// A kubeconfig is not usable.
    #[error("read the kubeconfig")]
    Kubeconfig(#[from] KubeconfigError),
    /// This is no pod with a service account.
    #[error("find the service account")]
    ServiceAccount(#[from] AccessError),
    /// The API server can't be reached.
    #[error("ask the API server")]
    Connection(#[from] ConnectionError),
    /// What it says is no answer.
    #[error("understand the API server")]
    Answer(#[from] serde_json::Error),
    /// The API server answers that it does not do that.
    #[error("the API server answers {} {}: {}", .0.code, .0.reason, .0.message)]
    Refused(Box<Status>),
    /// It took too long.
    #[error("no answer of the API server within {} s", ANSWER_FOR.as_secs())]
    Slow,
}

impl Server {
    pub(super) fn new(reach: Reach, what: &'static str) -> Self {
        Self { reach, what, connection: None }
    }

    /// Asks until there is an answer, which may be that the request is wrong.
    pub(super) async fn ask<T: DeserializeOwned>(&mut self, question: &Question) -> Result<T, Box<Status>> {
        let mut pause = FIRST_PAUSE;
        let mut in_trouble = false;
        let answer = loop {
            match self.once(question).await {
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
    pub(super) async fn once<T: DeserializeOwned>(&mut self, question: &Question) -> Result<T, Failure> {
        // After a failure the next try connects anew, as the files say then: an address or a token may be another.
        let open = self.connection.take().filter(Connection::is_open);
        let asking = async {
            let mut connection = match open {
                Some(connection) => connection,
                None => Connection::open(self.reach.access()?).await?,
            };
            let answer = connection.ask(question).await?;
            let answer = answer.map_err(|status| Failure::Refused(Box::new(status)))?;
            Ok((connection, serde_json::from_slice(&answer)?))
        };
        let (connection, answer) = timeout(ANSWER_FOR, asking).await.unwrap_or(Err(Failure::Slow))?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

impl Reach {
    fn access(&self) -> Result<Access, Failure> {
        Ok(match self {
            Self::ServiceAccount(account) => Access::of_pod(account)?,
            Self::Kubeconfig(files) => kubeconfig::access(files)?,
        })
    }
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
