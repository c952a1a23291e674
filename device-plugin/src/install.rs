//! The commands `install-cni` and `uninstall-cni`: the CNI binary, where the node's container runtime looks for plugins.
//!
//! A runtime may start it at any moment, so it is replaced as a whole, and one that is right already is not touched.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result};
use doorbell_common::host::{self, Host};

/// Its name, which is the `type` of a network's configuration.
pub const NAME: &str = "doorbell";

/// The binary that comes with this one: it lies beside it.
pub fn beside_this() -> Result<PathBuf> {
    let this = env::current_exe().context("find this program")?;
    Ok(this.with_file_name(NAME))
}

/// Puts the program `from` into a folder of the host, which is made where it is missing. Whether it was not there so
/// already.
pub fn install(host: &Host, from: &Path, folder: &Path) -> Result<bool> {
    let program = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    Ok(host.keep_program(folder.join(NAME), &program)?)
}

/// Takes it away, with what an installer that was killed has left; fine where there is none.
pub fn uninstall(host: &Host, folder: &Path) -> Result<()> {
    let to = folder.join(NAME);
    host.remove(host::unfinished(&to))?;
    Ok(host.remove(to)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    const FOLDER: &str = "/opt/cni/bin";
    const PROGRAM: &str = "/opt/cni/bin/doorbell";

    struct Node {
        root: tempfile::TempDir,
        host: Host,
    }

    impl Node {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let host = Host::at(root.path().join("host"));
            Self { root, host }
        }

        /// Installs a program with this content.
        fn install(&self, content: &[u8]) -> Result<bool> {
            let from = self.root.path().join("built");
            fs::write(&from, content).unwrap();
            install(&self.host, &from, Path::new(FOLDER))
        }

        fn inode(&self) -> u64 {
            fs::metadata(self.host.path(PROGRAM)).unwrap().ino()
        }
    }

    #[test]
    fn it_is_there_to_be_run_whatever_was_there() {
        let node = Node::new();
        assert!(node.install(b"one").unwrap());
        let mode = fs::metadata(node.host.path(PROGRAM)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert!(node.install(b"another").unwrap());
        assert_eq!(node.host.read(PROGRAM).unwrap(), b"another");
        assert_eq!(node.host.list(FOLDER).unwrap(), [NAME]);
    }

    #[test]
    fn what_runs_is_replaced_and_what_is_right_is_not() {
        let node = Node::new();
        node.install(b"one").unwrap();
        let before = node.inode();
        assert!(!node.install(b"one").unwrap());
        assert_eq!(node.inode(), before);
        node.install(b"another").unwrap();
        assert_ne!(node.inode(), before, "who runs the old one still has it");
    }

    #[test]
    fn one_that_nobody_may_run_is_not_right() {
        let node = Node::new();
        node.install(b"one").unwrap();
        fs::set_permissions(node.host.path(PROGRAM), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(node.install(b"one").unwrap());
    }

    #[test]
    fn what_is_not_there_to_install_is_named() {
        let node = Node::new();
        let missing = node.root.path().join("missing");
        let error = install(&node.host, &missing, Path::new(FOLDER)).unwrap_err();
        assert_eq!(error.to_string(), format!("read {}", missing.display()));
        assert!(!node.host.exists(FOLDER), "and nothing is begun");
    }

    #[test]
    fn it_goes_with_all_that_an_installer_left() {
        let node = Node::new();
        node.install(b"one").unwrap();
        node.host.replace(format!("{FOLDER}/bridge"), b"another's").unwrap();
        node.host.replace(format!("{PROGRAM}.new"), b"half").unwrap();
        for _ in 0..2 {
            uninstall(&node.host, Path::new(FOLDER)).unwrap();
            assert_eq!(node.host.list(FOLDER).unwrap(), ["bridge"]);
        }
    }
}
