//! The command line: build the testbed, run one command in a machine, or open a shell in one.
#![allow(clippy::print_stderr)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use e2e_testbed::{Iommu, Job, Line, Machine, Pf, RunError, Testbed};

/// As timeout(1) has it.
const TIME_LIMIT: u8 = 124;
/// The testbed failed, not the command in it.
const FAILED: u8 = 125;

/// A VM with real SR-IOV virtio VFs, an IOMMU, vfio, vDPA and containerd.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Builds what the cache lacks: QEMU, a kernel and the guest's root
    Build,
    /// Runs a command in a new machine and gives its exit code (124: time limit, 125: the testbed failed)
    Run {
        #[command(flatten)]
        machine: MachineFlags,
        #[command(flatten)]
        job: JobFlags,
        /// Where to copy what the command wrote to /job/out
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Ends the machine after so many seconds
        #[arg(long, value_name = "S", default_value_t = 120)]
        timeout: u64,
        /// Tells on stderr how long it took
        #[arg(long)]
        times: bool,
        /// A file of this host, which is copied to the guest, or a command of the guest: a name without a slash, or a
        /// path below /bin, /sbin, /usr or /job
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Opens a shell in a new machine; leaving it powers off
    Shell {
        #[command(flatten)]
        machine: MachineFlags,
        #[command(flatten)]
        job: JobFlags,
    },
}

#[derive(Debug, Args)]
struct MachineFlags {
    /// A PF: a number of VFs, or that and `,page-per-vq`, or `igb`; again for the next one (4 if unsaid)
    #[arg(long = "pf", value_name = "PF")]
    pfs: Vec<Pf>,
    /// on, no-intremap (no interrupt remapping) or off
    #[arg(long, default_value = "on")]
    iommu: Iommu,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u32,
    /// One more argument for the guest's kernel
    #[arg(long, value_name = "ARG")]
    kernel_arg: Vec<String>,
    /// With what a VM in the guest is made of: 9p shares `vmm` (QEMU) and `kernel`
    #[arg(long)]
    vmm: bool,
    /// How often the machine may reset; the command then begins anew, with the boot's number in DOORBELL_BOOT
    #[arg(long, value_name = "N", default_value_t = 0)]
    resets: u32,
}

#[derive(Debug, Args)]
struct JobFlags {
    /// A file of this host to find in the guest's /job/bin
    #[arg(long = "file", value_name = "F")]
    files: Vec<PathBuf>,
    /// An environment variable in the guest, NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_env)]
    env: Vec<(String, String)>,
}

impl MachineFlags {
    fn machine(self) -> anyhow::Result<Machine> {
        let pfs = if self.pfs.is_empty() { vec![Pf::virtio(4)?] } else { self.pfs };
        let machine = Machine::new(pfs).iommu(self.iommu).memory_mib(self.memory).resets(self.resets);
        let machine = if self.vmm { machine.vmm() } else { machine };
        Ok(self.kernel_arg.into_iter().fold(machine, Machine::kernel_arg))
    }
}

impl JobFlags {
    fn added_to(self, job: Job) -> Job {
        let job = self.files.into_iter().fold(job, Job::file);
        self.env.into_iter().fold(job, |job, (name, value)| job.env(name, value))
    }
}

fn main() -> ExitCode {
    act(Cli::parse().verb).unwrap_or_else(|error| {
        eprintln!("doorbell-testbed: {error:#}");
        let code = match error.downcast_ref() {
            Some(RunError::TimeLimit { .. }) => TIME_LIMIT,
            _ => FAILED,
        };
        ExitCode::from(code)
    })
}

fn act(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Build => {
            let testbed = Testbed::open(&|line| println!("{line}"))?;
            println!("{}", testbed.cache().root().display());
        }
        Verb::Shell { machine, job } => {
            let job = job.added_to(Job::new(["true"]));
            let testbed = Testbed::open(&|line| eprintln!("{line}"))?;
            testbed.shell(&machine.machine()?, &job, &mut |line| eprintln!("{line}"))?;
        }
        Verb::Run { machine, job, out, timeout, times, command } => {
            let job = job.added_to(command_job(command)).time_limit(Duration::from_secs(timeout));
            let testbed = Testbed::open(&|line| eprintln!("{line}"))?;
            let outcome = testbed.run(&machine.machine()?, &job, &mut |line| match line {
                Line::Job(text) => println!("{text}"),
                Line::Machine(_) => eprintln!("{line}"),
            })?;
            if times {
                eprintln!("doorbell-testbed: {:?}", outcome.times);
            }
            if let Some(out) = out {
                copy(&outcome.out(), &out)
                    .with_context(|| format!("can't copy the results to {}", out.display()))?;
            }
            return Ok(ExitCode::from(u8::try_from(outcome.exit_code).unwrap_or(FAILED)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The guest has its own /bin/sh: paths of the system are never the host's.
fn command_job(command: Vec<String>) -> Job {
    let of_guest =
        |path: &str| ["/bin/", "/sbin/", "/usr/", "/job/"].iter().any(|folder| path.starts_with(folder));
    match command.split_first() {
        Some((path, arguments)) if path.contains('/') && !of_guest(path) => {
            Job::program(path, arguments.iter().cloned())
        }
        _ => Job::new(command),
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn parse_env(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("`{name}` is no name of an environment variable"));
    }
    Ok((name.to_owned(), value.to_owned()))
}
