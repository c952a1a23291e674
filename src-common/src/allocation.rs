//! What the kubelet was answered for a device, kept for as long as it may replay it.
//!
//! The kubelet checkpoints an answer of Allocate and replays it at every later start of the container, after a reboot
//! too, without asking again, while group numbers and device numbers shift. One file a device,
//! `/var/lib/doorbell/allocations/<id>`, written by the plugin, says what the answer rests on: PreStartContainer and
//! ADD hold it against what is true now. A record is replaced by the next answer and never removed: that a device was
//! given away is what keeps its pod from starting unwired while nobody describes the device.

use serde::{Deserialize, Serialize};

use crate::error::chain;
use crate::formats;
use crate::host::{self, Host, HostError};
use crate::subdevice::{DeviceId, Nodes};

const FOLDER: &str = "/var/lib/doorbell/allocations";
const API_VERSION: &str = "doorbell.dev/v1";

/// What the kubelet was answered for a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allocation {
    api_version: String,
    /// The device.
    pub id: DeviceId,
    /// The extended resource that it was given as.
    pub resource: String,
    /// How it was given.
    pub by: By,
}

/// How a device reaches its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// By its CDI name: the runtime reads the nodes from the specification as it is when the container starts.
    Cdi,
    /// By DeviceSpecs: the nodes themselves are in the kubelet's checkpoint.
    Nodes(Nodes),
}

/// Why the record of an answer can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AllocationError {
    /// The file failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The file is there and says nothing that this version understands.
    #[error("{path} is no record of an allocation")]
    Malformed {
        /// The file.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The file speaks of another device or another version.
    #[error("{path} speaks of {id} in {version}")]
    Foreign {
        /// The file.
        path: String,
        /// The device in it.
        id: DeviceId,
        /// The version in it.
        version: String,
    },
}

/// What the kubelet replays for a device can't be held against anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "what the kubelet was answered for {id} is not on record ({}: {why}): delete the pod to have it allocated anew",
    path(id)
)]
pub struct NoRecord {
    id: DeviceId,
    why: String,
}

impl NoRecord {
    /// There is no record.
    #[must_use]
    pub fn absent(id: DeviceId) -> Self {
        Self { id, why: "no such file".to_owned() }
    }
}

/// Why the kubelet's answer no longer holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// The nodes have other numbers now, and those answered may be another device's.
    #[error(
        "the kubelet replays {answered} for {id}, which is at {now} now (a reboot or a rebind renumbered it): delete the pod to have it allocated anew"
    )]
    Renumbered {
        /// The device.
        id: DeviceId,
        /// The node that the container would get.
        answered: String,
        /// The device's own.
        now: String,
    },
    /// The device was given under another name.
    #[error("{id} was allocated as {answered}, not as {asked}: delete the pod to have it allocated anew")]
    OtherResource {
        /// The device.
        id: DeviceId,
        /// The resource in the record.
        answered: String,
        /// The resource asked for.
        asked: String,
    },
}

impl Allocation {
    /// The record of an answer.
    #[must_use]
    pub fn new(id: DeviceId, resource: String, by: By) -> Self {
        Self { api_version: API_VERSION.to_owned(), id, resource, by }
    }

    /// Whether the answer, replayed now, gives the container the nodes that are the device's.
    pub fn holds(&self, resource: &str, now: &Nodes) -> Result<(), Stale> {
        if self.resource != resource {
            let (answered, asked) = (self.resource.clone(), resource.to_owned());
            return Err(Stale::OtherResource { id: self.id.clone(), answered, asked });
        }
        match &self.by {
            By::Nodes(answered) if answered != now => {
                Err(Stale::Renumbered { id: self.id.clone(), answered: named(answered), now: named(now) })
            }
            By::Cdi | By::Nodes(_) => Ok(()),
        }
    }
}

/// The device's own node, for people.
fn named(nodes: &Nodes) -> String {
    nodes.own().map_or_else(|| nodes.to_string(), str::to_owned)
}

