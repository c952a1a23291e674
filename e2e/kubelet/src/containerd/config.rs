//! What containerd is told: the file, in version 3 of its config, and where it keeps things.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::pod::DEFAULT_IMAGE;

/// How image layers are unpacked. It wants a root folder that is on no overlayfs itself.
pub(crate) const SNAPSHOTTER: &str = "overlayfs";

/// How to run containerd.
#[derive(Clone, Debug)]
pub struct ContainerdConfig {
    /// The program.
    pub binary: PathBuf,
    /// Its lasting data: images, snapshots.
    pub root: PathBuf,
    /// Its passing data, the socket and the log.
    pub state: PathBuf,
    /// Where its config is written: containerd's own default, where others look for it too.
    pub config_file: PathBuf,
    /// Whether it knows CDI, as 2.x does unless told.
    pub cdi: bool,
    /// Names by which it knows runc, the first one's by default.
    pub handlers: Vec<String>,
    /// Where the CNI config is of handlers whose pods have another network than the rest.
    pub handler_networks: BTreeMap<String, PathBuf>,
    /// Where the CNI config is; read again whenever it changes.
    pub cni_conf_dir: PathBuf,
    /// Where CNI plugins are looked for, in this order.
    pub cni_bin_dirs: Vec<PathBuf>,
    /// The image of the sandbox's own container.
    pub sandbox_image: String,
    /// Imported where the sandbox's image is absent and this file exists.
    pub image_archive: PathBuf,
    /// How long it may take until its CRI answers.
    pub start_limit: Duration,
}

impl ContainerdConfig {
    /// Debian's containerd and CNI plugins, with CNI plugins of the caller's before them.
    pub fn new(cni_conf_dir: impl Into<PathBuf>, cni_bin_dir: impl Into<PathBuf>) -> Self {
        Self {
            binary: PathBuf::from("/usr/bin/containerd"),
            root: PathBuf::from("/var/lib/containerd"),
            state: PathBuf::from("/run/containerd"),
            config_file: PathBuf::from("/etc/containerd/config.toml"),
            cdi: true,
            handlers: vec!["runc".to_owned()],
            handler_networks: BTreeMap::new(),
            cni_conf_dir: cni_conf_dir.into(),
            cni_bin_dirs: vec![cni_bin_dir.into(), PathBuf::from("/usr/lib/cni")],
            sandbox_image: DEFAULT_IMAGE.to_owned(),
            image_archive: PathBuf::from("/opt/pause.tar"),
            start_limit: Duration::from_secs(60),
        }
    }

    /// The socket of its CRI.
    pub fn socket(&self) -> PathBuf {
        self.state.join("containerd.sock")
    }

    /// Its log, over all of its starts.
    pub fn log(&self) -> PathBuf {
        self.state.join("containerd.log")
    }

    /// The config, version 3 of containerd 2.x. Left at their defaults: the CRI's cgroups and namespaces.
    pub(crate) fn toml(&self) -> String {
        let quoted = |text: &dyn std::fmt::Display| format!("{:?}", text.to_string());
        let path = |path: &Path| quoted(&path.display());
        let bin_dirs: Vec<_> = self.cni_bin_dirs.iter().map(|dir| path(dir)).collect();
        let (images, runtime) =
            ("plugins.'io.containerd.cri.v1.images'", "plugins.'io.containerd.cri.v1.runtime'");
        let mut toml = String::new();
        let lines = [
            "version = 3".to_owned(),
            format!("root = {}", path(&self.root)),
            format!("state = {}", path(&self.state)),
            // Both would want a kernel with more in it, and neither is the tests' business.
            "disabled_plugins = ['io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.zfs']"
                .to_owned(),
            "[grpc]".to_owned(),
            format!("address = {}", path(&self.socket())),
            format!("[{images}]"),
            format!("snapshotter = {}", quoted(&SNAPSHOTTER)),
            format!("[{images}.pinned_images]"),
            format!("sandbox = {}", quoted(&self.sandbox_image)),
            format!("[{runtime}]"),
            format!("enable_cdi = {}", self.cdi),
            format!("[{runtime}.cni]"),
            format!("conf_dir = {}", path(&self.cni_conf_dir)),
            format!("bin_dirs = [{}]", bin_dirs.join(", ")),
            format!("[{runtime}.containerd]"),
        ];
        let default =
            self.handlers.iter().take(1).map(|name| format!("default_runtime_name = {}", quoted(name)));
        let handlers = self.handlers.iter().flat_map(|name| {
            let own = format!("{runtime}.containerd.runtimes.{}", quoted(name));
            let network = self.handler_networks.get(name);
            [format!("[{own}]"), "runtime_type = 'io.containerd.runc.v2'".to_owned()]
                .into_iter()
                .chain(network.map(|dir| format!("cni_conf_dir = {}", path(dir))))
                // There may be no systemd to ask.
                .chain([format!("[{own}.options]"), "SystemdCgroup = false".to_owned()])
        });
        for line in lines.into_iter().chain(default).chain(handlers) {
            // Writing into a String does not fail.
            let _ = writeln!(toml, "{line}");
        }
        toml
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_names_the_callers_folders() {
        let toml = ContainerdConfig::new("/etc/cni/net.d", "/opt/ours").toml();
        assert!(toml.starts_with("version = 3\n"));
        assert!(toml.contains("conf_dir = \"/etc/cni/net.d\""));
        assert!(toml.contains("bin_dirs = [\"/opt/ours\", \"/usr/lib/cni\"]"));
        assert!(toml.contains("sandbox = \"localhost/pause:1\""));
    }

    #[test]
    fn a_handler_may_have_a_network_of_its_own() {
        let mut config = ContainerdConfig::new("/etc/cni/net.d", "/opt/ours");
        config.handlers.push("apart".to_owned());
        config.handler_networks.insert("apart".to_owned(), "/etc/cni/apart.d".into());
        let toml = config.toml();
        let (_, apart) = toml.split_once("containerd.runtimes.\"apart\"]\n").unwrap();
        assert!(
            apart.starts_with(
                "runtime_type = 'io.containerd.runc.v2'\ncni_conf_dir = \"/etc/cni/apart.d\"\n["
            )
        );
        assert_eq!(toml.matches("cni_conf_dir").count(), 1);
    }

    #[test]
    fn cdi_is_on_unless_told() {
        let mut config = ContainerdConfig::new("/etc/cni/net.d", "/opt/ours");
        assert!(config.toml().contains("\nenable_cdi = true\n"));
        config.cdi = false;
        assert!(config.toml().contains("\nenable_cdi = false\n"));
    }
}
