//! The device plugin as a process, and its `scan`.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::rig::node::{BIN, command};

/// Where its config goes.
pub(crate) const CONFIG: &str = "/etc/doorbell/config.yaml";
/// The resource of the pool that most scenarios have.
pub(crate) const FAST: &str = "doorbell.dev/fast";
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// The plugin, running; killed when dropped. Its log goes to the scenario's stderr.
pub(crate) struct Plugin {
    child: Child,
}

impl Plugin {
    /// Loads the driver as an administrator would, writes the config and starts the plugin.
    pub(crate) async fn start(config: &str) -> Result<Self> {
        command("modprobe", &["vfio-pci"]).await?;
        write_config(config)?;
        let child = Command::new(program())
            .args(["run", "--config", CONFIG])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start the plugin")?;
        Ok(Self { child })
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) async fn terminate(mut self) -> Result<ExitStatus> {
        let pid = self.child.id().context("the plugin has ended already")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        match tokio::time::timeout(ENDS_WITHIN, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("the plugin is still there {ENDS_WITHIN:?} after SIGTERM"),
        }
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

/// The row of one VF.
pub(crate) fn row<'a>(rows: &'a [Value], address: &str) -> Result<&'a Value> {
    rows.iter().find(|row| row["address"] == address).with_context(|| format!("scan shows no {address}"))
}

fn write_config(config: &str) -> Result<()> {
    std::fs::create_dir_all("/etc/doorbell")?;
    Ok(std::fs::write(CONFIG, config)?)
}

fn program() -> String {
    format!("{BIN}/doorbell-device-plugin")
}
