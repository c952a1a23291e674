//! A connection to a socket of the kubelet's, for the generated clients: it is there, or it is not.
//!
//! tonic's own channel resolves names, dials anew and queues, and would have its code for that in both binaries; of it a
//! call to the kubelet needs the socket.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tower_service::Service;

/// A connection; it closes when it is dropped.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Body>,
    driver: JoinHandle<hyper::Result<()>>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Nobody listens on the socket.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// Who does speaks no HTTP/2.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

impl Connection {
    /// Connects to a socket.
    pub async fn open(socket: &Path) -> Result<Self, ConnectionError> {
        let stream = TokioIo::new(UnixStream::connect(socket).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        // How it ends shows in the request that it ends.
        Ok(Self { sender, driver: tokio::spawn(connection) })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // HTTP/2 wants a host, of which a socket has none: what gRPC's own clients say then.
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(Authority::from_static("localhost"));
        *request.uri_mut() = Uri::from_parts(parts).expect("a path with a scheme and a host is an address");
        Box::pin(self.sender.send_request(request))
    }
}
