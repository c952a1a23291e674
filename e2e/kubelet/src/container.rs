//! Containers of a sandbox: made of the spec and of exactly what the device plugins answered, started after
//! PreStartContainer, watched to their end.

use std::{path::PathBuf, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    allocations::RunOptions,
    cri::{CriError, api},
    kubelet::Kubelet,
    lifecycle::PodError,
    pod::{ContainerSpec, PodSpec, PodUid},
    sandbox::{namespaces, pod_labels},
    state::ContainerRecord,
};

const LABEL_CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// How often a container that is waited for is looked at. The kubelet looks once a second; the CRI's events are
/// no way out, since the answer to GetContainerEvents begins with the first event, so that nobody can tell when
/// he has subscribed.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// Seconds from SIGTERM to SIGKILL. Far below the kubelet's 30: the tests' containers have nothing to save.
const STOP_SECONDS: i64 = 2;

/// Paths that the kubelet hides from, and makes read-only for, every container that does not ask otherwise.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a command in a container left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Its exit code.
    pub exit: i32,
}

impl Kubelet {
    /// Asks the plugins, then makes and starts one container in the pod's sandbox. It may have run before: then
    /// this is its next attempt, with the same devices and the same answer.
    pub async fn start_container(&self, uid: &PodUid, name: &str) -> Result<(), PodError> {
        let runtime = self.runtime()?;
        let spec = self.admitted(uid)?;
        let container = spec.find(name).ok_or_else(|| PodError::no_container(uid, name))?;
        let (sandbox, attempt) = self
            .shared
            .read(|state| {
                let pod = state.pods.get(uid)?;
                let before = pod.containers.get(name).map_or(0, |container| container.attempt + 1);
                Some((pod.sandbox.clone()?, before))
            })
            .ok_or_else(|| PodError::NoSandbox(uid.clone()))?;
        let options = self.pre_start(uid, name).await?;

        let sandbox_config = self.sandbox_config(&spec, 0);
        let folder = PathBuf::from(&sandbox_config.log_directory).join(name);
        std::fs::create_dir_all(&folder).map_err(|source| PodError::Logs { path: folder, source })?;
        let request = api::CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(container_config(&spec, container, &options, attempt)),
            sandbox_config: Some(sandbox_config),
        };
        let id = runtime.create_container(request).await?.container_id;
        self.shared.update(|state| {
            if let Some(pod) = state.pods.get_mut(uid) {
                pod.containers.insert(name.to_owned(), ContainerRecord { id: id.clone(), attempt, sandbox });
            }
        });
        runtime.start_container(api::StartContainerRequest { container_id: id }).await?;
        Ok(())
    }

    /// Ends a container and starts it again in the same sandbox, as the kubelet does with one that died.
    pub async fn restart_container(&self, uid: &PodUid, name: &str) -> Result<(), PodError> {
        let id = self.container_id(uid, name)?;
        self.stop_container(&id).await?;
        self.start_container(uid, name).await
    }

    /// Runs a command in a container, for `limit` at most.
    pub async fn exec<S: Into<String>>(
        &self,
        uid: &PodUid,
        name: &str,
        argv: impl IntoIterator<Item = S>,
        limit: Duration,
    ) -> Result<Exec, PodError> {
        let id = self.container_id(uid, name)?;
        let argv = argv.into_iter().map(Into::into).collect();
        let response = self.runtime()?.exec_sync(id, argv, limit).await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Exec { stdout: text(response.stdout), stderr: text(response.stderr), exit: response.exit_code })
    }

    /// Waits for a container's end and answers its exit code.
    pub async fn wait_exit(&self, uid: &PodUid, name: &str, limit: Duration) -> Result<i32, PodError> {
        let id = self.container_id(uid, name)?;
        let end = Instant::now() + limit;
        loop {
            let status = self.container_status(&id).await?;
            if status.state == api::ContainerState::ContainerExited as i32 {
                return Ok(status.exit_code);
            }
            if Instant::now() >= end {
                return Err(PodError::StillRunning { container: name.to_owned(), limit });
            }
            sleep(STATUS_INTERVAL).await;
        }
    }

    /// The runtime's id of the container's latest attempt, in the pod's newest sandbox.
    pub fn container_id(&self, uid: &PodUid, name: &str) -> Result<String, PodError> {
        let id = self.shared.read(|state| {
            let pod = state.pods.get(uid)?;
            let container = pod.containers.get(name)?;
            (pod.sandbox.as_ref() == Some(&container.sandbox)).then(|| container.id.clone())
        });
        id.ok_or_else(|| PodError::no_container(uid, name))
    }

    pub(crate) async fn stop_container(&self, id: &str) -> Result<(), PodError> {
        let request = api::StopContainerRequest { container_id: id.to_owned(), timeout: STOP_SECONDS };
        self.runtime()?.stop_container(request).await?;
        Ok(())
    }

    async fn container_status(&self, id: &str) -> Result<api::ContainerStatus, PodError> {
        let request = api::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let status = self.runtime()?.container_status(request).await?.status;
        Ok(status.ok_or(CriError::Incomplete { call: "ContainerStatus", lacking: "status" })?)
    }
}

