//! `v1beta1.Registration`, and what follows from it: the plugin is dialled, its list of devices is followed until
//! the stream ends, and a resource whose plugin stays away for longer than the grace is dropped.

use std::{path::Path, sync::Arc};

use doorbell_common::kubelet::deviceplugin::{
    DevicePluginOptions, Empty, RegisterRequest, registration_server::Registration as RegistrationApi,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status};

use crate::{
    devices::Endpoint,
    plugin::{Plugin, describe},
    state::{PluginLink, Shared},
};

pub(crate) const API_VERSION: &str = "v1beta1";

/// The service on kubelet.sock.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

#[tonic::async_trait]
impl RegistrationApi for Registration {
    /// Refusals are in the kubelet's words. The plugin is dialled before the answer, so a plugin that registers
    /// before it serves is refused.
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let RegisterRequest { version, endpoint, resource_name, options: _ } = request.into_inner();
        if version != API_VERSION {
            return Err(Status::unknown(format!(
                "requested API version {version:?} is not supported by kubelet. Supported version is [{API_VERSION:?}]"
            )));
        }
        if !is_extended_resource(&resource_name) {
            return Err(Status::unknown(format!("the ResourceName {resource_name:?} is invalid")));
        }
        let socket = self.shared.config.plugins().join(&endpoint);
        let (plugin, options) = Plugin::dial(&socket).await?;
        self.connect(resource_name, plugin, options);
        Ok(Response::new(Empty {}))
    }
}

impl Registration {
    /// Takes a plugin that was dialled as a resource's, and follows its lists.
    pub(crate) fn connect(&self, resource: String, plugin: Plugin, options: DevicePluginOptions) {
        let cancel = self.stop.child_token();
        let link = PluginLink { plugin: plugin.clone(), cancel: cancel.clone() };
        let serial = self.shared.update(|state| {
            let serial = state.next();
            state.table.connect(&resource, serial, options);
            // The newest registration wins; the one before is not listened to any more.
            if let Some(before) = state.plugins.insert(resource.clone(), link) {
                before.cancel.cancel();
            }
            serial
        });
        tracing::info!(resource, "device plugin registered");
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(cancel.run_until_cancelled_owned(async move {
            follow(&shared, &plugin, &resource, serial).await;
        }));
    }
}

/// Follows one registration to the end of its stream and through the grace after it.
async fn follow(shared: &Shared, plugin: &Plugin, resource: &str, serial: u64) {
    if let Err(status) = follow_lists(shared, plugin, resource, serial).await {
        tracing::info!(resource, error = describe(&status), "ListAndWatch ended");
    }
    if !shared.update(|state| state.table.disconnect(resource, serial)) {
        return;
    }
    let stopped = shared.read(|state| state.table.get(resource).map(|resource| resource.endpoint));
    if let Some(stopped) = stopped {
        expire_after_grace(shared, resource, stopped).await;
    }
}

async fn follow_lists(shared: &Shared, plugin: &Plugin, resource: &str, serial: u64) -> Result<(), Status> {
    let mut lists = plugin.list_and_watch().await?;
    while let Some(list) = lists.message().await? {
        shared.update(|state| state.table.list(resource, serial, list.devices));
    }
    Ok(())
}

/// Drops a resource that nobody registers within the grace. (The kubelet looks when it next reports node status.)
pub(crate) async fn expire_after_grace(shared: &Shared, resource: &str, stopped: Endpoint) {
    tokio::time::sleep(shared.config.stop_grace).await;
    if shared.update(|state| state.table.expire(resource, stopped)) {
        tracing::info!(resource, "grace over, resource dropped");
    }
}

/// Removes every socket in the folder, as the kubelet does when it starts: plugins take it as the sign to register
/// anew. Folders and plain files, the checkpoint among them, stay.
pub(crate) fn remove_sockets(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_socket() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether `name` is an extended resource: `<DNS subdomain>/<qualified name>`, outside of kubernetes.io, not a
/// quota's name.
pub(crate) fn is_extended_resource(name: &str) -> bool {
    let Some((domain, name)) = name.split_once('/') else { return false };
    let native = domain.ends_with("kubernetes.io");
    let alphanumeric_ends = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let label = |label: &str| {
        alphanumeric_ends(label)
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    // The name has to be valid with the quota's prefix "requests." before it too, hence 253 less 9.
    !native
        && !domain.starts_with("requests.")
        && domain.len() <= 244
        && domain.split('.').all(label)
        && name.len() <= 63
        && alphanumeric_ends(name)
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use super::*;

    #[test]
    fn resource_names_are_checked_as_the_kubelet_does() {
        for good in ["doorbell.dev/net", "a.b/C_d.e-1", "example.com/x"] {
            assert!(is_extended_resource(good), "{good}");
        }
        for bad in [
            "net",
            "kubernetes.io/net",
            "x.kubernetes.io/net",
            "requests.a/net",
            "a/b/c",
            "A.b/c",
            "a/-c",
            "a/",
        ] {
            assert!(!is_extended_resource(bad), "{bad}");
        }
    }

    #[test]
    fn only_sockets_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("kubelet_internal_checkpoint"), "").unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let _listener = UnixListener::bind(folder.path().join("plugin.sock")).unwrap();
        remove_sockets(folder.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["folder", "kubelet_internal_checkpoint"]);
    }
}
