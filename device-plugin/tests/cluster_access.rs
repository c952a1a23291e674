//! How the API server is reached: by a pod's service account as the kubelet renews it, by kubeconfig files, and by nobody who
//! can't show who he is.

// Helpers of tests are tests.
#![cfg(feature = "kube")]
#![allow(clippy::unwrap_used)]

mod api;
mod node;
mod running;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::{Api, Authority, Objects, TOKEN};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use doorbell_device_plugin::cluster::{Cluster, Reach, ServiceAccount, is_uninstalled};
use doorbell_device_plugin::run::Beside;
use node::Node;
use running::{FAST, REST, Running, config};
use serde_json::{Value, json};
use tempfile::TempDir;

const NODE: &str = "node-1";
/// Long enough for one try, and for none after it.
const A_TRY: Duration = Duration::from_millis(900);

/// A service account's mount.
fn mount(authority: &str, token: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ca.crt"), authority).unwrap();
    fs::write(folder.path().join("token"), token).unwrap();
    folder
}

fn account(folder: &Path, address: SocketAddr) -> Reach {
    let (host, port) = (Some(address.ip().to_string()), Some(address.port().to_string()));
    Reach::ServiceAccount(ServiceAccount { host, port, folder: folder.to_owned() })
}

/// A kubeconfig of one cluster and one user.
fn kubeconfig(folder: &Path, cluster: &Value, user: &Value) -> PathBuf {
    let file = folder.join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here", "preferences": {},
        "clusters": [{ "name": "double", "cluster": cluster }],
        "users": [{ "name": "plugin", "user": user }],
        "contexts": [{ "name": "here", "context": { "cluster": "double", "user": "plugin", "namespace": "x" } }],
    });
    fs::write(&file, text.to_string()).unwrap();
    file
}

/// Whether the API server is heard: it knows no DaemonSet, and so says that there is none.
async fn is_heard(reach: &Reach) -> bool {
    is_uninstalled(reach, &"kube-system/doorbell".parse().unwrap(), A_TRY).await
}

#[tokio::test]
async fn a_pod_believes_the_authority_that_it_is_given_and_no_other() {
    let (ours, other) = (Authority::new(), Authority::new());
    let api = Api::over_tls(Objects::default(), &ours.signs("127.0.0.1"), None).await;
    let folder = mount(&other.pem(), TOKEN);
    assert!(!is_heard(&account(folder.path(), api.address())).await, "it is of another authority");
    assert_eq!(api.requests(), 0, "nobody is asked, and nobody told our token");
    // While authorities change, the mount has both.
    fs::write(folder.path().join("ca.crt"), other.pem() + &ours.pem()).unwrap();
    assert!(is_heard(&account(folder.path(), api.address())).await);
}

#[tokio::test]
async fn a_certificate_of_another_name_is_believed_where_that_name_is_given() {
    let authority = Authority::new();
    let api = Api::over_tls(Objects::default(), &authority.signs("kubernetes.default.svc"), None).await;
    let folder = mount(&authority.pem(), TOKEN);
    assert!(!is_heard(&account(folder.path(), api.address())).await);
    assert_eq!(api.requests(), 0);
    let mut cluster =
        json!({ "server": format!("https://{}", api.address()), "certificate-authority": "ca.crt" });
    let user = json!({ "tokenFile": "token" });
    let reach = |cluster: &Value| Reach::Kubeconfig(vec![kubeconfig(folder.path(), cluster, &user)]);
    assert!(!is_heard(&reach(&cluster)).await);
    cluster["tls-server-name"] = "kubernetes.default.svc".into();
    assert!(is_heard(&reach(&cluster)).await);
}

#[tokio::test]
async fn who_asks_may_be_known_by_a_certificate() {
    let authority = Authority::new();
    let api = Api::over_tls(Objects::default(), &authority.signs("127.0.0.1"), Some(&authority)).await;
    let folder = tempfile::tempdir().unwrap();
    let own = authority.signs("plugin");
    let base64 = |text: &str| BASE64_STANDARD.encode(text);
    let cluster = json!({
        "server": format!("https://{}", api.address()), "certificate-authority-data": base64(&authority.pem()),
    });
    let reach = |user: &Value| Reach::Kubeconfig(vec![kubeconfig(folder.path(), &cluster, user)]);
    assert!(!is_heard(&reach(&json!({ "token": TOKEN }))).await);
    assert_eq!(api.requests(), 0);
    let user = json!({
        "client-certificate-data": base64(&own.certificate), "client-key-data": base64(&own.key), "token": TOKEN,
    });
    assert!(is_heard(&reach(&user)).await);
    // In one file, as the kubelet has its own.
    fs::write(folder.path().join("own.pem"), own.certificate + &own.key).unwrap();
    let user = json!({ "client-certificate": "own.pem", "client-key": "own.pem", "token": TOKEN });
    assert!(is_heard(&reach(&user)).await);
}

/// The kubelet renews the token of a pod that runs, at four fifths of its time.
#[tokio::test]
async fn a_token_that_is_renewed_is_the_one_that_is_sent() {
    let authority = Authority::new();
    let api = Api::over_tls(Objects::default().node(NODE), &authority.signs("127.0.0.1"), None).await;
    let folder = mount(&authority.pem(), TOKEN);
    let reach = account(folder.path(), api.address());
    let cluster = Some(Cluster { node: NODE.parse().unwrap(), reach, events: false, labels: true });
    let beside = Beside { cluster, ..Beside::default() };
    let running = Running::beside(Node::with(&[node::GOOD]), &[FAST], beside);
    let before = api.until("applied", |objects| objects.applied == 1).await;
    api.change(|objects| "the-next".clone_into(&mut objects.token));
    fs::write(folder.path().join("token"), "the-next\n").unwrap();
    config(&running.node, "2", &[REST]);
    let after = api.until("applied again", |objects| objects.applied == 2).await;
    assert_eq!(after.requests - before.requests, 2, "none was refused");
    running.ends().await;
}
