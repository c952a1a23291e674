//! A process that is no pod and has a device open.

use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

/// One that has `node` open until it is ended.
pub(crate) fn hold(node: &str) -> Result<Child> {
    Command::new("sh")
        .args(["-c", &format!("exec 3<>{node}; exec sleep 600")])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("start a process that holds the node")
}

/// Ends it.
pub(crate) async fn end(mut stray: Child) -> Result<()> {
    stray.kill().await.context("end the stray process")
}
