//! What it takes to reach the API server: its address, whom to believe, and who asks; for a pod, by its service account.
//!
//! Files are read when a connection is made, and a token with each request: the kubelet renews both while a pod runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::Uri;
use hyper::header::{HeaderValue, InvalidHeaderValue};
use hyper::http::uri::InvalidUri;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::ServiceAccount;

/// An API server, and who asks it.
pub(super) struct Access {
    /// Its address: scheme, host, port, and what is before every path.
    pub(super) server: Uri,
    /// The name in its certificate, where that is not the host of the address.
    pub(super) server_name: Option<String>,
    /// Who has signed its certificate.
    pub(super) roots: Roots,
    /// Our own certificates, and the key of the first.
    pub(super) identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// What else says who we are.
    pub(super) credentials: Credentials,
}

/// Authorities that are believed.
pub(super) enum Roots {
    /// These.
    These(Vec<CertificateDer<'static>>),
    /// Those of this system.
    System,
}

/// Who we are, by a header of each request.
pub(super) enum Credentials {
    /// By none.
    None,
    /// By a name and its password.
    Basic(String, String),
    /// By a token.
    Token(String),
    /// By the token that a file has at that moment.
    TokenFile(PathBuf),
}

/// Why the API server can't be reached by what is given.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccessError {
    /// This is no pod of a cluster.
    #[error("{0} is not set")]
    Unset(&'static str),
    /// A file can't be read.
    #[error("{}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in a file is of no use.
    #[error("{}", file.display())]
    In {
        /// The file.
        file: PathBuf,
        /// What.
        source: Box<AccessError>,
    },
    /// No address.
    #[error("`{0}` is no address of an API server: expected https://host:port")]
    Address(String),
    /// An address that can't be read.
    #[error("`{address}` is no address of an API server")]
    BadAddress {
        /// It.
        address: String,
        /// Why.
        source: InvalidUri,
    },
    /// No base64.
    #[error(transparent)]
    Base64(#[from] base64::DecodeError),
    /// No PEM, or nothing in it of the kind that is wanted.
    #[error("it has no {0} in PEM: {1}")]
    Pem(&'static str, pem::Error),
    /// What no header can carry.
    #[error("a token or password has letters that no header carries")]
    Header(#[from] InvalidHeaderValue),
}

impl Access {
    /// As a pod reaches it.
    pub(super) fn of_pod(account: &ServiceAccount) -> Result<Self, AccessError> {
        let ServiceAccount { host, port, folder } = account;
        let host = host.as_deref().ok_or(AccessError::Unset(ServiceAccount::HOST))?;
        let port = port.as_deref().ok_or(AccessError::Unset(ServiceAccount::PORT))?;
        // An IPv6 address stands in brackets where a port follows.
        let server = if host.contains(':') {
            format!("https://[{host}]:{port}")
        } else {
            format!("https://{host}:{port}")
        };
        let authority = folder.join("ca.crt");
        let roots = certificates(&read(&authority)?);
        let token = folder.join("token");
        // Without one this is a pod whose service account is not mounted: better said now than by a refusal.
        read(&token)?;
        Ok(Self {
            server: address(&server)?,
            server_name: None,
            roots: Roots::These(
                roots.map_err(|source| AccessError::In { file: authority, source: Box::new(source) })?,
            ),
            identity: None,
            credentials: Credentials::TokenFile(token),
        })
    }
}

impl Credentials {
    /// The header `Authorization`.
    pub(super) fn header(&self) -> Result<Option<HeaderValue>, AccessError> {
        let text = match self {
            Self::None => return Ok(None),
            Self::Basic(name, password) => {
                format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
            }
            Self::Token(token) => format!("Bearer {}", token.trim()),
            Self::TokenFile(file) => {
                let token = read(file)?;
                format!("Bearer {}", String::from_utf8_lossy(&token).trim())
            }
        };
        let mut header = HeaderValue::try_from(text)?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}

/// An address of an API server.
pub(super) fn address(text: &str) -> Result<Uri, AccessError> {
    let bad = |source| AccessError::BadAddress { address: text.to_owned(), source };
    let address: Uri = text.parse().map_err(bad)?;
    match (address.scheme_str(), address.host()) {
        (Some("http" | "https"), Some(_)) => Ok(address),
        _ => Err(AccessError::Address(text.to_owned())),
    }
}

/// The content of a file.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, AccessError> {
    fs::read(file).map_err(|source| AccessError::File { file: file.to_owned(), source })
}

/// All certificates of a text in PEM, of which there is one at least.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let bad = |error| AccessError::Pem("certificate", error);
    let all = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>().map_err(bad)?;
    if all.is_empty() { Err(bad(pem::Error::NoItemsFound)) } else { Ok(all) }
}

/// The first private key of a text in PEM.
pub(super) fn key(text: &[u8]) -> Result<PrivateKeyDer<'static>, AccessError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| AccessError::Pem("private key", error))
}
