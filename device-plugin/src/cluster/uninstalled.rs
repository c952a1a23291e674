//! Whether the plugin ends because it is uninstalled, and not to be started anew.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::connection::Question;
use super::objects::{Partial, Status, StatusDetails};
use super::server::{Failure, Server};
use super::{ObjectName, Reach};

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether the DaemonSet is gone or going, or the service account by which we ask is. What can't be learnt `within` that
/// time is a no, and so is an answer that is not the API server's own: nothing is taken away on a guess.
///
/// What is uninstalled at once goes bit by bit: the role before the service account, whose token the API server takes for
/// 10 s more (its `TokenSuccessCacheTTL`). So who is forbidden to know asks again.
pub async fn is_uninstalled(reach: &Reach, set: &ObjectName, within: Duration) -> bool {
    let ObjectName { namespace, name } = set;
    let mut server = Server::new(reach.clone(), "nothing");
    let question = Question::metadata(format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"));
    let asking = async {
        loop {
            match server.once::<Partial>(&question).await {
                Ok(set) => return set.metadata.deletion_timestamp.is_some(),
                Err(Failure::Refused(status)) if says_it_is_gone(&status, name) => return true,
                Err(_) => sleep(PAUSE).await,
            }
        }
    };
    timeout(within, asking).await.unwrap_or(false)
}

/// In the API server's words, which somebody who stands before it does not have: of what is not found it tells kind and
/// name.
fn says_it_is_gone(status: &Status, name: &str) -> bool {
    let is_it = |details: &StatusDetails| details.kind == "daemonsets" && details.name == name;
    match status.code {
        404 => status.reason == "NotFound" && status.details.as_ref().is_some_and(is_it),
        401 => status.reason == "Unauthorized",
        _ => false,
    }
}
