//! Kubeconfig files, as far as they say how to reach an API server: where it is, whom to believe, and who asks.
//!
//! Follows Kubernetes' reference of `kubeconfig.v1` and its rules of how several files are one. What would need another
//! program (`exec`, `auth-provider`), somebody in between (`proxy-url`), another name than one's own (`as`), or no proof of
//! who answers (`insecure-skip-tls-verify`) is refused, and never passed over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::access::{Access, AccessError, Credentials, Roots, address, certificates, key, read};
use crate::config;

/// Why kubeconfig files are of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum KubeconfigError {
    /// A file can't be read.
    #[error(transparent)]
    Unreadable(AccessError),
    /// A file is no YAML.
    #[error("{}:{line}: {message}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong there.
        message: String,
    },
    /// A file is something else.
    #[error("{} is no kubeconfig", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What is not as it is there.
        source: serde_json::Error,
    },
    /// No file says which context is meant.
    #[error("there is no current-context")]
    NoContext,
    /// What is named is not there.
    #[error("there is no {0}")]
    Absent(String),
    /// It asks for what is not done, or does not say enough.
    #[error("{whose}: {message}")]
    Unusable {
        /// A cluster or user.
        whose: String,
        /// What is wrong.
        message: &'static str,
    },
    /// What a field has, or the file that it names, is not what it should be.
    #[error("{whose}: {field}")]
    Field {
        /// A cluster or user.
        whose: String,
        /// The field.
        field: &'static str,
        /// Why.
        source: AccessError,
    },
}

/// The files as one.
#[derive(Default)]
struct Kubeconfig {
    current_context: Option<String>,
    contexts: BTreeMap<String, Context>,
    clusters: BTreeMap<String, Cluster>,
    users: BTreeMap<String, User>,
}

/// A file as it is written. It has more than is read here, and what is empty may be null.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    current_context: Option<String>,
    contexts: Option<Vec<NamedContext>>,
    clusters: Option<Vec<NamedCluster>>,
    users: Option<Vec<NamedUser>>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: Option<User>,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: Option<String>,
    tls_server_name: Option<String>,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    proxy_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    username: Option<String>,
    password: Option<String>,
    r#as: Option<IgnoredAny>,
    as_uid: Option<IgnoredAny>,
    as_groups: Option<IgnoredAny>,
    as_user_extra: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
    exec: Option<IgnoredAny>,
}

/// How the API server of the current context is reached. What several files have counts as the first of them has it.
pub(super) fn access(files: &[PathBuf]) -> Result<Access, KubeconfigError> {
    let mut all = Kubeconfig::default();
    for file in files {
        all.add(load(file)?);
    }
    let absent = |kind, name: &str| KubeconfigError::Absent(format!("{kind} `{name}`"));
    let name = all.current_context.as_deref().ok_or(KubeconfigError::NoContext)?;
    let context = all.contexts.get(name).ok_or_else(|| absent("context", name))?;
    let name = context.cluster.as_str();
    let cluster = all.clusters.get(name).ok_or_else(|| absent("cluster", name))?;
    let mut access = cluster.access(&format!("cluster `{name}`"))?;
    // Who is not there is nobody in particular, as for kubectl.
    if let Some((name, user)) = context.user.as_ref().and_then(|name| all.users.get_key_value(name)) {
        user.enter(&format!("user `{name}`"), &mut access)?;
    }
    Ok(access)
}

fn load(file: &Path) -> Result<File, KubeconfigError> {
    let text = read(file).map_err(KubeconfigError::Unreadable)?;
    // As JSON first, like kubectl: the parser's code is in the program once for each type that it reads.
    let document: Value = serde_saphyr::from_slice(&text).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        KubeconfigError::Malformed { file: file.to_owned(), line, message: config::message(&error) }
    })?;
    let foreign = |source| KubeconfigError::Foreign { file: file.to_owned(), source };
    let mut parsed: File = serde_json::from_value(document).map_err(foreign)?;
    // What it names beside it, it names from where it is.
    let folder = file.parent().unwrap_or(Path::new(""));
    for NamedCluster { cluster, .. } in parsed.clusters.iter_mut().flatten() {
        below(folder, [&mut cluster.certificate_authority]);
    }
    for user in parsed.users.iter_mut().flatten().filter_map(|named| named.user.as_mut()) {
        below(folder, [&mut user.token_file, &mut user.client_certificate, &mut user.client_key]);
    }
    Ok(parsed)
}

