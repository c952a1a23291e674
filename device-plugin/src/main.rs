//! The command line. Exit codes: 0 done, 1 failed while at work, 2 not started because arguments or config are wrong.

#[cfg(feature = "kube")]
use std::env;
#[cfg(feature = "kube")]
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
#[cfg(feature = "kube")]
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use doorbell_common::formats::descriptor;
use doorbell_common::subdevice::DeviceId;
use doorbell_device_plugin::captured::{self, Root};
use doorbell_device_plugin::chain::{Folders, Keeping};
#[cfg(feature = "kube")]
use doorbell_device_plugin::cluster::{self, Cluster, NodeName, ObjectName, Reach};
use doorbell_device_plugin::config::{self, Config, ConfigError, Loaded, Remark, ResourcePrefix};
use doorbell_device_plugin::http::HttpAddress;
use doorbell_device_plugin::logs::{LogFormat, Logs};
use doorbell_device_plugin::prover;
use doorbell_device_plugin::run::{self, Beside, Settings};
use doorbell_device_plugin::{chain, doctor, explain, given, install, scan};
use tracing::{info, warn};

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
        /// Where `/metrics`, `/healthz` and `/readyz` are answered, for example 127.0.0.1:9117, or :9117 for every address;
        /// not at all unless given.
        #[arg(long)]
        metrics: Option<HttpAddress>,
        /// How a line of the log is written. How much is logged, `logLevel` of the config says.
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
        #[cfg(feature = "kube")]
        #[command(flatten)]
        told: Told,
    },
    /// Opens device nodes for a `run` that may open none, when it asks. Needs no config and changes nothing.
    Prove,
    /// Shows every sub-device, its verdicts, and why it is or isn't advertised. Makes, binds and advertises nothing.
    Scan {
        #[command(flatten)]
        subject: Subject,
        /// How to show it.
        #[arg(long, value_enum, default_value_t = ScanOutput::Table)]
        output: ScanOutput,
    },
    /// Shows every check on one sub-device, passed or failed, and the file or ioctl that it rests on.
    Explain {
        /// Its id, for a VF its address as sysfs writes it: 0000:01:00.1.
        id: DeviceId,
        #[command(flatten)]
        subject: Subject,
        /// How to show it.
        #[arg(long, value_enum, default_value_t = ExplainOutput::Text)]
        output: ExplainOutput,
    },
    /// Shows what of this node would fail a pod whose devices go into its VM, and how to mend it. Exit code 1 if it would.
    Doctor {
        /// The container runtime.
        #[arg(long, value_enum)]
        runtime: DoctorRuntime,
        /// Its configuration, where it is elsewhere than usual: a path on the host.
        #[arg(long)]
        kata_config: Option<String>,
        /// The most devices that a pod asks for.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        devices: u32,
        #[command(flatten)]
        subject: Subject,
        /// How to show it.
        #[arg(long, value_enum, default_value_t = ExplainOutput::Text)]
        output: ExplainOutput,
    },
    /// Prints a config of sriov-network-device-plugin (`resourceList`) as one of ours, or all that can't be taken over.
    Convert {
        /// The file.
        file: PathBuf,
        /// The prefix of resources that give none: what that plugin has in `-resource-prefix`.
        #[arg(long)]
        resource_prefix: Option<ResourcePrefix>,
    },
    /// Prints the JSON Schema of the config file, for editors and for who generates configs.
    Schema,
    /// Installs the CNI binary, which comes with this program, where the container runtime looks for plugins.
    InstallCni {
        /// That folder.
        #[arg(long, default_value = "/opt/cni/bin")]
        to: PathBuf,
        /// Takes the entry of `keep-cni` out of the conflists of this folder, if one is there.
        #[arg(long)]
        out_of_chain: Option<String>,
    },
    /// Keeps the CNI plugin at the end of the node's active conflist, for pods that no Multus gives a network of its own.
    KeepCni {
        /// The folder where the container runtime looks for network configurations.
        #[arg(long, default_value = "/etc/cni/net.d")]
        conf_dir: String,
        /// The folder where it looks for plugins.
        #[arg(long, default_value = "/opt/cni/bin")]
        bin_dir: PathBuf,
        /// Keeps no entry there: for who wants the binary removed and nothing else.
        #[arg(long, requires = "remove_binary")]
        without_entry: bool,
        /// Takes the binary away as well, when the plugin is uninstalled.
        #[arg(long)]
        remove_binary: bool,
        /// The plugin's DaemonSet, `namespace/name`, by which the API server is asked at the end whether the plugin is
        /// uninstalled; without it the answer is no.
        #[cfg(feature = "kube")]
        #[arg(long)]
        daemon_set: Option<ObjectName>,
        #[cfg(feature = "kube")]
        #[command(flatten)]
        server: ApiServer,
    },
    /// Takes the CNI plugin out of the conflist, if it was put there, and the binary away.
    UninstallCni {
        /// The folder where it was installed.
        #[arg(long, default_value = "/opt/cni/bin")]
        from: PathBuf,
        /// The folder where the container runtime looks for network configurations.
        #[arg(long, default_value = "/etc/cni/net.d")]
        conf_dir: String,
    },
    /// Shows, in a container, which devices it was given, and whether their nodes open. Exit code 1 if one does not.
    Given,
    /// Prints what `scan` and `explain` read of this host, as one text for a bug report; `--root` takes it back.
    Capture {
        #[command(flatten)]
        subject: Subject,
    },
}

