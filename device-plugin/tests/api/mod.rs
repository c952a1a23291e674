//! An API server double over HTTP, as its API is documented: what is asked of pods, nodes and DaemonSets, the metadata of
//! objects where that is asked for, events with the checks of `ValidateEvent`, labels by server-side apply. It asks for a
//! token, can be away, in a mood, or take its time, and speaks TLS where it is told to.

// Each test program uses its part; helpers of tests are tests.
#![allow(dead_code, clippy::unwrap_used)]

mod objects;
mod tls;

use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) use objects::Objects;
pub(crate) use tls::{Authority, Signed};

const WITHIN: Duration = Duration::from_secs(30);
pub(crate) const TOKEN: &str = "of-the-service-account";

/// An API server that answers.
pub(crate) struct Api {
    folder: tempfile::TempDir,
    address: SocketAddr,
    known: Known,
    task: JoinHandle<()>,
}

/// One that does not listen, at an address of its own.
pub(crate) struct Away {
    folder: tempfile::TempDir,
    socket: TcpSocket,
}

type Known = Arc<watch::Sender<Objects>>;

/// How requests are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answered.
    #[default]
    Well,
    /// Answered by this status.
    Answers(u16),
    /// Not answered.
    Hangs,
}

impl Away {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Bound and not listening: whoever connects is refused, and nobody else gets the port.
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let server = format!("http://{}", socket.local_addr().unwrap());
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "double", "cluster": { "server": server } }],
            "users": [{ "name": "plugin", "user": { "token": TOKEN } }],
            "contexts": [{ "name": "here", "context": { "cluster": "double", "user": "plugin" } }],
            "current-context": "here",
        });
        std::fs::write(folder.path().join("kubeconfig"), config.to_string()).unwrap();
        Self { folder, socket }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    pub(crate) fn comes(self, objects: Objects) -> Api {
        let address = self.socket.local_addr().unwrap();
        let listener = self.socket.listen(16).unwrap();
        let known: Known = Arc::new(watch::Sender::new(objects));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&known));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Api { folder: self.folder, address, known, task }
    }
}

impl Api {
    pub(crate) fn with(objects: Objects) -> Self {
        Away::new().comes(objects)
    }

    /// One that speaks TLS, with a certificate of its own; it asks for one of `clients` where that is given.
    pub(crate) async fn over_tls(objects: Objects, own: &Signed, clients: Option<&Authority>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let known: Known = Arc::new(watch::Sender::new(objects));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&known));
        let listener = tls::Listener::new(listener, own, clients);
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { folder: tempfile::tempdir().unwrap(), address, known, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    pub(crate) fn is(&self, mood: Mood) {
        self.known.send_modify(|objects| objects.mood = mood);
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Objects)) {
        self.known.send_modify(change);
    }

    /// Waits until what it has is so.
    pub(crate) async fn until(&self, what: &str, is_so: impl FnMut(&Objects) -> bool) -> Objects {
        let mut objects = self.known.subscribe();
        let waiting = async { objects.wait_for(is_so).await.unwrap().clone() };
        match timeout(WITHIN, waiting).await {
            Ok(objects) => objects,
            Err(_) => panic!("never {what}: {:#?}", self.known.borrow()),
        }
    }

    /// Waits until there are so many events, and returns them.
    pub(crate) async fn events(&self, count: usize) -> Vec<Value> {
        self.until("so many events", |objects| objects.events.len() >= count).await.events
    }

    pub(crate) fn requests(&self) -> usize {
        self.known.borrow().requests
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(known): State<Known>, request: Request<Body>) -> Response {
    known.send_modify(|objects| objects.requests += 1);
    let (mood, bearer) = (known.borrow().mood, format!("Bearer {}", known.borrow().token));
    let path = request.uri().path().to_owned();
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let answer = match mood {
        Mood::Hangs => pending().await,
        Mood::Answers(code) => Err((code, "as it was told")),
        Mood::Well if token != Some(&bearer) => Err((401, "Unauthorized")),
        Mood::Well => {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, 1 << 20).await.unwrap();
            let mut answer = Err((500, "not answered"));
            known.send_modify(|objects| answer = objects.answer(&parts, &body));
            answer
        }
    };
    let (code, body) = answer.unwrap_or_else(|(code, message)| {
        let details = if mood == Mood::Well { details(&path) } else { json!({}) };
        (code, failure(code, message, &details))
    });
    let code = StatusCode::from_u16(code).unwrap();
    (code, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// `Status` of meta/v1.
fn failure(code: u16, message: &str, details: &Value) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 if message == "it is there" => "AlreadyExists",
        409 => "Conflict",
        422 => "Invalid",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "reason": reason, "message": message, "code": code, "details": details,
    })
}

/// What it is about: the last two parts of the path.
fn details(path: &str) -> Value {
    let mut parts = path.rsplit('/');
    let (name, kind) = (parts.next(), parts.next());
    json!({ "name": name, "kind": kind })
}
