//! The command line: the commands, and what each is told.

#[cfg(feature = "kube")]
use std::env;
#[cfg(feature = "kube")]
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use doorbell_common::subdevice::DeviceId;
#[cfg(feature = "kube")]
use doorbell_device_plugin::cluster::{Cluster, NodeName, ObjectName, Reach, ServiceAccount};
use doorbell_device_plugin::config::ResourcePrefix;
use doorbell_device_plugin::http::HttpAddress;
use doorbell_device_plugin::logs::LogFormat;

/// Gives pods VF-backed virtio sub-devices whose doorbell is proven.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
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
pub(crate) struct Told {
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
pub(crate) struct ApiServer {
    /// Kubeconfig files by which the API server is reached; without any it is the pod's service account.
    #[arg(long, env = "KUBECONFIG", hide_env_values = true)]
    kubeconfig: Option<OsString>,
}

/// What is looked at.
#[derive(Args)]
pub(crate) struct Subject {
    /// The config file whose pools are shown; without it no pool selects anything.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// Another host than this one: a folder with its tree, or a file that `capture` printed.
    #[arg(long)]
    pub(crate) root: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum DoctorRuntime {
    Kata,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ScanOutput {
    Table,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ExplainOutput {
    Text,
    Json,
}

#[cfg(feature = "kube")]
impl ApiServer {
    pub(crate) fn reach(self) -> Reach {
        // Files with colons between them, as kubectl takes them; empty is none.
        let files = self.kubeconfig.unwrap_or_default();
        let files: Vec<_> = env::split_paths(&files).filter(|file| !file.as_os_str().is_empty()).collect();
        if files.is_empty() { Reach::ServiceAccount(service_account()) } else { Reach::Kubeconfig(files) }
    }
}

#[cfg(feature = "kube")]
fn service_account() -> ServiceAccount {
    let (host, port) = (env::var(ServiceAccount::HOST).ok(), env::var(ServiceAccount::PORT).ok());
    ServiceAccount { host, port, folder: ServiceAccount::FOLDER.into() }
}

#[cfg(feature = "kube")]
impl Told {
    pub(crate) fn cluster(self) -> Option<Cluster> {
        let Self { node_name, events, node_labels: labels, server } = self;
        let reach = server.reach();
        let asked = events || labels;
        node_name.filter(|_| asked).map(|node| Cluster { node, reach, events, labels })
    }
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
        assert!(matches!(cluster.reach, Reach::ServiceAccount(_)));
    }

    #[test]
    fn a_node_name_is_one() {
        let error = told("a", &["--node-name", "A/b", "--node-labels"]).unwrap_err();
        assert!(error.to_string().contains("no node name"), "{error}");
    }
}