/// The container as the runtime is told of it: unprivileged, the plugins' answers before the spec's own, so that the
/// spec's variables win.
fn container_config(
    pod: &PodSpec,
    container: &ContainerSpec,
    options: &RunOptions,
    attempt: u32,
) -> api::ContainerConfig {
    let key_value =
        |(key, value): (&String, &String)| api::KeyValue { key: key.clone(), value: value.clone() };
    let answered = options.mounts.iter().map(|mount| api::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.clone(),
        readonly: mount.read_only,
        propagation: api::MountPropagation::PropagationPrivate as i32,
    });
    let propagation = |follows| match follows {
        true => api::MountPropagation::PropagationHostToContainer,
        false => api::MountPropagation::PropagationPrivate,
    };
    let own = container.mounts.iter().map(|mount| api::Mount {
        container_path: mount.container.display().to_string(),
        host_path: mount.host.display().to_string(),
        readonly: mount.read_only,
        propagation: propagation(mount.follows) as i32,
    });
    let devices = options.devices.iter().map(|device| api::Device {
        container_path: device.container_path.clone(),
        host_path: device.host_path.clone(),
        permissions: device.permissions.clone(),
    });
    let mut labels = pod_labels(pod);
    labels.insert(LABEL_CONTAINER_NAME.to_owned(), container.name.clone());
    api::ContainerConfig {
        metadata: Some(api::ContainerMetadata { name: container.name.clone(), attempt }),
        image: Some(api::ImageSpec { image: container.image.clone() }),
        command: container.command.clone(),
        args: container.args.clone(),
        envs: options.envs.iter().chain(&container.env).map(key_value).collect(),
        mounts: answered.chain(own).collect(),
        devices: devices.collect(),
        labels: labels.into_iter().collect(),
        annotations: options.annotations.clone().into_iter().collect(),
        log_path: log_path(&container.name, attempt),
        linux: Some(linux(pod, container)),
        cdi_devices: options.cdi_devices.iter().map(|name| api::CdiDevice { name: name.clone() }).collect(),
    }
}

/// What a BestEffort pod's container gets of the kubelet, but for a limit that it has.
fn linux(pod: &PodSpec, container: &ContainerSpec) -> api::LinuxContainerConfig {
    let paths = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
    let memory_limit_in_bytes = container.memory.map_or(0, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    api::LinuxContainerConfig {
        resources: Some(api::LinuxContainerResources {
            cpu_shares: 2,
            memory_limit_in_bytes,
            oom_score_adj: 1000,
        }),
        security_context: Some(api::LinuxContainerSecurityContext {
            capabilities: Some(api::Capability {
                add_capabilities: container.capabilities.clone(),
                drop_capabilities: container.dropped.clone(),
            }),
            privileged: container.privileged,
            namespace_options: Some(namespaces(pod)),
            run_as_user: container.user.map(|id| api::Int64Value { value: id.into() }),
            run_as_group: container.group.map(|id| api::Int64Value { value: id.into() }),
            readonly_rootfs: container.read_only_root,
            masked_paths: paths(&MASKED),
            readonly_paths: paths(&READ_ONLY),
        }),
    }
}

/// Where the runtime writes the log, below the pod's log folder.
pub(crate) fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

#[cfg(test)]
mod tests {
    use doorbell_common::kubelet::deviceplugin::{DeviceSpec, Mount};

    use super::*;

    #[test]
    fn the_answer_reaches_the_runtime_as_it_is() {
        let options = RunOptions {
            envs: [("A".to_owned(), "plugin".to_owned())].into(),
            mounts: vec![Mount {
                container_path: "/c".to_owned(),
                host_path: "/h".to_owned(),
                read_only: true,
            }],
            devices: vec![DeviceSpec {
                container_path: "/dev/vfio/1".to_owned(),
                host_path: "/dev/vfio/7".to_owned(),
                permissions: "rw".to_owned(),
            }],
            annotations: [("k".to_owned(), "v".to_owned())].into(),
            cdi_devices: vec!["doorbell.dev/net=0000:01:00.1".to_owned()],
        };
        let container = ContainerSpec::new("c").env("A", "spec").mount("/own", "/mine");
        let config = container_config(&PodSpec::new("p"), &container, &options, 3);
        let envs: Vec<_> = config.envs.iter().map(|env| env.value.as_str()).collect();
        assert_eq!(envs, ["plugin", "spec"]);
        assert_eq!(config.mounts[0].host_path, "/h");
        assert!(config.mounts[0].readonly && !config.mounts[1].readonly);
        let device = &config.devices[0];
        assert_eq!(
            [&device.container_path, &device.host_path, &device.permissions],
            ["/dev/vfio/1", "/dev/vfio/7", "rw"]
        );
        assert_eq!(config.annotations["k"], "v");
        assert_eq!(config.cdi_devices[0].name, "doorbell.dev/net=0000:01:00.1");
        assert_eq!(config.log_path, "c/3.log");
    }

    #[test]
    fn a_container_runs_as_the_user_that_it_asks_for() {
        let container = ContainerSpec::new("c").run_as_user(1000).run_as_group(1001);
        let security = linux(&PodSpec::new("p"), &container).security_context.unwrap();
        assert_eq!([security.run_as_user, security.run_as_group].map(|id| id.unwrap().value), [1000, 1001]);
    }

    #[test]
    fn a_container_is_unprivileged_unless_told() {
        let security = linux(&PodSpec::new("p"), &ContainerSpec::new("c")).security_context.unwrap();
        assert!(security.capabilities.unwrap().add_capabilities.is_empty());
        assert!(security.masked_paths.contains(&"/sys/firmware".to_owned()));
    }
}
