//! A process that is measured: started, looked at while it runs, and stopped.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// What the chart has in the plugin's environment.
pub const ENVIRONMENT: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_TRIM_THRESHOLD_", "65536"), ("MALLOC_TOP_PAD_", "16384")];
/// From SIGTERM to the end.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// One that runs, killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// When it was started.
    pub started: Instant,
}

impl Process {
    /// Starts the plugin as the chart does; its log goes to a file.
    pub fn plugin() -> Result<Self> {
        Self::start("/plugin", &["run"], Path::new("/plugin.log"))
    }

    /// Starts a program with the plugin's environment; its log goes to a file.
    pub fn start(program: &str, arguments: &[&str], log: &Path) -> Result<Self> {
        let log = fs::File::create(log).with_context(|| format!("create {}", log.display()))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("start {program}"))?;
        Ok(Self { child, started })
    }

    /// CPU time of all its threads, those that have ended too.
    pub fn cpu(&self) -> Result<Duration> {
        let clock =
            clock_getcpuclockid(Pid::from_raw(self.child.id().try_into()?)).context("its CPU clock")?;
        Ok(clock_gettime(clock).context("read its CPU clock")?.into())
    }

    /// A figure of its status, such as `VmRSS`, in bytes.
    pub fn memory(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let line = line.with_context(|| format!("no {name} in its status"))?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes * 1024)
    }

    /// Ends it by SIGTERM and waits.
    pub fn stop(self) -> Result<()> {
        let own = Pid::from_raw(self.child.id().try_into()?);
        self.end(own)
    }

    /// Ends the one process that it has started itself, as a tracer does, and waits for its own end.
    pub fn stop_traced(self) -> Result<()> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let traced = children.trim().parse().with_context(|| format!("children of {id}: `{children}`"))?;
        self.end(Pid::from_raw(traced))
    }

    fn end(mut self, process: Pid) -> Result<()> {
        kill(process, Signal::SIGTERM)?;
        let until = Instant::now() + ENDS_WITHIN;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                bail!("it did not end by SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended can't be killed; what is left of it is taken away.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
