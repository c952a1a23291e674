//! A node's two CNI folders, and `keep-cni` at work on them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use doorbell_common::host::Host;
use doorbell_device_plugin::chain::{self, Folders};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const WITHIN: Duration = Duration::from_secs(20);
pub(crate) const CONFIGS: &str = "/etc/cni/net.d";
pub(crate) const BINARIES: &str = "/opt/cni/bin";
pub(crate) const OURS: &str = r#"{"type": "doorbell", "keptBy": "doorbell-device-plugin keep-cni"}"#;
pub(crate) const MAIN: &str = "10-main.conflist";

/// What a main plugin writes, with an MTU that tells one writing from the next.
pub(crate) fn conflist(mtu: u32) -> String {
    format!(
        "{{\n  \"name\": \"pods\",\n  \"cniVersion\": \"1.0.0\",\n  \"plugins\": [\n    {{\"type\": \"ptp\", \"mtu\": {mtu}}}\n  ]\n}}\n"
    )
}

/// The same with our entry.
pub(crate) fn chained(mtu: u32) -> String {
    conflist(mtu).replace("}\n  ]", &format!("}},\n    {OURS}\n  ]"))
}

/// A node's two folders.
pub(crate) struct Node {
    pub(crate) root: tempfile::TempDir,
}

impl Node {
    /// With the binary.
    pub(crate) fn new() -> Self {
        let node = Self { root: tempfile::tempdir().unwrap() };
        for folder in [CONFIGS, BINARIES] {
            node.host().make_folder(folder).unwrap();
        }
        node.install();
        node
    }

    pub(crate) fn host(&self) -> Host {
        Host::at(self.root.path())
    }

    pub(crate) fn folders(&self) -> Folders {
        Folders { configs: CONFIGS.to_owned(), binaries: BINARIES.into() }
    }

    pub(crate) fn binary(&self) -> PathBuf {
        self.host().path(BINARIES).join("doorbell")
    }

    pub(crate) fn install(&self) {
        self.host().keep_program(format!("{BINARIES}/doorbell"), b"#!").unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.host().path(CONFIGS).join(name)
    }

    /// `None` where there is no such file.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }

    /// As most main plugins write.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        fs::write(self.path("their.tmp"), text).unwrap();
        fs::rename(self.path("their.tmp"), self.path(name)).unwrap();
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.host().list(CONFIGS).unwrap()
    }

    pub(crate) fn keep(self) -> Keeping {
        self.keep_with(true)
    }

    /// With an entry, or until the end alone.
    pub(crate) fn keep_with(self, entry: bool) -> Keeping {
        let keeping = chain::Keeping { entry, remove_binary: true };
        let (told, until_told) = oneshot::channel();
        let (uninstalled, is_uninstalled) = oneshot::channel();
        let (host, folders) = (self.host(), self.folders());
        let task = tokio::spawn(async move {
            let told = async { drop(until_told.await) };
            chain::keep(&host, &folders, keeping, told, async || is_uninstalled.await.unwrap()).await
        });
        Keeping { node: self, task, told, uninstalled }
    }
}

/// `keep-cni` at work on a node.
pub(crate) struct Keeping {
    pub(crate) node: Node,
    task: JoinHandle<anyhow::Result<()>>,
    told: oneshot::Sender<()>,
    uninstalled: oneshot::Sender<bool>,
}

impl Keeping {
    pub(crate) async fn until(&self, reached: impl Fn(&Node) -> bool) {
        let waiting = async {
            while !reached(&self.node) {
                assert!(!self.task.is_finished(), "it keeps on");
                tokio::task::yield_now().await;
            }
        };
        let outcome = tokio::time::timeout(WITHIN, waiting).await;
        assert!(
            outcome.is_ok(),
            "{:?}",
            self.node.names().iter().map(|name| (name, self.node.text(name))).collect::<Vec<_>>()
        );
    }

    pub(crate) async fn becomes(&self, name: &str, text: &str) {
        self.until(|node| node.text(name).as_deref() == Some(text)).await;
    }

    /// Returns the node, as the end has left it.
    pub(crate) async fn end(self, is_uninstalled: bool) -> (Node, anyhow::Result<()>) {
        self.uninstalled.send(is_uninstalled).unwrap();
        self.told.send(()).unwrap();
        let ended = tokio::time::timeout(WITHIN, self.task).await.unwrap().unwrap();
        assert!(!self.node.names().iter().any(|name| name.ends_with("-new")), "nothing half is left");
        (self.node, ended)
    }
}
