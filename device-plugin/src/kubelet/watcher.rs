//! What the kubelet's plugin watcher asks of a socket that it finds.

use doorbell_common::kubelet::deviceplugin::VERSION;
use doorbell_common::kubelet::pluginregistration::registration_server::Registration;
use doorbell_common::kubelet::pluginregistration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use crate::config::PoolName;

/// The kubelet's name for plugins like ours.
const TYPE: &str = "DevicePlugin";

/// Answers for one pool.
#[derive(Debug, Clone)]
pub(super) struct Watcher {
    pool: PoolName,
    resource: String,
}

impl Watcher {
    pub(super) fn new(pool: PoolName, resource: String) -> Self {
        Self { pool, resource }
    }
}

#[tonic::async_trait]
impl Registration for Watcher {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: TYPE.to_owned(),
            name: self.resource.clone(),
            // The device plugin's service is on this socket too.
            endpoint: String::new(),
            supported_versions: vec![VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        status: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus { plugin_registered, error } = status.into_inner();
        if plugin_registered {
            info!(pool = %self.pool, resource = self.resource, "registered");
        } else {
            warn!(pool = %self.pool, resource = self.resource, error, "the kubelet does not take the plugin");
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