/// What the API server is told: nothing, and nobody connects to it, unless one of the two is asked for.
#[cfg(feature = "kube")]
#[derive(Args)]
struct Told {
    /// This node's name in the cluster.
    #[arg(long, env = "NODE_NAME", hide_env_values = true)]
    node_name: Option<NodeName>,
    /// Tells node and pod by events when a device in use goes unhealthy, and when it is healthy again.
    #[arg(long, requires = "node_name")]
    events: bool,
    /// Gives the node labels with what its pools have.
    #[arg(long, requires = "node_name")]
    node_labels: bool,
    #[command(flatten)]
    server: ApiServer,
}

/// How the API server is reached.
#[cfg(feature = "kube")]
#[derive(Args)]
struct ApiServer {
    /// Kubeconfig files by which the API server is reached; without any it is the pod's service account.
    #[arg(long, env = "KUBECONFIG", hide_env_values = true)]
    kubeconfig: Option<OsString>,
}

/// What is looked at.
#[derive(Args)]
struct Subject {
    /// The config file whose pools are shown; without it no pool selects anything.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Another host than this one: a folder with its tree, or a file that `capture` printed.
    #[arg(long)]
    root: Option<PathBuf>,
}

/// For so long the API server may be asked whether the plugin is uninstalled: less than a pod has to end, and longer than it
/// takes the token of a service account that is gone.
#[cfg(feature = "kube")]
const ASKED_FOR: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, ValueEnum)]
enum DoctorRuntime {
    Kata,
}

#[derive(Clone, Copy, ValueEnum)]
enum ScanOutput {
    Table,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum ExplainOutput {
    Text,
    Json,
}

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

#[cfg(feature = "kube")]
impl ApiServer {
    fn reach(self) -> Reach {
        // Files with colons between them, as kubectl takes them; empty is none.
        let files = self.kubeconfig.unwrap_or_default();
        let files: Vec<_> = env::split_paths(&files).filter(|file| !file.as_os_str().is_empty()).collect();
        if files.is_empty() { Reach::ServiceAccount } else { Reach::Kubeconfig(files) }
    }
}

#[cfg(feature = "kube")]
impl Told {
    fn cluster(self) -> Option<Cluster> {
        let Self { node_name, events, node_labels: labels, server } = self;
        let reach = server.reach();
        let asked = events || labels;
        node_name.filter(|_| asked).map(|node| Cluster { node, reach, events, labels })
    }
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

#[cfg(all(test, feature = "kube"))]
mod tests {
    use super::*;

    fn told(kubeconfig: &str, arguments: &[&str]) -> Result<Option<Cluster>, clap::Error> {
        let all = ["doorbell-device-plugin", "run", "--kubeconfig", kubeconfig];
        let parsed = Arguments::try_parse_from(all.iter().chain(arguments))?;
        let Command::Run { told, .. } = parsed.command else { panic!("another command") };
        Ok(told.cluster())
    }

    #[test]
    fn nobody_is_told_unless_events_or_labels_are_asked_for() {
        assert!(told("a", &["--node-name", "a"]).unwrap().is_none());
        let cluster = told("a::b", &["--node-name", "a", "--events"]).unwrap().unwrap();
        assert_eq!((cluster.node.as_str(), cluster.events, cluster.labels), ("a", true, false));
        assert_eq!(cluster.reach, Reach::Kubeconfig(vec!["a".into(), "b".into()]));
        let cluster = told("", &["--node-name", "a", "--node-labels"]).unwrap().unwrap();
        assert_eq!(cluster.reach, Reach::ServiceAccount);
    }

    #[test]
    fn a_node_name_is_one() {
        let error = told("a", &["--node-name", "A/b", "--node-labels"]).unwrap_err();
        assert!(error.to_string().contains("no node name"), "{error}");
    }
}
