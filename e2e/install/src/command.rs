//! Programs of the host, run to their end.

use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// Runs it; what it wrote to stdout. Its stderr is the error, where it fails.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.output().with_context(|| format!("run {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
