//! A client of the Container Runtime Interface, v1. Every call is bounded, and its error carries the runtime's own
//! text, which is where a CNI plugin's message ends up.

use std::{path::Path, time::Duration};

use tokio::time::timeout;
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};

use self::api::{image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient};

/// The CRI's messages, generated from `proto/cri.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod api {
    tonic::include_proto!("runtime.v1");
}

/// The kubelet's own bound on CRI messages.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// A call to the runtime failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CriError {
    /// The runtime cannot be dialled.
    #[error("cannot connect to the container runtime at {socket}: {cause}")]
    Connect {
        /// Its socket.
        socket: String,
        /// The cause.
        cause: String,
    },
    /// It answered with an error.
    #[error("{call} failed with {code:?}: {message}")]
    Call {
        /// The CRI call.
        call: &'static str,
        /// The status code.
        code: Code,
        /// The runtime's text.
        message: String,
    },
    /// It did not answer in time.
    #[error("{call} did not answer within {limit:?}")]
    Timeout {
        /// The CRI call.
        call: &'static str,
        /// The bound.
        limit: Duration,
    },
    /// Its answer lacks what the CRI promises.
    #[error("{call} answered without {lacking}")]
    Incomplete {
        /// The CRI call.
        call: &'static str,
        /// What is not there.
        lacking: &'static str,
    },
}

impl CriError {
    /// The runtime's text, where it sent one.
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Call { message, .. } => Some(message),
            _ => None,
        }
    }
}

/// A condition that the runtime reports of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// "RuntimeReady" or "NetworkReady".
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
    /// Why it does not.
    pub message: String,
}

/// A connection to the runtime; cheap to clone.
#[derive(Clone, Debug)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    image: ImageServiceClient<Channel>,
    limit: Duration,
}

/// Makes a method of each unary call: bounded, with a typed error.
macro_rules! calls {
    ($($client:ident . $method:ident ( $request:ident ) -> $response:ident, $name:literal;)*) => {
        $(
            pub(crate) async fn $method(&self, request: api::$request) -> Result<api::$response, CriError> {
                let mut client = self.$client.clone();
                bounded($name, self.limit, client.$method(request)).await
            }
        )*
    };
}

impl Cri {
    /// Connects, and asks for the version to see that somebody is there.
    pub async fn connect(socket: &Path, limit: Duration) -> Result<Self, CriError> {
        let failed = |cause: String| CriError::Connect { socket: socket.display().to_string(), cause };
        let channel = Endpoint::try_from(format!("unix://{}", socket.display()))
            .map_err(|error| failed(error.to_string()))?
            .connect_lazy();
        let runtime = RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX);
        let image = ImageServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
        let cri = Self { runtime, image, limit };
        cri.version(api::VersionRequest { version: "v1".to_owned() }).await?;
        Ok(cri)
    }

    calls! {
        runtime.version(VersionRequest) -> VersionResponse, "Version";
        runtime.status(StatusRequest) -> StatusResponse, "Status";
        runtime.run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse, "RunPodSandbox";
        runtime.stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse, "StopPodSandbox";
        runtime.remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse, "RemovePodSandbox";
        runtime.pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse, "PodSandboxStatus";
        runtime.list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse, "ListPodSandbox";
        runtime.create_container(CreateContainerRequest) -> CreateContainerResponse, "CreateContainer";
        runtime.start_container(StartContainerRequest) -> StartContainerResponse, "StartContainer";
        runtime.stop_container(StopContainerRequest) -> StopContainerResponse, "StopContainer";
        runtime.list_containers(ListContainersRequest) -> ListContainersResponse, "ListContainers";
        runtime.container_status(ContainerStatusRequest) -> ContainerStatusResponse, "ContainerStatus";
        image.image_status(ImageStatusRequest) -> ImageStatusResponse, "ImageStatus";
    }

    /// Runs a command in a container; `limit` bounds the command, and a little more the call.
    pub(crate) async fn exec_sync(
        &self,
        container_id: String,
        cmd: Vec<String>,
        limit: Duration,
    ) -> Result<api::ExecSyncResponse, CriError> {
        // The CRI counts whole seconds, and takes 0 for no bound at all.
        let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX).max(1);
        let request = api::ExecSyncRequest { container_id, cmd, timeout: seconds };
        let mut client = self.runtime.clone();
        bounded("ExecSync", limit + self.limit, client.exec_sync(request)).await
    }

    /// What the runtime says of itself and of its network.
    pub async fn conditions(&self) -> Result<Vec<Condition>, CriError> {
        let status = self.status(api::StatusRequest { verbose: false }).await?.status;
        let conditions = status.ok_or(CriError::Incomplete { call: "Status", lacking: "status" })?.conditions;
        let condition = |condition: api::RuntimeCondition| Condition {
            name: condition.r#type,
            holds: condition.status,
            message: format!("{}: {}", condition.reason, condition.message),
        };
        Ok(conditions.into_iter().map(condition).collect())
    }

    /// Whether the runtime has an image of that name.
    pub async fn has_image(&self, image: &str) -> Result<bool, CriError> {
        let image = Some(api::ImageSpec { image: image.to_owned() });
        Ok(self.image_status(api::ImageStatusRequest { image }).await?.image.is_some())
    }
}

async fn bounded<T>(
    call: &'static str,
    limit: Duration,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CriError> {
    match timeout(limit, answer).await {
        Err(_) => Err(CriError::Timeout { call, limit }),
        Ok(Err(status)) => Err(status_error(call, &status)),
        Ok(Ok(response)) => Ok(response.into_inner()),
    }
}

pub(crate) fn status_error(call: &'static str, status: &Status) -> CriError {
    CriError::Call { call, code: status.code(), message: status.message().to_owned() }
}
