//! What is answered by HTTP: `/metrics` to Prometheus, `/healthz` and `/readyz` to the kubelet's probes.

mod address;

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use doorbell_common::host::Host;
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::config::PoolName;
use crate::inventory::Inventory;
use crate::listening::Listening;
use crate::metrics::{self, Counts};

pub use address::{BadAddress, HttpAddress};

/// What answers are made of.
#[derive(Clone)]
struct Known {
    registry: Arc<Registry>,
    /// Who is being told.
    asking: Arc<Semaphore>,
    inventory: watch::Receiver<Arc<Inventory>>,
    listening: Listening,
}

/// Answers who asks, until `closing`.
pub async fn serve(
    listener: TcpListener,
    host: Host,
    counts: Counts,
    inventory: watch::Receiver<Arc<Inventory>>,
    listening: Listening,
    closing: CancellationToken,
) -> Result<()> {
    listener.set_nonblocking(true).context("listen for HTTP")?;
    let listener = tokio::net::TcpListener::from_std(listener).context("listen for HTTP")?;
    let registry = Arc::new(metrics::registry(&host, &counts, inventory.clone()));
    let app = Router::new()
        .route("/metrics", get(page))
        // Who answers, runs.
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Known { registry, asking: Arc::new(Semaphore::new(1)), inventory, listening });
    // Nobody who is answered just then is waited for.
    let serving = closing.run_until_cancelled(axum::serve(listener, app).into_future());
    serving.await.unwrap_or(Ok(())).context("answer by HTTP")
}

/// What is looked up for it may have to wait for the kernel: elsewhere than where the kubelet is answered, and by one at a
/// time.
async fn page(State(known): State<Known>) -> Response {
    let Ok(alone) = Arc::clone(&known.asking).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "somebody else is being told\n").into_response();
    };
    let page = spawn_blocking(move || {
        let page = metrics::page(&known.registry);
        drop(alone);
        page
    });
    match page.await.map_err(anyhow::Error::from).and_then(|page| Ok(page?)) {
        Ok(page) => ([(CONTENT_TYPE, metrics::FORMAT)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response(),
    }
}

/// Ready is who hands out devices: the kubelet listens to every pool.
async fn ready(State(known): State<Known>) -> Response {
    let lacks = known.listening.lacks(&known.inventory.borrow());
    if lacks.is_empty() {
        return "ok\n".into_response();
    }
    let lacks: Vec<&str> = lacks.iter().map(PoolName::as_str).collect();
    (StatusCode::SERVICE_UNAVAILABLE, format!("the kubelet does not listen to {}\n", lacks.join(", ")))
        .into_response()
}
