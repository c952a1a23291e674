//! Objects of Kubernetes' API, as far as they are written or read here: their metadata, events, and the answer that is a
//! refusal. Follows Kubernetes' API reference; what is not set is left out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::NodeName;

/// An object of which only the metadata is asked for (`PartialObjectMetadata` of meta.k8s.io/v1).
#[derive(Debug, Deserialize)]
pub(super) struct Partial {
    /// It.
    pub(super) metadata: Metadata,
}

/// Metadata of an object that is there.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    /// No other object has had it, nor will.
    pub(super) uid: Option<String>,
    /// When it was made.
    pub(super) creation_timestamp: Option<Timestamp>,
    /// Since when it is to go.
    pub(super) deletion_timestamp: Option<Timestamp>,
}

/// A node's labels, as server-side apply takes those of one manager.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeLabels<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: NodeMetadata<'a>,
}

#[derive(Debug, Serialize)]
struct NodeMetadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    labels: &'a BTreeMap<String, String>,
}

impl<'a> NodeLabels<'a> {
    /// Of the node that has that uid: applied to another, they are refused.
    pub(super) fn of(node: &'a NodeName, uid: Option<&'a str>, labels: &'a BTreeMap<String, String>) -> Self {
        Self { api_version: "v1", kind: "Node", metadata: NodeMetadata { name: node.as_str(), uid, labels } }
    }
}

/// An event of core/v1.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    pub(super) metadata: EventMetadata,
    pub(super) involved_object: ObjectReference,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) count: u32,
    pub(super) first_timestamp: String,
    pub(super) last_timestamp: String,
    pub(super) source: EventSource,
    pub(super) reporting_component: &'static str,
    pub(super) reporting_instance: String,
}

/// What an event is called.
#[derive(Debug, Serialize)]
pub(super) struct EventMetadata {
    pub(super) name: String,
    pub(super) namespace: String,
}

/// What an event is about.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectReference {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<String>,
}

/// Who says it, and where.
#[derive(Debug, Serialize)]
pub(super) struct EventSource {
    pub(super) component: &'static str,
    pub(super) host: String,
}

/// Why the API server does not do it (`Status` of meta/v1). Who stands before it may answer something else: then the code
/// is all that is known, and a piece of the text.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    /// Of HTTP.
    pub(super) code: u16,
    /// In a word: NotFound, Forbidden, …; empty where it is not the API server's own answer.
    pub(super) reason: String,
    /// In a sentence.
    pub(super) message: String,
    /// About what.
    pub(super) details: Option<StatusDetails>,
}

/// What a refusal is about.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StatusDetails {
    /// The kind of object, as paths have it: `daemonsets`.
    pub(super) kind: String,
    /// Its name.
    pub(super) name: String,
    /// More than one thing may be wrong.
    pub(super) causes: Vec<StatusCause>,
}

/// One thing that is wrong.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StatusCause {
    /// In a word.
    pub(super) reason: String,
}

impl Status {
    /// Letters that are kept of an answer that is no `Status`.
    const KEPT: usize = 200;

    /// From an answer with a code that is no success.
    pub(super) fn of(code: u16, body: &[u8]) -> Self {
        let status = serde_json::from_slice(body).unwrap_or_else(|_| {
            let message = String::from_utf8_lossy(body).trim().chars().take(Self::KEPT).collect();
            Self { message, ..Self::default() }
        });
        Self { code, ..status }
    }

    /// Whether it is for this reason; where it has none, by its code.
    pub(super) fn is(&self, reason: &str, code: u16) -> bool {
        self.reason == reason || self.reason.is_empty() && self.code == code
    }
}
