//! A containerd 2.x of the tests' own, from its start to its end. Pods outlive it, as on a node: their shims
//! are children of no one, and go when the pods are removed.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    net::UnixDatagram,
    process::{Child, Command},
    time::timeout,
};

pub use self::config::ContainerdConfig;
use self::config::SNAPSHOTTER;
use crate::cri::{Cri, CriError};

mod config;

/// How long containerd may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How long a CRI call may take while containerd is being started.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// How long the import of an image may take.
const IMPORT_LIMIT: Duration = Duration::from_secs(120);
/// How much of the log an error shows.
const LOG_TAIL: usize = 20;

/// Why containerd does not run.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// A file or folder of its could not be made, or its process not started.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("containerd ended ({status}) before it was ready; its log ends:\n{log}")]
    Ended {
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// It was not ready in time.
    #[error("containerd is not ready after {limit:?}; its log ends:\n{log}")]
    NotReady {
        /// The bound.
        limit: Duration,
        /// The end of its log.
        log: String,
    },
    /// It is ready and its CRI does not answer.
    #[error("containerd's CRI does not answer")]
    Cri(#[from] CriError),
    /// The image could not be imported.
    #[error("cannot import {}: {reason}", archive.display())]
    Import {
        /// The archive.
        archive: PathBuf,
        /// What `ctr` said.
        reason: String,
    },
}

/// A running containerd. Dropping it kills it; pods and their shims stay.
#[derive(Debug)]
pub struct Containerd {
    config: ContainerdConfig,
    child: Child,
}

impl Containerd {
    /// Writes the config, starts containerd, waits for it, and imports the sandbox's image where it is absent.
    pub async fn start(config: ContainerdConfig) -> Result<Self, ContainerdError> {
        let failed = |verb, path: &Path, source| ContainerdError::Io { verb, path: path.to_owned(), source };
        let folders = [&config.root, &config.state, &config.cni_conf_dir].map(PathBuf::as_path);
        for folder in folders.into_iter().chain(config.config_file.parent()) {
            fs::create_dir_all(folder).map_err(|source| failed("make the folder", folder, source))?;
        }
        let file = &config.config_file;
        fs::write(file, config.toml()).map_err(|source| failed("write", file, source))?;
        let log = File::options().create(true).append(true).open(config.log());
        let log = log.map_err(|source| failed("open", &config.log(), source))?;
        let errors = log.try_clone().map_err(|source| failed("open", &config.log(), source))?;
        // systemd's way of telling readiness, which containerd knows: no polling, and a failure is seen as well.
        let notify = config.state.join("notify.sock");
        let _ = fs::remove_file(&notify);
        let ready = UnixDatagram::bind(&notify).map_err(|source| failed("listen on", &notify, source))?;
        let mut child = Command::new(&config.binary)
            .arg("--config")
            .arg(file)
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| failed("start", &config.binary, source))?;
        let limit = config.start_limit;
        tokio::select! {
            told = timeout(limit, told_ready(&ready)) => match told {
                Err(_) => return Err(ContainerdError::NotReady { limit, log: tail(&config.log()) }),
                Ok(told) => told.map_err(|source| failed("read", &notify, source))?,
            },
            status = child.wait() => {
                let status = status.map_err(|source| failed("wait for", &config.binary, source))?;
                return Err(ContainerdError::Ended { status, log: tail(&config.log()) });
            }
        }
        let containerd = Self { config, child };
        let sandbox_image = &containerd.config.sandbox_image;
        let archive = &containerd.config.image_archive;
        let cri = Cri::connect(&containerd.socket(), CALL_LIMIT).await?;
        if archive.exists() && !cri.has_image(sandbox_image).await? {
            containerd.import_image(archive).await?;
        }
        Ok(containerd)
    }

    /// The socket of its CRI.
    pub fn socket(&self) -> PathBuf {
        self.config.socket()
    }

    /// Ends it with SIGTERM, or SIGKILL where that takes too long, and gives the config back to start it again.
    pub async fn stop(mut self) -> ContainerdConfig {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        // A process that has ended cannot be signalled and is not waited for.
        if pid.is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM).is_ok())
            && timeout(STOP_LIMIT, self.child.wait()).await.is_err()
            && let Err(error) = self.child.kill().await
        {
            tracing::warn!(%error, "containerd not killed");
        }
        self.config.clone()
    }

    /// Imports an image from a docker archive.
    pub async fn import_image(&self, archive: &Path) -> Result<(), ContainerdError> {
        let config = &self.config;
        let refused = |reason: String| ContainerdError::Import { archive: archive.to_owned(), reason };
        // `ctr` lies beside containerd. What the CRI may see is in the namespace k8s.io.
        let import = Command::new(config.binary.with_file_name("ctr"))
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io", "images", "import", "--snapshotter", SNAPSHOTTER])
            .arg(archive)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(IMPORT_LIMIT, import)
            .await
            .map_err(|_| refused(format!("not done after {IMPORT_LIMIT:?}")))?
            .map_err(|error| refused(error.to_string()))?;
        if !output.status.success() {
            return Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(())
    }
}

async fn told_ready(socket: &UnixDatagram) -> io::Result<()> {
    let mut message = [0; 512];
    loop {
        let length = socket.recv(&mut message).await?;
        if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
            return Ok(());
        }
    }
}

fn tail(log: &Path) -> String {
    let log = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_containerd_that_ends_at_once_is_an_error_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = ContainerdConfig::new(folder.path().join("cni"), "/none");
        config.binary = PathBuf::from("/bin/false");
        (config.root, config.state) = (folder.path().join("root"), folder.path().join("state"));
        config.config_file = folder.path().join("config.toml");
        let error = Containerd::start(config).await.unwrap_err();
        assert!(matches!(error, ContainerdError::Ended { .. }), "{error}");
    }
}
