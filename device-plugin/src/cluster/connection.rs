//! A connection to the API server, and requests on it one after another: hyper's HTTP/1.1, over rustls.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tokio_util::task::AbortOnDropHandle;

use super::access::{Access, AccessError, Roots};
use super::objects::Status;

/// After so long without a request, somebody on the way may have forgotten a connection without a word; the API server
/// itself closes it after 90 s (Go's `IdleTimeout`, as `kube-apiserver` sets it).
const IDLE: Duration = Duration::from_secs(60);
/// Bytes of an answer. etcd keeps no object of more than 1.5 MiB.
const ANSWER_SIZE: usize = 4 << 20;
/// What takes the metadata of an object instead of all of it.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const JSON: &str = "application/json";
/// JSON is YAML.
const APPLY: &str = "application/apply-patch+yaml";

/// What is asked of the API server.
#[derive(Debug)]
pub(super) struct Question {
    method: Method,
    /// From the API's root on, with the query.
    path: String,
    accept: &'static str,
    content_type: &'static str,
    body: Bytes,
}

/// A connection that is open.
pub(super) struct Connection {
    access: Access,
    sender: SendRequest<Full<Bytes>>,
    used: Instant,
    /// Drives it, and closes it when it is dropped.
    _task: AbortOnDropHandle<()>,
}

/// Why there is no connection, or no answer on it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// What it takes is not there.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No authority is known.
    #[error("this system knows no certificate authority, and the kubeconfig names none")]
    NoRoots,
    /// A certificate that is none, or a key that is not its own.
    #[error("use the certificates")]
    Certificates(#[source] rustls::Error),
    /// A name that no certificate has.
    #[error("`{name}` is no server name")]
    ServerName {
        /// It.
        name: String,
        /// Why.
        source: InvalidDnsNameError,
    },
    /// Nobody takes the connection.
    #[error("connect to {server}")]
    Connect {
        /// Host and port.
        server: Authority,
        /// Why.
        source: io::Error,
    },
    /// Who takes it is not whom we look for, or does not believe us.
    #[error("speak TLS with {server}")]
    Tls {
        /// Host and port.
        server: Authority,
        /// Why.
        source: io::Error,
    },
    /// It speaks no HTTP, or stops speaking.
    #[error("speak HTTP with {server}")]
    Http {
        /// Host and port.
        server: Authority,
        /// Why.
        source: hyper::Error,
    },
    /// What is asked for is no request.
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
    /// The answer breaks off, or has no end.
    #[error("read the answer")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Question {
    /// The metadata of an object.
    pub(super) fn metadata(path: String) -> Self {
        let (accept, body) = (METADATA, Bytes::new());
        Self { method: Method::GET, path, accept, content_type: JSON, body }
    }

    /// That an object be made.
    pub(super) fn create(path: String, object: &impl Serialize) -> Self {
        Self { method: Method::POST, path, accept: JSON, content_type: JSON, body: json(object) }
    }

    /// That an object have what `manager` says of it, and nothing else of that manager's.
    pub(super) fn apply(path: &str, manager: &str, object: &impl Serialize) -> Self {
        let path = format!("{path}?fieldManager={manager}&force=true");
        Self { method: Method::PATCH, path, accept: METADATA, content_type: APPLY, body: json(object) }
    }
}

impl Connection {
    /// Connects.
    pub(super) async fn open(access: Access) -> Result<Self, ConnectionError> {
        let host = access.server.host().unwrap_or_default();
        // An address of IPv6 stands in brackets there.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_tls = access.server.scheme_str() == Some("https");
        let port = access.server.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let server = authority(&access.server);
        let tcp = async {
            let tcp = TcpStream::connect((host, port)).await?;
            // A request is one write: nothing is won by waiting for more.
            tcp.set_nodelay(true)?;
            Ok(tcp)
        };
        let tcp = tcp.await.map_err(|source| ConnectionError::Connect { server: server.clone(), source })?;
        let (sender, task) = if is_tls {
            let name = access.server_name.as_deref().unwrap_or(host);
            let bad = |source| ConnectionError::ServerName { name: name.to_owned(), source };
            let name = ServerName::try_from(name.to_owned()).map_err(bad)?;
            let connector = TlsConnector::from(Arc::new(tls(&access)?));
            let failed = |source| ConnectionError::Tls { server: server.clone(), source };
            speak(connector.connect(name, tcp).await.map_err(failed)?).await
        } else {
            speak(tcp).await
        }
        .map_err(|source| ConnectionError::Http { server, source })?;
        Ok(Self { access, sender, used: Instant::now(), _task: task })
    }

    /// Whether it still takes a request.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed() && self.used.elapsed() < IDLE
    }

    /// Asks, and reads the answer: a refusal is one as well.
    pub(super) async fn ask(
        &mut self,
        question: &Question,
    ) -> Result<Result<Bytes, Status>, ConnectionError> {
        let server = authority(&self.access.server);
        // What is before every path ends with a slash or not.
        let base = self.access.server.path().trim_end_matches('/');
        let mut request = Request::builder()
            .method(question.method.clone())
            .uri(format!("{base}{}", question.path))
            .header(HOST, server.as_str())
            .header(USER_AGENT, concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, question.accept)
            .header(CONTENT_TYPE, question.content_type);
        if let Some(credentials) = self.access.credentials.header()? {
            request = request.header(AUTHORIZATION, credentials);
        }
        let request = request.body(Full::new(question.body.clone()))?;
        let failed = |source| ConnectionError::Http { server, source };
        let answer = self.sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_SIZE).collect().await;
        let body = body.map_err(ConnectionError::Answer)?.to_bytes();
        self.used = Instant::now();
        Ok(if status.is_success() { Ok(body) } else { Err(Status::of(status.as_u16(), &body)) })
    }
}

/// Begins to speak HTTP.
async fn speak<S>(stream: S) -> hyper::Result<(SendRequest<Full<Bytes>>, AbortOnDropHandle<()>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // How it ends shows where something is asked.
    let task = tokio::spawn(async { drop(connection.await) });
    Ok((sender, AbortOnDropHandle::new(task)))
}

/// What is believed of who answers, and shown of who asks.
fn tls(access: &Access) -> Result<ClientConfig, ConnectionError> {
    let mut roots = RootCertStore::empty();
    match &access.roots {
        Roots::These(authorities) => {
            for authority in authorities {
                roots.add(authority.clone()).map_err(ConnectionError::Certificates)?;
            }
        }
        Roots::System => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(ConnectionError::NoRoots);
            }
        }
    }
    // Named, as another crate of a program may bring a second provider, between which rustls does not choose.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(ConnectionError::Certificates)?
        .with_root_certificates(roots);
    match &access.identity {
        Some((certificates, key)) => config.with_client_auth_cert(certificates.clone(), key.clone_key()),
        None => Ok(config.with_no_client_auth()),
    }
    .map_err(ConnectionError::Certificates)
}

/// Host and port of an address that has them.
fn authority(server: &Uri) -> Authority {
    server.authority().cloned().unwrap_or_else(|| Authority::from_static("unknown"))
}

fn json(object: &impl Serialize) -> Bytes {
    serde_json::to_vec(object).expect("these types have string keys and no failing serializer").into()
}
