//! Events of devices in use: a Warning on the node and on the pod when one goes unhealthy, and a Normal one when it is
//! healthy again. A device that nobody has is no event: the log, the metrics and the node's allocatable count have it.
//!
//! Two tasks. One notes what happens when it happens, and asks the kubelet whose the device is then; the other tells the
//! API server, as fast as that takes it. Between them is a backlog that is bounded: what is oldest in it is lost first.

use std::sync::Arc;

use anyhow::Result;
use doorbell_common::host::Host;
use serde::de::IgnoredAny;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::NodeName;
use super::connection::Question;
use super::health;
use super::holders::{Holders, Told};
use super::note::{About, Note, Numbers};
use super::objects::{Partial, Status};
use super::server::Server;
use crate::inventory::Inventory;
use crate::tasks::together;

/// Events that wait for the API server: more than a node has devices in use, gone and come again.
const BACKLOG: usize = 512;

/// Tells of the inventory's devices until `closing`.
pub(super) async fn keep(
    host: Host,
    node: NodeName,
    server: Server,
    mut inventory: watch::Receiver<Arc<Inventory>>,
    closing: CancellationToken,
) -> Result<()> {
    let (notes, backlog) = broadcast::channel(BACKLOG);
    let first = Arc::clone(&inventory.borrow_and_update());
    let noting = closing.clone().run_until_cancelled_owned(note(host, first, inventory, notes));
    let telling = closing.clone().run_until_cancelled_owned(tell(node, server, backlog));
    let mut tasks = JoinSet::new();
    tasks.spawn(async { noting.await.unwrap_or(Ok(())) });
    tasks.spawn(async { telling.await.unwrap_or(Ok(())) });
    together(tasks, &closing).await
}

async fn note(
    host: Host,
    mut before: Arc<Inventory>,
    mut inventory: watch::Receiver<Arc<Inventory>>,
    notes: broadcast::Sender<Note>,
) -> Result<()> {
    let (mut told, mut numbers) = (Told::default(), Numbers::default());
    // No sender, no change: the plugin is about to close.
    while inventory.changed().await.is_ok() {
        let now = Arc::clone(&inventory.borrow_and_update());
        let mut changes = health::changes(&before, &now);
        before = now;
        changes.retain(|change| change.reason.is_some() || told.has(&change.device));
        if changes.is_empty() {
            continue;
        }
        let holders = Holders::ask(&host).await;
        for change in changes {
            let Some(pods) = told.whom(&change, &holders.of(&host, &change.device)) else { continue };
            for note in Note::all(&change, &pods, &mut numbers) {
                // Who reads them ends with the plugin, and so does this.
                let _ = notes.send(note);
            }
        }
    }
    Ok(())
}

async fn tell(node: NodeName, mut server: Server, mut backlog: broadcast::Receiver<Note>) -> Result<()> {
    loop {
        let note = match backlog.recv().await {
            Ok(note) => note,
            Err(RecvError::Lagged(lost)) => {
                warn!(lost, "the oldest events were lost while the API server was not told of any");
                continue;
            }
            Err(RecvError::Closed) => return Ok(()),
        };
        if let Err(status) = one(&node, &mut server, &note).await {
            let Status { code, message, .. } = *status;
            warn!(code, message, "an event is not taken by the API server");
        }
    }
}

/// One event; no pod, no event.
async fn one(node: &NodeName, server: &mut Server, note: &Note) -> Result<(), Box<Status>> {
    let uid = match note.about() {
        About::Node => None,
        About::Pod(pod) => {
            let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name);
            let found: Partial = match server.ask(&Question::metadata(path)).await {
                Err(status) if status.is("NotFound", 404) => return Ok(()),
                found => found?,
            };
            // Made since: one of the same name that never had the device.
            if found.metadata.creation_timestamp.is_some_and(|made| made > note.at()) {
                return Ok(());
            }
            found.metadata.uid
        }
    };
    let path = format!("/api/v1/namespaces/{}/events", note.namespace());
    let made = server.ask::<IgnoredAny>(&Question::create(path, &note.event(node, uid))).await;
    match made {
        // It was made by a try whose answer was lost.
        Err(status) if status.reason == "AlreadyExists" => Ok(()),
        // Nor is a pod left where its namespace goes.
        Err(status)
            if *note.about() != About::Node
                && (status.is("NotFound", 404) || status.is("Forbidden", 403)) =>
        {
            Ok(())
        }
        made => made.map(drop),
    }
}
