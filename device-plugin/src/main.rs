//! The program: a command, done. Exit codes: 0 done, 1 failed while at work, 2 not started because arguments or config are
//! wrong.

mod command_line;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
#[cfg(feature = "kube")]
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use doorbell_common::formats::descriptor;
use doorbell_device_plugin::captured::{self, Root};
use doorbell_device_plugin::chain::{Folders, Keeping};
#[cfg(feature = "kube")]
use doorbell_device_plugin::cluster;
use doorbell_device_plugin::config::{self, Config, ConfigError, Loaded, Remark};
use doorbell_device_plugin::http::HttpAddress;
use doorbell_device_plugin::logs::{LogFormat, Logs};
use doorbell_device_plugin::prover;
use doorbell_device_plugin::run::{self, Beside, Settings};
use doorbell_device_plugin::{chain, doctor, explain, given, install, scan};
use tracing::{info, warn};

use command_line::{Arguments, Command, DoctorRuntime, ExplainOutput, ScanOutput, Subject};

/// For so long the API server may be asked whether the plugin is uninstalled: less than a pod has to end, and longer than it
/// takes the token of a service account that is gone.
#[cfg(feature = "kube")]
const ASKED_FOR: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let logs = Logs::begin(match command {
        Command::Run { log_format, .. } => log_format,
        _ => LogFormat::Text,
    });
    match work(command, logs) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn work(command: Command, logs: Logs) -> Result<ExitCode> {
    match command {
        Command::Run {
            config: file,
            metrics,
            #[cfg(feature = "kube")]
            told,
            ..
        } => {
            let config = noted(&file, Config::load(&file)?);
            let Root { host, page, .. } = Root::this()?;
            let beside = Beside {
                http: metrics.map(HttpAddress::listen).transpose()?,
                logs: Some(logs),
                #[cfg(feature = "kube")]
                cluster: told.cluster(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run::run(Settings { host, file, config, page, beside }))?;
        }
        Command::Prove => match prover::serve(&Root::this()?.host)? {},
        Command::Scan { subject, output } => {
            let (root, config) = subject.open()?;
            let rows = scan::rows(&root.host, config.as_ref(), root.page).context("scan")?;
            print(&match output {
                ScanOutput::Table => scan::table(&rows),
                ScanOutput::Json => serde_json::to_string_pretty(&rows)? + "\n",
            })?;
        }
        Command::Explain { id, subject, output } => {
            let (root, config) = subject.open()?;
            let explanation = explain::explain(&root.host, config.as_ref(), &id, root.page)?;
            print(&match output {
                ExplainOutput::Text => explain::text(&explanation),
                ExplainOutput::Json => serde_json::to_string_pretty(&explanation)? + "\n",
            })?;
        }
        Command::Doctor { runtime: DoctorRuntime::Kata, kata_config, devices, subject, output } => {
            let (root, config) = subject.open()?;
            let report = doctor::kata(&root.host, config.as_ref(), kata_config.as_deref(), devices);
            print(&match output {
                ExplainOutput::Text => doctor::text(&report),
                ExplainOutput::Json => serde_json::to_string_pretty(&report)? + "\n",
            })?;
            if !report.ok {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Convert { file, resource_prefix } => {
            let converted = match Loaded::convert(&file, resource_prefix.as_ref()) {
                Err(ConfigError::Unmappable { file, refused }) => return Ok(unmappable(&file, &refused)),
                converted => converted?,
            };
            print(&converted.to_yaml(&file.display().to_string())?)?;
        }
        Command::Schema => print(&(serde_json::to_string_pretty(&config::schema())? + "\n"))?,
        Command::InstallCni { to, out_of_chain } => {
            if let Some(configs) = out_of_chain {
                chain::take_out(&Root::this()?.host, &configs)
                    .context("take the CNI plugin out of the chain")?;
            }
            let from = install::beside_this()?;
            let is_new =
                install::install(&Root::this()?.host, &from, &to).context("install the CNI binary")?;
            info!(to = %to.display(), is_new, "the CNI binary is there");
        }
        Command::KeepCni {
            conf_dir,
            bin_dir,
            without_entry,
            remove_binary,
            #[cfg(feature = "kube")]
            daemon_set,
            #[cfg(feature = "kube")]
            server,
        } => {
            let folders = Folders { configs: conf_dir, binaries: bin_dir };
            let keeping = Keeping { entry: !without_entry, remove_binary };
            #[cfg(feature = "kube")]
            let reach = server.reach();
            #[cfg(feature = "kube")]
            let uninstalled = async || match &daemon_set {
                Some(set) => cluster::is_uninstalled(&reach, set, ASKED_FOR).await,
                None => false,
            };
            #[cfg(not(feature = "kube"))]
            let uninstalled = async || false;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(chain::run(Root::this()?.host, folders, keeping, uninstalled))?;
        }
        Command::UninstallCni { from, conf_dir } => {
            chain::uninstall(&Root::this()?.host, &Folders { configs: conf_dir, binaries: from })?;
        }
        Command::Given => {
            let folder = std::env::var(descriptor::ENV).ok();
            let given = given::given(&Root::this()?.host, folder.as_deref())?;
            print(&given.text)?;
            if !given.ok {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Capture { subject } => {
            let (root, config) = subject.open()?;
            print(&captured::capture(&root, config.as_ref())?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Subject {
    fn open(&self) -> Result<(Root, Option<Config>)> {
        let load = |file: &PathBuf| Ok::<_, ConfigError>(noted(file, Config::load(file)?));
        let config = self.config.as_ref().map(load).transpose()?;
        let root = self.root.as_deref().map_or_else(Root::this, Root::at)?;
        Ok((root, config))
    }
}

/// The config, and to the log what is to be known of it.
fn noted(file: &Path, loaded: Loaded) -> Config {
    for note in &loaded.notes {
        warn!("{}:{note}", file.display());
    }
    loaded.config
}

/// To stdout; a reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("write to stdout"),
        _ => Ok(()),
    }
}

#[expect(clippy::print_stderr, reason = "the lines that say why nothing is printed")]
fn unmappable(file: &str, refused: &[Remark]) -> ExitCode {
    for remark in refused {
        eprintln!("doorbell-device-plugin: {file}:{remark}");
    }
    ExitCode::from(2)
}

#[expect(clippy::print_stderr, reason = "the one line that says why the program ends")]
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("doorbell-device-plugin: {error:#}");
    ExitCode::from(if error.is::<ConfigError>() { 2 } else { 1 })
}
