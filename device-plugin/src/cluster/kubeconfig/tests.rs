use std::fs;

use doorbell_common::error::chain;
use tempfile::TempDir;

use super::*;

const CONFIG: &str = "\
apiVersion: v1
kind: Config
preferences: {}
current-context: here
contexts:
- {name: here, context: {cluster: here, user: me, namespace: x}}
clusters:
- name: here
  cluster: {server: 'https://[fd00::1]:6443/k8s'}
users:
- name: me
  user: {token: mine}
";

fn files(texts: &[&str]) -> (TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let write = |(number, text): (usize, &&str)| {
        let file = folder.path().join(number.to_string());
        fs::write(&file, text).unwrap();
        file
    };
    let files = texts.iter().enumerate().map(write).collect();
    (folder, files)
}

fn read(text: &str) -> Result<Access, KubeconfigError> {
    let (_folder, files) = files(&[text]);
    access(&files)
}

fn refused(text: &str) -> String {
    chain(&read(text).err().unwrap())
}

fn authorization(access: &Access) -> String {
    let header = access.credentials.header().unwrap();
    header.map(|header| header.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[test]
fn the_current_context_says_where_and_who() {
    let access = read(CONFIG).unwrap();
    assert_eq!(access.server.to_string(), "https://[fd00::1]:6443/k8s");
    assert!(matches!(access.roots, Roots::System) && access.identity.is_none());
    assert_eq!(authorization(&access), "Bearer mine");
}

#[test]
fn of_what_two_files_have_the_first_counts() {
    let other = CONFIG.replace("fd00::1", "fd00::2").replace("mine", "other").replace("here", "there");
    let (_folder, both) = files(&["current-context: there\nclusters: null\n", CONFIG, &other]);
    assert_eq!(access(&both).unwrap().server.host(), Some("[fd00::2]"));
    assert_eq!(authorization(&access(&both).unwrap()), "Bearer mine", "both have that user");
}

#[test]
fn who_is_nobody_asks_as_nobody() {
    for text in [CONFIG.replace(", user: me", ""), CONFIG.replace("user: me", "user: you")] {
        assert_eq!(authorization(&read(&text).unwrap()), "");
    }
}

#[test]
fn a_name_and_its_password_are_credentials() {
    let access = read(&CONFIG.replace("token: mine", "username: me, password: open")).unwrap();
    assert_eq!(authorization(&access), "Basic bWU6b3Blbg==");
}

#[test]
fn a_token_in_a_file_is_read_each_time_beside_the_kubeconfig() {
    let (folder, files) = files(&[&CONFIG.replace("token: mine", "tokenFile: token")]);
    let access = access(&files).unwrap();
    for token in ["first", "next"] {
        fs::write(folder.path().join("token"), format!("{token}\n")).unwrap();
        assert_eq!(authorization(&access), format!("Bearer {token}"));
    }
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    let server = "server: 'https://[fd00::1]:6443/k8s'";
    for (good, bad, says) in [
        (
            server,
            "insecure-skip-tls-verify: true, server: 'https://a'",
            "cluster `here`: insecure-skip-tls-verify",
        ),
        (server, "proxy-url: http://a, server: 'https://a'", "cluster `here`: proxy-url is not supported"),
        (
            "token: mine",
            "exec: {command: aws}",
            "user `me`: another program's credentials (exec, auth-provider)",
        ),
        ("token: mine", "auth-provider: {name: oidc}", "user `me`: another program's credentials"),
        ("token: mine", "token: mine, as: admin", "user `me`: another user's name (as)"),
    ] {
        let message = refused(&CONFIG.replace(good, bad));
        assert!(message.starts_with(says), "{message}");
    }
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    for (good, bad, says) in [
        ("current-context: here", "current-context: ''", "there is no current-context"),
        ("current-context: here", "current-context: there", "there is no context `there`"),
        ("cluster: here", "cluster: there", "there is no cluster `there`"),
        ("server: 'https://[fd00::1]:6443/k8s'", "", "cluster `here`: it has no server"),
        (
            "https://[fd00::1]:6443/k8s",
            "fd00::1",
            "cluster `here`: server: `fd00::1` is no address of an API server",
        ),
        (
            "https://[fd00::1]",
            "ftp://a",
            "cluster `here`: server: `ftp://a:6443/k8s` is no address of an API server",
        ),
        (
            "{server:",
            "{certificate-authority-data: '!', server:",
            "cluster `here`: certificate-authority: Invalid",
        ),
        (
            "{server:",
            "{certificate-authority-data: YQ==, server:",
            "cluster `here`: certificate-authority: it has no certificate in PEM",
        ),
        ("token: mine", "client-certificate: none.pem", "user `me`: client-certificate: "),
        ("token: mine", "client-key-data: YQ==", "user `me`: client-key: it has no private key in PEM"),
    ] {
        let message = refused(&CONFIG.replace(good, bad));
        assert!(message.starts_with(says), "{message}");
    }
    let message = refused("users: [\n");
    assert!(message.contains("/0:1: "), "{message}");
    let message = refused("users: 1\n");
    assert!(message.contains("/0 is no kubeconfig: invalid type"), "{message}");
}