/// The record of a device, if there is one.
pub fn read(host: &Host, id: &DeviceId) -> Result<Option<Allocation>, AllocationError> {
    let path = path(id);
    let Some(text) = host.read_text_if_any(&path)? else { return Ok(None) };
    match serde_json::from_str::<Allocation>(&text) {
        Ok(record) if record.api_version == API_VERSION && record.id == *id => Ok(Some(record)),
        Ok(Allocation { id, api_version: version, .. }) => {
            Err(AllocationError::Foreign { path, id, version })
        }
        Err(source) => Err(AllocationError::Malformed { path, source }),
    }
}

/// The record of a device that was given away, which has to be there.
pub fn known(host: &Host, id: &DeviceId) -> Result<Allocation, NoRecord> {
    let unreadable = |error: AllocationError| NoRecord { id: id.clone(), why: chain(&error) };
    read(host, id).map_err(unreadable)?.ok_or_else(|| NoRecord::absent(id.clone()))
}

/// Ids of all devices with a record, sorted.
pub fn ids(host: &Host) -> host::Result<Vec<DeviceId>> {
    Ok(host.list(FOLDER)?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Keeps a record; on disk when this returns. One that says the same already is not written.
pub fn keep(host: &Host, record: &Allocation) -> host::Result<()> {
    host.keep_as(path(&record.id), &formats::to_json(record))
}

/// The file of a device's record.
#[must_use]
pub fn path(id: &DeviceId) -> String {
    format!("{FOLDER}/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::dice::Dice;
    use crate::kernel::vfio;

    const FAST: &str = "doorbell.dev/fast";

    fn nodes(group: u32) -> Nodes {
        let (group, container) = (format!("/dev/vfio/{group}"), "/dev/vfio/vfio".into());
        Nodes::Vfio(vfio::Nodes::Group { group, container })
    }

    fn record(by: By) -> Allocation {
        Allocation::new("0000:01:00.1".parse().unwrap(), FAST.to_owned(), by)
    }

    #[test]
    fn a_record_reads_back() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        for by in [By::Cdi, By::Nodes(nodes(7))] {
            let record = record(by);
            keep(&host, &record).unwrap();
            assert_eq!(read(&host, &record.id).unwrap(), Some(record.clone()));
            assert_eq!(ids(&host).unwrap(), [record.id]);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_record_is_refused_or_reads_back(seed: u64) {
            let root = tempfile::tempdir().unwrap();
            let host = Host::at(root.path());
            let record = record(By::Nodes(nodes(7)));
            let text = Dice::of(seed).damage(&crate::formats::to_json(&record));
            host.keep_as(path(&record.id), &text).unwrap();
            if let Ok(once) = read(&host, &record.id) {
                let once = once.unwrap();
                proptest::prop_assert_eq!(&once.id, &record.id);
                keep(&host, &once).unwrap();
                proptest::prop_assert_eq!(read(&host, &once.id).unwrap(), Some(once));
            }
        }
    }

    #[test]
    fn nodes_that_were_renumbered_no_longer_hold() {
        let record = record(By::Nodes(nodes(7)));
        assert_eq!(record.holds(FAST, &nodes(7)), Ok(()));
        assert_eq!(
            record.holds(FAST, &nodes(8)).unwrap_err().to_string(),
            "the kubelet replays /dev/vfio/7 for 0000:01:00.1, which is at /dev/vfio/8 now (a reboot or a rebind \
             renumbered it): delete the pod to have it allocated anew"
        );
    }

    #[test]
    fn a_cdi_name_holds_whatever_the_number() {
        assert_eq!(record(By::Cdi).holds(FAST, &nodes(8)), Ok(()));
    }

    #[test]
    fn another_resource_no_longer_holds() {
        let stale = record(By::Cdi).holds("doorbell.dev/slow", &nodes(7)).unwrap_err();
        assert!(matches!(stale, Stale::OtherResource { .. }), "{stale}");
    }

    #[test]
    fn a_record_of_another_device_is_not_guessed_at() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        let record = record(By::Cdi);
        keep(&host, &record).unwrap();
        let other: DeviceId = "0000:01:00.2".parse().unwrap();
        host.replace(path(&other), &formats::to_json(&record)).unwrap();
        assert!(matches!(read(&host, &other), Err(AllocationError::Foreign { .. })));
    }
}
