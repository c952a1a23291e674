//! What the API server double has, and what it answers of it.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::request::Parts;
use axum::http::{Method, header};
use serde_json::{Value, json};

use super::{Mood, TOKEN};

/// Status code and body, or status code and message.
type Answer = Result<(u16, Value), (u16, &'static str)>;

#[derive(Debug, Clone)]
pub(crate) struct Objects {
    /// Uid and time of creation of pods, by namespace and name.
    pub(crate) pods: BTreeMap<(String, String), (String, String)>,
    /// Labels of nodes; the uid is the name's with `uid-` before it.
    pub(crate) nodes: BTreeMap<String, BTreeMap<String, String>>,
    /// Times of deletion of DaemonSets, by namespace and name.
    pub(crate) daemon_sets: BTreeMap<(String, String), Option<String>>,
    pub(crate) events: Vec<Value>,
    /// Labels by their managers.
    owned: BTreeMap<String, BTreeSet<String>>,
    pub(crate) mood: Mood,
    /// What a request is to have.
    pub(crate) token: String,
    pub(crate) requests: usize,
    /// Labels were applied so often.
    pub(crate) applied: usize,
}

impl Default for Objects {
    fn default() -> Self {
        Self {
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            daemon_sets: BTreeMap::new(),
            events: Vec::new(),
            owned: BTreeMap::new(),
            mood: Mood::default(),
            token: TOKEN.to_owned(),
            requests: 0,
            applied: 0,
        }
    }
}

impl Objects {
    pub(crate) fn pod(mut self, namespace: &str, name: &str, uid: &str) -> Self {
        let made = "2020-01-01T00:00:00Z".to_owned();
        self.pods.insert((namespace.to_owned(), name.to_owned()), (uid.to_owned(), made));
        self
    }

    pub(crate) fn node(mut self, name: &str) -> Self {
        let own = BTreeMap::from([("kubernetes.io/hostname".to_owned(), name.to_owned())]);
        self.nodes.insert(name.to_owned(), own);
        self
    }

    /// Labels of a node without the kubelet's own.
    pub(crate) fn labels(&self, node: &str) -> BTreeMap<&str, &str> {
        let labels = self.nodes[node].iter().map(|(key, value)| (key.as_str(), value.as_str()));
        labels.filter(|(key, _)| !key.starts_with("kubernetes.io/")).collect()
    }

    pub(super) fn answer(&mut self, parts: &Parts, body: &[u8]) -> Answer {
        let path: Vec<&str> = parts.uri.path().trim_start_matches('/').split('/').collect();
        match (&parts.method, path.as_slice()) {
            (&Method::GET, ["api", "v1", "namespaces", namespace, "pods", name]) => {
                let pod = self.pods.get(&(String::from(*namespace), String::from(*name)));
                let (uid, made) = pod.ok_or((404, "no such pod"))?;
                let metadata = json!({
                    "name": name, "namespace": namespace, "uid": uid, "creationTimestamp": made,
                });
                Ok((200, shown(parts, "Pod", &metadata)))
            }
            (&Method::GET, ["api", "v1", "nodes", name]) => {
                let labels = self.nodes.get(*name).ok_or((404, "no such node"))?;
                let metadata = json!({ "name": name, "uid": format!("uid-{name}"), "labels": labels });
                Ok((200, shown(parts, "Node", &metadata)))
            }
            (&Method::PATCH, ["api", "v1", "nodes", name]) => self.apply(parts, name, body),
            (&Method::POST, ["api", "v1", "namespaces", namespace, "events"]) => self.event(namespace, body),
            (&Method::GET, ["apis", "apps", "v1", "namespaces", namespace, "daemonsets", name]) => {
                let set = self.daemon_sets.get(&(String::from(*namespace), String::from(*name)));
                let deleted = set.ok_or((404, "no such daemon set"))?;
                let metadata = json!({ "name": name, "namespace": namespace, "deletionTimestamp": deleted });
                Ok((200, shown(parts, "DaemonSet", &metadata)))
            }
            _ => Err((404, "the server could not find the requested resource")),
        }
    }

    /// `legacyValidateEvent`: an event is in the namespace of its object; of one that is in none, in `default`.
    fn event(&mut self, namespace: &str, body: &[u8]) -> Answer {
        let event: Value = serde_json::from_slice(body).map_err(|_| (400, "no JSON"))?;
        let of = event["involvedObject"]["namespace"].as_str().unwrap_or("default");
        if event["metadata"]["namespace"] != namespace || of != namespace {
            return Err((422, "involvedObject.namespace: does not match event.namespace"));
        }
        let name = event["metadata"]["name"].as_str().ok_or((422, "metadata.name: Required value"))?;
        if self.events.iter().any(|there| there["metadata"]["name"] == name) {
            return Err((409, "it is there"));
        }
        self.events.push(event.clone());
        Ok((201, event))
    }

    /// Server-side apply of labels: a manager's are those that it applied last.
    fn apply(&mut self, parts: &Parts, name: &str, body: &[u8]) -> Answer {
        let query = parts.uri.query().unwrap_or_default();
        let manager = query.split('&').find_map(|part| part.strip_prefix("fieldManager="));
        let manager = manager.ok_or((400, "fieldManager is required for apply patch"))?;
        if parts.headers[header::CONTENT_TYPE] != "application/apply-patch+yaml" {
            return Err((415, "no apply patch"));
        }
        let applied: Value = serde_json::from_slice(body).map_err(|_| (400, "no JSON"))?;
        if applied["kind"] != "Node" || applied["apiVersion"] != "v1" {
            return Err((400, "no node"));
        }
        let uid = &applied["metadata"]["uid"];
        if !uid.is_null() && (*uid != format!("uid-{name}") || !self.nodes.contains_key(name)) {
            return Err((409, "uid mismatch"));
        }
        let labels: BTreeMap<String, String> =
            serde_json::from_value(applied["metadata"]["labels"].clone()).unwrap_or_default();
        if !labels.iter().all(|(key, value)| is_key(key) && (value.is_empty() || is_name(value))) {
            return Err((422, "metadata.labels: Invalid value"));
        }
        let node = self.nodes.entry(name.to_owned()).or_default();
        let before = self.owned.insert(manager.to_owned(), labels.keys().cloned().collect());
        for gone in before.unwrap_or_default() {
            node.remove(&gone);
        }
        node.extend(labels);
        self.applied += 1;
        let metadata = json!({ "name": name, "uid": format!("uid-{name}"), "labels": node });
        Ok((200, shown(parts, "Node", &metadata)))
    }
}

/// The object, or its metadata where the client takes no more.
fn shown(parts: &Parts, kind: &str, metadata: &Value) -> Value {
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata")) {
        return json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata });
    }
    json!({ "apiVersion": if kind == "DaemonSet" { "apps/v1" } else { "v1" }, "kind": kind, "metadata": metadata })
}

/// A qualified name.
fn is_key(key: &str) -> bool {
    key.split_once('/').is_some_and(|(prefix, name)| prefix.len() <= 253 && is_name(name))
}

/// A label's value, and the name in its key.
fn is_name(name: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    name.len() <= 63
        && is_end(name.as_bytes().first())
        && is_end(name.as_bytes().last())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
