//! A double in a folder of its own, with one plugin registered.

use std::time::Duration;

use doorbell_common::kubelet::deviceplugin::DevicePluginOptions;
use e2e_kubelet::{Admission, ContainerSpec, Kubelet, KubeletConfig, PodSpec, PodUid};
use tempfile::TempDir;

use crate::fake_plugin::FakePlugin;

pub(crate) const RESOURCE: &str = "example.com/x";
/// Long enough for a loaded machine; a test that passes never takes it.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    pub(crate) kubelet: Kubelet,
    pub(crate) plugin: FakePlugin,
    pub(crate) folder: TempDir,
}

impl Node {
    pub(crate) async fn new(ids: &[&str]) -> Self {
        Self::with(ids, DevicePluginOptions::default(), |_| {}).await
    }

    pub(crate) async fn with(
        ids: &[&str],
        options: DevicePluginOptions,
        change: impl FnOnce(&mut KubeletConfig),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = KubeletConfig::new(folder.path());
        config.log_root = folder.path().join("logs");
        change(&mut config);
        let kubelet = Kubelet::start(config).await.unwrap();
        let plugin = plugin(&kubelet, ids, options);
        let node = Self { kubelet, plugin, folder };
        node.register().await;
        node.kubelet.wait_allocatable(RESOURCE, ids.len(), LIMIT).await.unwrap();
        node
    }

    pub(crate) async fn register(&self) {
        self.plugin.register(&self.kubelet.config().registration_socket()).await.unwrap();
    }

    /// Admits a pod of one container, "c", that asks for `count`.
    pub(crate) async fn admit(&self, name: &str, count: usize) -> Admission {
        self.kubelet.admit(pod(name, count)).await.unwrap()
    }

    /// The same, for a pod that is to get its devices at once.
    pub(crate) async fn admitted(&self, name: &str, count: usize) -> PodUid {
        match self.admit(name, count).await {
            Admission::Admitted(uid) => uid,
            pending @ Admission::Pending { .. } => panic!("{pending:?}"),
        }
    }

    pub(crate) fn held(&self, uid: &PodUid) -> Vec<String> {
        self.kubelet.devices(uid, "c").remove(RESOURCE).unwrap_or_default()
    }
}

/// A plugin that serves beside the kubelet and has not registered.
pub(crate) fn plugin(kubelet: &Kubelet, ids: &[&str], options: DevicePluginOptions) -> FakePlugin {
    FakePlugin::serve(&kubelet.config().plugins(), "fake.sock", RESOURCE, ids, options)
}

pub(crate) fn pod(name: &str, count: usize) -> PodSpec {
    PodSpec::new(name).container(ContainerSpec::new("c").resource(RESOURCE, count))
}
