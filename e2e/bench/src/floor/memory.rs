//! The memory that a program took at its highest, told by the kernel when it has ended.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};

/// Runs a program with this one's stdin, and prints its highest resident memory in KiB.
pub(crate) fn of(program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    // How it ends is not asked: a call that is refused takes memory too.
    command.status().with_context(|| format!("run {program}"))?;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    writeln!(io::stdout(), "{}", usage.max_rss()).context("say it")
}
