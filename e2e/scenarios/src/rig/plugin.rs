//! The device plugin as a process, and its `scan`.

use std::io::Write;
use std::mem;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use doorbell_common::kubelet::deviceplugin::device_plugin_client::DevicePluginClient;
use doorbell_common::kubelet::deviceplugin::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse, PreStartContainerRequest,
};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::rig::node::{BIN, command};
use crate::rig::until;

/// Where its config goes.
pub(crate) const CONFIG: &str = "/etc/doorbell/config.yaml";
/// The resource of the pool that most scenarios have.
pub(crate) const FAST: &str = "doorbell.dev/fast";
/// A config whose one pool has nothing here: all that another config wanted is wanted no more.
pub(crate) const WITHOUT: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: other
  access: vfio
  select: {pfNames: ['0000:09:00.0']}
";
/// The resource of that pool.
pub(crate) const OTHER: &str = "doorbell.dev/other";
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// The plugin, running; killed when dropped. Its log goes to the scenario's stderr, and is kept.
pub(crate) struct Plugin {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: JoinSet<()>,
}

impl Plugin {
    /// Loads the driver as an administrator would, writes the config and starts the plugin.
    pub(crate) async fn start(config: &str) -> Result<Self> {
        Self::start_under(&[], config).await
    }

    /// Likewise, by another program that is given its command line.
    pub(crate) async fn start_under(by: &[&str], config: &str) -> Result<Self> {
        write_config(config)?;
        Self::as_configured(by).await
    }

    /// Starts it with the config that is there.
    pub(crate) async fn start_as_configured() -> Result<Self> {
        Self::as_configured(&[]).await
    }

    async fn as_configured(by: &[&str]) -> Result<Self> {
        command("modprobe", &["vfio-pci"]).await?;
        let program = program();
        let mut words = by.iter().copied().chain([program.as_str(), "run", "--config", CONFIG]);
        let mut child = Command::new(words.next().context("no program")?)
            .args(words)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Of its own, with what runs it: strace that is killed lets go of it.
            .process_group(0)
            .spawn()
            .context("start the plugin")?;
        let stderr = child.stderr.take().context("the plugin has no stderr")?;
        let (log, mut reader) = (Arc::default(), JoinSet::new());
        reader.spawn(keep(stderr, Arc::clone(&log)));
        Ok(Self { child, log, reader })
    }

    /// Waits for a line of its log that has all of these in it; the line from its level on.
    pub(crate) async fn logged(&self, words: &[&str]) -> Result<String> {
        let find = || {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let line = log.iter().find(|line| words.iter().all(|word| line.contains(word)))?;
            Some(from_level(line).to_owned())
        };
        until(&format!("the plugin's log has {words:?}"), || find().is_some()).await?;
        find().context("a line of the log went away")
    }

    /// What it has warned of so far.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().filter(|line| line.contains(" WARN ")).cloned().collect()
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) async fn terminate(mut self) -> Result<ExitStatus> {
        let pid = self.child.id().context("the plugin has ended already")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        let Ok(status) = tokio::time::timeout(ENDS_WITHIN, self.child.wait()).await else {
            bail!("the plugin is still there {ENDS_WITHIN:?} after SIGTERM");
        };
        // Its last lines.
        mem::take(&mut self.reader).join_all().await;
        Ok(status?)
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        if let Some(group) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // It fails where all of it has ended.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// A line of its log without the time.
pub(crate) fn from_level(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(_, line)| line.trim_start())
}

/// Passes the log on, a line at a time, and keeps it.
async fn keep(stderr: ChildStderr, log: Arc<Mutex<Vec<String>>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // Where nobody listens, it is kept all the same.
        let _ = writeln!(std::io::stderr(), "{line}");
        log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// `scan` as a person sees it.
pub(crate) async fn scan_table() -> Result<String> {
    command(&program(), &["scan", "--config", CONFIG]).await
}

/// `scan` as a program sees it: a row a VF.
pub(crate) async fn scan() -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&command(&program(), &["scan", "--config", CONFIG, "--output", "json"]).await?)?)
}

/// `explain` as a program sees it.
pub(crate) async fn explain(address: &str) -> Result<Value> {
    let arguments = ["explain", address, "--config", CONFIG, "--output", "json"];
    Ok(serde_json::from_str(&command(&program(), &arguments).await?)?)
}

/// `explain` as a person sees it.
pub(crate) async fn explain_text(address: &str) -> Result<String> {
    command(&program(), &["explain", address, "--config", CONFIG]).await
}

/// What `explain` found by one check.
pub(crate) fn check<'a>(explanation: &'a Value, name: &str) -> Result<&'a Value> {
    let mut checks = explanation["checks"].as_array().context("an explanation without checks")?.iter();
    checks.find(|check| check["name"] == name).with_context(|| format!("no check `{name}`: {explanation}"))
}

/// What the plugin answers when the kubelet is about to start a container with this device.
pub(crate) async fn pre_start(pool: &str, id: &str) -> Result<Result<(), tonic::Status>> {
    let request = PreStartContainerRequest { devices_ids: vec![id.to_owned()] };
    Ok(dial(pool).await?.pre_start_container(request).await.map(drop))
}

/// What it answers when it is asked for a device.
pub(crate) async fn allocate(
    pool: &str,
    id: &str,
) -> Result<Result<ContainerAllocateResponse, tonic::Status>> {
    let devices_ids = vec![id.to_owned()];
    let request = AllocateRequest { container_requests: vec![ContainerAllocateRequest { devices_ids }] };
    match dial(pool).await?.allocate(request).await {
        Ok(answer) => {
            let answer = answer.into_inner().container_responses.into_iter().next();
            Ok(Ok(answer.context("Allocate answered nothing")?))
        }
        Err(status) => Ok(Err(status)),
    }
}

/// The plugin itself, past the kubelet.
async fn dial(pool: &str) -> Result<DevicePluginClient<Channel>> {
    let socket = format!("unix:///var/lib/kubelet/device-plugins/doorbell-{pool}.sock");
    Ok(DevicePluginClient::new(Endpoint::from_shared(socket)?.connect().await?))
}

/// The row of one VF.
pub(crate) fn row<'a>(rows: &'a [Value], address: &str) -> Result<&'a Value> {
    rows.iter().find(|row| row["id"] == address).with_context(|| format!("scan shows no {address}"))
}

pub(crate) fn write_config(config: &str) -> Result<()> {
    std::fs::create_dir_all("/etc/doorbell")?;
    Ok(std::fs::write(CONFIG, config)?)
}

pub(crate) fn program() -> String {
    format!("{BIN}/doorbell-device-plugin")
}
