//! A CNI call that touches nothing, beside an empty program that writes one line.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use e2e_bench::load::Load;

use crate::programs::Programs;
use crate::start::inside;

const VERSION: &[u8] = br#"{"cniVersion":"1.1.0"}"#;
const NONE: Load = Load { vfs: 8, pfs: 1, pools: 1 };

/// How long each call took, in seconds, and what one took of memory.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    /// Of the CNI binary.
    pub(crate) cni: Vec<f64>,
    /// Of the empty program.
    pub(crate) floor: Vec<f64>,
    /// The binary's highest resident memory, in bytes.
    pub(crate) memory: u64,
    /// That of the empty program.
    pub(crate) floor_memory: u64,
}

/// Asks for the version `times` times.
pub(crate) fn versions(programs: &Programs, times: usize) -> Result<Versions> {
    inside(programs, NONE, || {
        let mut versions = Versions::default();
        for _ in 0..times {
            versions.floor.push(timed("/line")?);
            versions.cni.push(timed("/cni")?);
        }
        versions.memory = memory("/cni")?;
        versions.floor_memory = memory("/line")?;
        Ok(versions)
    })
}

fn timed(program: &str) -> Result<f64> {
    let started = Instant::now();
    let answer = ask(Command::new(program))?;
    let took = started.elapsed();
    ensure!(answer.starts_with(b"{\"cniVersion\""), "{program}: {}", String::from_utf8_lossy(&answer));
    Ok(took.as_secs_f64())
}

fn memory(program: &str) -> Result<u64> {
    let mut command = Command::new("/floor");
    command.args(["memory", program]);
    let answer = String::from_utf8(ask(command)?)?;
    let kibibytes: u64 = answer.trim().parse().with_context(|| format!("{program}: {answer}"))?;
    Ok(kibibytes * 1024)
}

fn ask(mut command: Command) -> Result<Vec<u8>> {
    command.env_clear().env("CNI_COMMAND", "VERSION").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // The empty program reads none of it, and may have ended.
        let _ = stdin.write_all(VERSION);
    }
    Ok(child.wait_with_output()?.stdout)
}
