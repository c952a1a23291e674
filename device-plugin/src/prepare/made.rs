//! What the plugin changed of a parent, on disk before each change: `/var/lib/doorbell/made/<name>.json`.
//!
//! A start after a kill finds in it what is its own to go on with, and a changed config what is its own to take back.
//! What is not in it, somebody else made, and is never removed. Drivers, vDPA devices, mdevs and VFs end with the boot,
//! so a record of another boot says nothing any more.

use doorbell_common::error::chain;
use doorbell_common::formats;
use doorbell_common::host::{self, Host};
use doorbell_common::kernel::boot;
use doorbell_common::kernel::mdev::Uuid;
use doorbell_common::kernel::vdpa::VdpaName;
use doorbell_common::subdevice::Child;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const FOLDER: &str = "/var/lib/doorbell/made";
const SUFFIX: &str = ".json";
const API_VERSION: &str = "doorbell.dev/v1";

/// What was changed of one device, first change first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Made {
    api_version: String,
    boot: String,
    /// The device, by its name in sysfs.
    pub(super) of: String,
    /// The changes.
    pub(super) steps: Vec<Step>,
}

/// One change, with what takes it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Step {
    /// VFs of a PF that had none.
    Vfs {
        /// Whether the kernel would have bound them by itself.
        autoprobe: bool,
    },
    /// A function's driver.
    Driver {
        /// The one before the first change.
        was: Option<String>,
    },
    /// A vDPA device.
    Vdpa(VdpaName),
    /// The driver of a vDPA device that was there.
    BusDriver {
        /// The device.
        name: VdpaName,
        /// The one before the first change.
        was: Option<String>,
    },
    /// An mdev.
    Mdev(Uuid),
    /// That the vDPA bus binds new devices by itself was switched off.
    BusAutoprobe,
}

impl Made {
    /// What is on record of a device in this boot; empty where nothing is. A record of this boot that this version can't
    /// read is an error: what it speaks of is ours, and not known.
    pub(super) fn of(host: &Host, of: &str) -> Result<Self, String> {
        let unreadable = |error| chain(&error);
        let boot = boot::id(host).map_err(unreadable)?;
        let (api_version, of, steps) = (API_VERSION.to_owned(), of.to_owned(), Vec::new());
        let none = Self { api_version, boot, of, steps };
        let file = file(&none.of);
        let Some(text) = host.read_text_if_any(&file).map_err(unreadable)? else { return Ok(none) };
        let foreign = |error| format!("record {file} is not readable as one of this version: {error}");
        let record: Value = serde_json::from_str(&text).map_err(foreign)?;
        if record["boot"] != *none.boot {
            return Ok(none);
        }
        match serde_json::from_value::<Self>(record).map_err(foreign)? {
            made if made.api_version == API_VERSION && made.of == none.of => Ok(made),
            made => Err(format!("record {file} speaks of {} in {}", made.of, made.api_version)),
        }
    }

    /// Whether something that stands on the device is ours.
    pub(super) fn has(&self, child: &Child) -> bool {
        match child {
            Child::None => true,
            Child::Vdpa { name, .. } => self.steps.contains(&Step::Vdpa(name.clone())),
            Child::Mdev(uuid) => self.steps.contains(&Step::Mdev(uuid.clone())),
        }
    }

    /// Puts a change on record, before it is made; one of its kind that is there stays.
    pub(super) fn will(&mut self, host: &Host, step: Step) -> host::Result<()> {
        if self.steps.iter().any(|there| there.is_of_the_kind_of(&step)) {
            return Ok(());
        }
        self.steps.push(step);
        host.keep_as(file(&self.of), &formats::to_json(self))
    }

    /// Takes a change off the record, after it was taken back.
    pub(super) fn undone(&mut self, host: &Host, step: &Step) -> host::Result<()> {
        self.steps.retain(|there| there != step);
        if self.steps.is_empty() {
            host.remove(file(&self.of))
        } else {
            host.keep_as(file(&self.of), &formats::to_json(self))
        }
    }
}

impl Step {
    /// Whether to take the one back is to take back the other.
    fn is_of_the_kind_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Vfs { .. }, Self::Vfs { .. }) | (Self::Driver { .. }, Self::Driver { .. }) => true,
            (Self::BusDriver { name: a, .. }, Self::BusDriver { name: b, .. }) => a == b,
            (one, other) => one == other,
        }
    }
}

/// Names of all devices with a record.
pub(super) fn all(host: &Host) -> host::Result<Vec<String>> {
    let names = host.list(FOLDER)?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(SUFFIX)).map(str::to_owned).collect())
}

/// Drops a record that says nothing any more.
pub(super) fn forget(host: &Host, of: &str) -> host::Result<()> {
    host.remove(file(of))
}

fn file(of: &str) -> String {
    format!("{FOLDER}/{of}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn booted(id: &str) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        boot(&host, id);
        (root, host)
    }

    fn boot(host: &Host, id: &str) {
        host.make_folder("/proc/sys/kernel/random").unwrap();
        host.replace(boot::ID, id.as_bytes()).unwrap();
    }

    const VF: &str = "0000:01:00.1";

    #[test]
    fn what_was_before_the_first_change_stays_on_record() {
        let (_root, host) = booted("b1");
        let mut made = Made::of(&host, VF).unwrap();
        let first = Step::Driver { was: Some("virtio-pci".to_owned()) };
        made.will(&host, first.clone()).unwrap();
        made.will(&host, Step::Driver { was: Some("vfio-pci".to_owned()) }).unwrap();
        let name: VdpaName = VF.parse().unwrap();
        made.will(&host, Step::Vdpa(name.clone())).unwrap();
        assert_eq!(Made::of(&host, VF).unwrap().steps, [first.clone(), Step::Vdpa(name.clone())]);
        made.undone(&host, &Step::Vdpa(name)).unwrap();
        made.undone(&host, &first).unwrap();
        assert_eq!(all(&host).unwrap(), [""; 0]);
    }

    #[test]
    fn a_record_of_another_boot_says_nothing() {
        let (_root, host) = booted("b1");
        Made::of(&host, VF).unwrap().will(&host, Step::Driver { was: None }).unwrap();
        boot(&host, "b2");
        assert_eq!(Made::of(&host, VF).unwrap().steps, []);
    }
}
