//! A guest with containerd, the double and a CNI chain whose calls are on record.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use e2e_kubelet::{ContainerSpec, Containerd, ContainerdConfig, Kubelet, KubeletConfig, PodSpec};
use tempfile::TempDir;

/// Guests are emulated: what takes a second on a host may take twenty.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Guest {
    pub(crate) kubelet: Kubelet,
    containerd: Option<Containerd>,
    folder: PathBuf,
    since: Instant,
    _temporary: Option<TempDir>,
}

impl Guest {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir_in("/run").unwrap();
        let guest = Self::on(folder.path()).await;
        Self { _temporary: Some(folder), ..guest }
    }

    /// On a folder that is there already, or is to stay.
    pub(crate) async fn on(folder: &Path) -> Self {
        let since = Instant::now();
        let (conf, bin) = (folder.join("net.d"), folder.join("bin"));
        for folder in [&conf, &bin] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(conf.join("10-pods.conflist"), conflist(folder)).unwrap();
        let plugin = bin.join("recorded-ptp");
        fs::write(&plugin, recorded_ptp(folder)).unwrap();
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();

        let containerd = Containerd::start(ContainerdConfig::new(conf, bin)).await.unwrap();
        println!("containerd is ready after {:.1?}", since.elapsed());
        let mut config = KubeletConfig::new(folder.join("kubelet"));
        config.runtime = Some(containerd.socket());
        let kubelet = Kubelet::start(config).await.unwrap();
        kubelet.wait_network_ready(LIMIT).await.unwrap();
        let folder = folder.to_owned();
        let mut guest = Self { kubelet, containerd: Some(containerd), folder, since, _temporary: None };
        guest.step("kubelet and network ready");
        guest
    }

    /// Tells how long it took since the last step.
    pub(crate) fn step(&mut self, what: &str) {
        println!("{what}: {:.2?}", self.since.elapsed());
        self.since = Instant::now();
    }

    pub(crate) async fn restart_containerd(&mut self) {
        let config = self.containerd.take().unwrap().stop().await;
        self.containerd = Some(Containerd::start(config).await.unwrap());
    }

    /// Makes the CNI plugin refuse ADD, or not.
    pub(crate) fn refuse_add(&self, refuse: bool) {
        let file = self.path("refuse");
        if refuse { fs::write(file, "").unwrap() } else { fs::remove_file(file).unwrap() }
    }

    /// The CNI calls so far: the verb, the container id and CNI_ARGS.
    pub(crate) fn cni_calls(&self) -> Vec<[String; 3]> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let call = |line: &str| {
            let mut fields = line.splitn(3, ' ').map(str::to_owned);
            std::array::from_fn(|_| fields.next().unwrap_or_default())
        };
        calls.lines().map(call).collect()
    }

    /// The addresses that host-local has given out.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("ipam/pods")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("10.")).collect()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// A pod whose container "c" runs a shell script.
pub(crate) fn shell_pod(name: &str, script: &str) -> PodSpec {
    PodSpec::new(name).container(shell("c", script))
}

pub(crate) fn shell(name: &str, script: &str) -> ContainerSpec {
    ContainerSpec::new(name).command(["/bin/sh", "-c", script])
}

/// A script that says so and then waits to be ended.
pub(crate) const IDLE: &str = "echo up; trap 'exit 0' TERM; while :; do sleep 1; done";

fn conflist(folder: &Path) -> String {
    format!(
        r#"{{"cniVersion":"1.0.0","name":"pods","plugins":[{{"type":"recorded-ptp","ipMasq":false,
            "ipam":{{"type":"host-local","dataDir":"{}","ranges":[[{{"subnet":"10.88.0.0/24"}}]]}}}}]}}"#,
        folder.join("ipam").display()
    )
}

/// ptp, with its calls on record and a switch to refuse.
fn recorded_ptp(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"#!/bin/sh
[ "$CNI_COMMAND" = VERSION ] || echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_ARGS" >>{folder}/calls
if [ "$CNI_COMMAND" = ADD ] && [ -e {folder}/refuse ]; then
    echo '{{"cniVersion":"1.0.0","code":100,"msg":"0000:01:00.1 is not this pod","details":"held by another"}}'
    exit 1
fi
exec /usr/lib/cni/ptp
"#
    )
}
