//! A change of somebody else's file: of what was read and of nothing later, with mode and owner as they were.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use super::{Host, PRIVATE_FILE_MODE, Result, change, failed, sync_folder};
use crate::fault;

/// Of the file beside it: a name that its owner does not use for one of their own, and an extension that nobody reads.
const ENDING: &str = ".doorbell-new";

impl Host {
    /// Replaces a file as a whole where its content is still `from`. Whether it was.
    ///
    /// A write of its owner that is under way at the moment of the rename is lost, so it is for files that change seldom.
    /// Two calls for one file at a time are not for it either: a lock is their callers'.
    pub fn exchange(&self, path: impl AsRef<Path>, from: &[u8], to: &[u8]) -> Result<bool> {
        let target = self.path(&path);
        let temporary = beside(&target);
        let write = || {
            let former = fs::metadata(&target)?;
            // Nobody reads it before it has the mode of the other.
            let mut options = File::options();
            let mut file =
                options.write(true).create(true).truncate(true).mode(PRIVATE_FILE_MODE).open(&temporary)?;
            let now = file.metadata()?;
            if (now.uid(), now.gid()) != (former.uid(), former.gid()) {
                fchown(&file, Some(former.uid()), Some(former.gid()))?;
            }
            file.set_permissions(former.permissions())?;
            file.write_all(to)?;
            file.sync_all()?;
            fault::point();
            if fs::read(&target)? != from {
                fs::remove_file(&temporary)?;
                return Ok(false);
            }
            fs::rename(&temporary, &target)?;
            sync_folder(&target)?;
            Ok(true)
        };
        match change(write) {
            // Its owner took it away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _ = fs::remove_file(&temporary);
                Ok(false)
            }
            outcome => outcome
                .inspect_err(|_| {
                    // Half a file is worth nothing; the write's own error is the one to report.
                    let _ = fs::remove_file(&temporary);
                })
                .map_err(failed("write", path)),
        }
    }
}

fn beside(file: &Path) -> PathBuf {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(ENDING);
    temporary.into()
}

/// Whether a file of this name is what [`Host::exchange`] leaves where it is killed.
#[must_use]
pub fn is_left_of_exchange(name: &str) -> bool {
    name.ends_with(ENDING)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FILE: &str = "/their.conf";

    fn host(root: &tempfile::TempDir) -> Host {
        let host = Host::at(root.path());
        host.replace(FILE, b"one").unwrap();
        fs::set_permissions(host.path(FILE), Permissions::from_mode(0o640)).unwrap();
        host
    }

    #[test]
    fn what_was_read_is_exchanged_and_keeps_its_mode() {
        let root = tempfile::tempdir().unwrap();
        let host = host(&root);
        fs::write(beside(&host.path(FILE)), "of a crash, and longer").unwrap();
        assert!(host.exchange(FILE, b"one", b"two").unwrap());
        assert_eq!(host.read(FILE).unwrap(), b"two");
        assert_eq!(fs::metadata(host.path(FILE)).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(host.list("/").unwrap(), ["their.conf"]);
    }

    #[test]
    fn what_is_another_by_now_or_gone_is_left() {
        let root = tempfile::tempdir().unwrap();
        let host = host(&root);
        assert!(!host.exchange(FILE, b"former", b"two").unwrap());
        assert_eq!(host.read(FILE).unwrap(), b"one");
        assert_eq!(host.list("/").unwrap(), ["their.conf"]);
        host.remove(FILE).unwrap();
        assert!(!host.exchange(FILE, b"one", b"two").unwrap());
        assert!(host.list("/").unwrap().is_empty());
    }

    #[test]
    fn what_is_left_of_one_is_known_by_its_name() {
        let left = beside(Path::new("/10-main.conflist"));
        assert!(is_left_of_exchange(left.to_str().unwrap()));
        assert!(!is_left_of_exchange("10-main.conflist.new"));
    }
}