fn below<const N: usize>(folder: &Path, paths: [&mut Option<PathBuf>; N]) {
    for path in paths.into_iter().flatten().filter(|path| !path.as_os_str().is_empty()) {
        *path = folder.join(&*path);
    }
}

impl Kubeconfig {
    fn add(&mut self, file: File) {
        let File { current_context, contexts, clusters, users } = file;
        self.current_context =
            self.current_context.take().or(current_context.filter(|name| !name.is_empty()));
        for NamedContext { name, context } in contexts.into_iter().flatten() {
            self.contexts.entry(name).or_insert(context);
        }
        for NamedCluster { name, cluster } in clusters.into_iter().flatten() {
            self.clusters.entry(name).or_insert(cluster);
        }
        for NamedUser { name, user } in users.into_iter().flatten() {
            self.users.entry(name).or_insert(user.unwrap_or_default());
        }
    }
}

impl Cluster {
    /// How it is reached by nobody in particular.
    fn access(&self, whose: &str) -> Result<Access, KubeconfigError> {
        let unusable = |message| KubeconfigError::Unusable { whose: whose.to_owned(), message };
        if self.insecure_skip_tls_verify == Some(true) {
            return Err(unusable("insecure-skip-tls-verify would give our token to whoever answers"));
        }
        if given(&self.proxy_url).is_some() {
            return Err(unusable("proxy-url is not supported"));
        }
        let server = given(&self.server).ok_or_else(|| unusable("it has no server"))?;
        let pem = content(&self.certificate_authority_data, &self.certificate_authority);
        let roots =
            pem.and_then(|pem| pem.map_or(Ok(Roots::System), |pem| certificates(&pem).map(Roots::These)));
        Ok(Access {
            server: address(server).map_err(in_field(whose, "server"))?,
            server_name: given(&self.tls_server_name).cloned(),
            roots: roots.map_err(in_field(whose, "certificate-authority"))?,
            identity: None,
            credentials: Credentials::None,
        })
    }
}

impl User {
    /// Has the API server asked by this user.
    fn enter(&self, whose: &str, access: &mut Access) -> Result<(), KubeconfigError> {
        let unusable = |message| KubeconfigError::Unusable { whose: whose.to_owned(), message };
        if self.exec.is_some() || self.auth_provider.is_some() {
            return Err(unusable("another program's credentials (exec, auth-provider) are not supported"));
        }
        if [&self.r#as, &self.as_uid, &self.as_groups, &self.as_user_extra].into_iter().any(Option::is_some) {
            return Err(unusable("another user's name (as) is not supported"));
        }
        let certificate = content(&self.client_certificate_data, &self.client_certificate);
        let certificate = certificate.and_then(|pem| pem.map(|pem| certificates(&pem)).transpose());
        let private = content(&self.client_key_data, &self.client_key);
        let private = private.and_then(|pem| pem.map(|pem| key(&pem)).transpose());
        access.identity = match (
            certificate.map_err(in_field(whose, "client-certificate"))?,
            private.map_err(in_field(whose, "client-key"))?,
        ) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(unusable("of client-certificate and client-key there is only one")),
        };
        let basic = given(&self.username).zip(self.password.as_ref());
        access.credentials = if let Some(token) = given(&self.token) {
            Credentials::Token(token.clone())
        } else if let Some(file) = self.token_file.as_ref().filter(|file| !file.as_os_str().is_empty()) {
            Credentials::TokenFile(file.clone())
        } else if let Some((name, password)) = basic {
            Credentials::Basic(name.clone(), password.clone())
        } else {
            Credentials::None
        };
        Ok(())
    }
}

/// An empty text is none.
fn given(text: &Option<String>) -> Option<&String> {
    text.as_ref().filter(|text| !text.is_empty())
}

/// What stands in the file itself, as base64, goes before what it names.
fn content(data: &Option<String>, file: &Option<PathBuf>) -> Result<Option<Vec<u8>>, AccessError> {
    if let Some(data) = given(data) {
        return Ok(Some(BASE64_STANDARD.decode(data)?));
    }
    file.as_deref().filter(|file| !file.as_os_str().is_empty()).map(read).transpose()
}

fn in_field(whose: &str, field: &'static str) -> impl FnOnce(AccessError) -> KubeconfigError {
    move |source| KubeconfigError::Field { whose: whose.to_owned(), field, source }
}

#[cfg(test)]
mod tests;
