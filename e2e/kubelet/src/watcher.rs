//! The plugin watcher: it asks each socket in `plugins_registry` what it is, and takes device plugins as if they had
//! registered. The kubelet does the same by inotify and a reconciler that looks each second; here it is a look.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorbell_common::kubelet::pluginregistration::registration_client::RegistrationClient;
use doorbell_common::kubelet::pluginregistration::{InfoRequest, PluginInfo, RegistrationStatus};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::plugin::{Plugin, describe};
use crate::registration::{API_VERSION, Registration, is_extended_resource};

const LOOK: Duration = Duration::from_millis(50);

/// What names a socket for its life: the inode, and the time of its last change.
type Identity = (u64, i64, i64);

/// A socket that was asked, and the resource of the plugin where it was taken.
struct Known {
    identity: Identity,
    resource: Option<String>,
}

/// Looks until it is dropped.
pub(crate) async fn watch(registration: Registration) {
    let folder = registration.shared.config.registry();
    let mut known: BTreeMap<PathBuf, Known> = BTreeMap::new();
    loop {
        let now = sockets(&folder);
        known.retain(|path, known| {
            let same = now.get(path) == Some(&known.identity);
            if let (false, Some(resource)) = (same, &known.resource) {
                registration.shared.update(|state| {
                    if let Some(link) = state.plugins.remove(resource) {
                        link.cancel.cancel();
                    }
                });
            }
            same
        });
        for (path, identity) in now {
            if let Entry::Vacant(vacant) = known.entry(path) {
                let resource = register(&registration, vacant.key()).await;
                vacant.insert(Known { identity, resource });
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn sockets(folder: &Path) -> BTreeMap<PathBuf, Identity> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sockets = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok().filter(|metadata| metadata.file_type().is_socket())?;
        Some((entry.path(), (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())))
    });
    sockets.collect()
}

/// The resource, where the plugin is taken.
async fn register(registration: &Registration, socket: &Path) -> Option<String> {
    let mut client = match dial(socket).await {
        Ok(client) => client,
        Err(status) => {
            tracing::info!(socket = %socket.display(), error = describe(&status), "plugin not reached");
            return None;
        }
    };
    let info = client.get_info(InfoRequest {}).await.ok()?.into_inner();
    let resource = info.name.clone();
    let taken = take(registration, socket, info).await;
    let error = taken.as_ref().err().map(describe).unwrap_or_default();
    let status = RegistrationStatus { plugin_registered: taken.is_ok(), error };
    // What the plugin makes of it is its own affair.
    let _ = client.notify_registration_status(status).await;
    taken.ok().map(|()| resource)
}

async fn take(registration: &Registration, socket: &Path, info: PluginInfo) -> Result<(), Status> {
    let PluginInfo { r#type, name, endpoint, supported_versions } = info;
    if r#type != "DevicePlugin" {
        return Err(Status::unknown(format!("no handler registered for plugin type: {type}")));
    }
    if !supported_versions.iter().any(|version| version == API_VERSION) || !is_extended_resource(&name) {
        return Err(Status::unknown(format!("invalid name or versions of device plugin {name}")));
    }
    let endpoint = if endpoint.is_empty() { socket } else { Path::new(&endpoint) };
    let (plugin, options) = Plugin::dial(endpoint).await?;
    registration.connect(name, plugin, options);
    Ok(())
}

async fn dial(socket: &Path) -> Result<RegistrationClient<Channel>, Status> {
    let failed = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display())).map_err(failed)?;
    Ok(RegistrationClient::new(endpoint.connect().await.map_err(failed)?))
}
