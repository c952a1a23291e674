//! The command line. Exit codes: 0 done, 1 failed while at work, 2 not started because arguments or config are wrong.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use doorbell_common::host::Host;
use doorbell_common::kernel::memory;
use doorbell_device_plugin::config::{Config, ConfigError};
use doorbell_device_plugin::{run, scan};
use tracing_subscriber::EnvFilter;

/// Gives pods VF-backed virtio sub-devices whose doorbell is proven.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prepares, verifies and advertises the sub-devices of the config's pools.
    Run {
        /// The config file.
        #[arg(long, default_value = "/etc/doorbell/config.yaml")]
        config: PathBuf,
    },
    /// Shows every VF, its verdicts, and why it is or isn't advertised. Makes, binds and advertises nothing.
    Scan {
        /// The config file whose pools are shown; without it no pool selects anything.
        #[arg(long)]
        config: Option<PathBuf>,
        /// How to show it.
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();

    match work(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn work(command: Command) -> Result<()> {
    let host = Host::real();
    let page = memory::page_size().context("ask for the page size")?;
    match command {
        Command::Run { config } => {
            let config = Config::load(&config)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run::run(host, &config, page))
        }
        Command::Scan { config, output } => {
            let config = config.as_deref().map(Config::load).transpose()?;
            let rows = scan::rows(&host, config.as_ref(), page).context("scan")?;
            match output {
                Output::Table => print!("{}", scan::table(&rows)),
                Output::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
            }
            Ok(())
        }
    }
}

#[expect(clippy::print_stderr, reason = "the one line that says why the program ends")]
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("doorbell-device-plugin: {error:#}");
    ExitCode::from(if error.is::<ConfigError>() { 2 } else { 1 })
}
