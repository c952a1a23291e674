//! Tasks that end together, and work beside them.

use anyhow::{Context, Result};
use doorbell_common::host::Host;
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

/// Waits until all have ended. The first that ends badly ends them all by `closing`: half a plugin would look alive to
/// its probe.
pub async fn together(mut tasks: JoinSet<Result<()>>, closing: &CancellationToken) -> Result<()> {
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.context("a task of the plugin panicked").and_then(|ended| ended);
        if ended.is_err() && outcome.is_ok() {
            outcome = ended;
            closing.cancel();
        }
    }
    outcome
}

/// Does what takes its time beside the tasks, which answer the kubelet on one thread.
pub async fn aside<T: Send + 'static>(
    host: &Host,
    work: impl FnOnce(&Host) -> Result<T> + Send + 'static,
) -> Result<T> {
    let host = host.clone();
    spawn_blocking(move || work(&host)).await.context("work beside the tasks panicked")?
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[tokio::test]
    async fn the_first_task_that_fails_ends_the_others_and_is_the_one_reported() {
        let closing = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(async { bail!("first") });
        let closed = closing.clone();
        tasks.spawn(async move {
            closed.cancelled().await;
            bail!("because of it")
        });
        assert_eq!(together(tasks, &closing).await.unwrap_err().to_string(), "first");
    }
}
