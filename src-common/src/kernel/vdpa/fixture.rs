//! A vDPA bus in a temporary folder.

use std::ops::Deref;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use crate::host::Host;

/// A host with nothing on its bus; the bus itself comes with the first device.
pub(super) struct Fixture {
    root: TempDir,
    host: Host,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        Self { root, host }
    }

    /// A device by its own folder, on a driver that is loaded.
    pub(super) fn device(&self, folder: &str, driver: Option<&str>) {
        let name = folder.rsplit_once('/').unwrap().1;
        self.make_folder(folder).unwrap();
        self.make_folder("/sys/bus/vdpa/devices").unwrap();
        let target = format!("../../..{}", folder.strip_prefix("/sys").unwrap());
        symlink(target, self.root.path().join("sys/bus/vdpa/devices").join(name)).unwrap();
        if let Some(driver) = driver {
            self.driver(driver);
            let link = self.path(format!("{folder}/driver"));
            symlink(format!("/sys/bus/vdpa/drivers/{driver}"), link).unwrap();
        }
    }

    /// A driver that is loaded.
    pub(super) fn driver(&self, name: &str) {
        for file in ["bind", "unbind"] {
            self.keep_as(format!("/sys/bus/vdpa/drivers/{name}/{file}"), b"").unwrap();
        }
    }
}

impl Deref for Fixture {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}
