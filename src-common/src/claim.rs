//! Claims: which CNI attachment holds which sub-device, and how to undo what was done for it.
//!
//! One file a device, `/var/lib/doorbell/claims/<id>.json`, that outlives every process of ours and a reboot. Only the
//! CNI writes it; the plugin reads it. An undo step is on disk before the change that it undoes is made, so a killed
//! ADD leaves nothing that DEL does not know of.

mod undo;

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::formats::{self, descriptor};
use crate::host::{self, Host, HostError};
use crate::kernel::boot;
use crate::subdevice::DeviceId;

pub use undo::{Addressed, Dan, Netdev, Undo, Vf};

/// Where claims are.
pub const FOLDER: &str = "/var/lib/doorbell/claims";
const SUFFIX: &str = ".json";
const API_VERSION: &str = "doorbell.dev/v1";

/// An ADD holds the lock for its trial mapping: some 300 ms, or 2 s while a killed holder goes.
const LOCK_FOR: Duration = Duration::from_secs(10);
const LOCK_BRIEFLY_FOR: Duration = Duration::from_millis(200);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Who holds a sub-device, and what was done for the holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claim {
    api_version: String,
    /// The device.
    pub id: DeviceId,
    /// Boot in which it was made ([`boot::id`]).
    boot: String,
    /// The attachment that holds it.
    pub holder: Holder,
    /// The attachment that held it before and was not undone: while the takeover is not over, it may have it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Holder>,
    /// What to undo, in the order in which it was done.
    pub undo: Vec<Undo>,
}

/// A CNI attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Holder {
    /// Name of the CNI network.
    pub network: String,
    /// `CNI_CONTAINERID`: the sandbox.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub interface: String,
    /// `CNI_NETNS`: the sandbox's network namespace, whose file goes with the sandbox.
    pub netns: String,
    /// The pod, for people and for errors.
    pub pod: Pod,
}

/// A pod by its names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Why a claim can't be read or locked.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// A file or folder failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The file is there and says nothing that this version understands.
    #[error("claim file {path} is not readable as one")]
    Malformed {
        /// The file.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The file speaks of another device or another version.
    #[error("claim file {path} {what}")]
    Foreign {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// The device's descriptor folder can't be opened for the lock.
    #[error("lock {path}")]
    Lock {
        /// The folder.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Another of our processes has held the lock all the while.
    #[error("another CNI call is at work on {0}")]
    Locked(String),
}

/// A lock, freed when dropped or when the process dies.
#[derive(Debug)]
pub struct Lock {
    _folder: Flock<File>,
}

impl Claim {
    /// A claim of this boot with nothing done yet.
    pub fn new(host: &Host, id: DeviceId, holder: Holder) -> host::Result<Self> {
        let (api_version, boot) = (API_VERSION.to_owned(), boot::id(host)?);
        Ok(Self { api_version, id, boot, holder, former: None, undo: Vec::new() })
    }

    /// Whether it was made in this boot: network namespaces, and what was done to interfaces and VFs, outlive none.
    pub fn is_of_this_boot(&self, host: &Host) -> host::Result<bool> {
        Ok(boot::id(host)? == self.boot)
    }
}

impl Holder {
    /// Whether this is the attachment of that sandbox and interface: what CNI tells apart.
    #[must_use]
    pub fn is(&self, container_id: &str, interface: &str) -> bool {
        self.container_id == container_id && self.interface == interface
    }
}

/// Locks a device against other CNI calls. The lock is on the device's descriptor folder, whose inode is kept for
/// life: no file of its own is left behind.
pub fn lock(host: &Host, id: &DeviceId) -> Result<Lock, ClaimError> {
    let path = descriptor::folder(id);
    // A claim outlives a reboot, the folder below /run does not.
    host.make_folder(&path)?;
    lock_folder(host, &path, id.as_str(), LOCK_FOR)
}

/// Locks a folder that is there, whose files several devices have a part in. Who has both locks took the device's first.
pub fn lock_shared(host: &Host, path: &str) -> Result<Lock, ClaimError> {
    lock_folder(host, path, path, LOCK_FOR)
}

/// Likewise, for what is not worth a wait.
pub fn lock_briefly(host: &Host, path: &str) -> Result<Lock, ClaimError> {
    lock_folder(host, path, path, LOCK_BRIEFLY_FOR)
}

fn lock_folder(host: &Host, path: &str, what: &str, within: Duration) -> Result<Lock, ClaimError> {
    let failed = |source| ClaimError::Lock { path: path.to_owned(), source };
    let mut folder = File::open(host.path(path)).map_err(failed)?;
    let deadline = Instant::now() + within;
    loop {
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(folder) => return Ok(Lock { _folder: folder }),
            Err((_, Errno::EWOULDBLOCK)) if Instant::now() >= deadline => {
                return Err(ClaimError::Locked(what.to_owned()));
            }
            Err((unlocked, Errno::EWOULDBLOCK)) => folder = unlocked,
            Err((_, errno)) => return Err(failed(errno.into())),
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// The claim on a device, if it has one.
pub fn read(host: &Host, id: &DeviceId) -> Result<Option<Claim>, ClaimError> {
    let path = path(id);
    let Some(text) = host.read_text_if_any(&path)? else { return Ok(None) };
    let claim: Claim =
        serde_json::from_str(&text).map_err(|source| ClaimError::Malformed { path: path.clone(), source })?;
    let wrong = |what| Err(ClaimError::Foreign { path: path.clone(), what });
    if claim.api_version != API_VERSION {
        return wrong(format!("has apiVersion {}, this version reads {API_VERSION}", claim.api_version));
    }
    if claim.id != *id {
        return wrong(format!("speaks of device {}", claim.id));
    }
    Ok(Some(claim))
}

/// Ids of all devices that have a claim.
pub fn ids(host: &Host) -> host::Result<Vec<DeviceId>> {
    let names = host.list(FOLDER)?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(SUFFIX)?.parse().ok()).collect())
}

/// Writes a claim; on disk when this returns.
pub fn write(host: &Host, claim: &Claim) -> Result<(), ClaimError> {
    host.make_folder(FOLDER)?;
    Ok(host.replace(path(&claim.id), &formats::to_json(claim))?)
}

/// The claim on a device that was made in this boot, if it has one.
pub fn of_this_boot(host: &Host, id: &DeviceId) -> Result<Option<Claim>, ClaimError> {
    let Some(claim) = read(host, id)? else { return Ok(None) };
    let this = claim.is_of_this_boot(host)?;
    Ok(Some(claim).filter(|_| this))
}

/// Whether somebody may be using the device now: no process that a claim of an earlier boot speaks of is left. A claim
/// that can't be read may be anybody's.
#[must_use]
pub fn may_be_in_use(host: &Host, id: &DeviceId) -> bool {
    !matches!(of_this_boot(host, id), Ok(None))
}

/// Removes a claim; fine where there is none.
pub fn remove(host: &Host, id: &DeviceId) -> Result<(), ClaimError> {
    Ok(host.remove(path(id))?)
}

/// The file of a device's claim.
#[must_use]
pub fn path(id: &DeviceId) -> String {
    format!("{FOLDER}/{id}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::dice::Dice;
    use crate::kernel::link::vf::VfChange;
    use crate::kernel::mac::MacAddress;

    fn claim() -> Claim {
        let boot = "b1".to_owned();
        let pod = Pod { namespace: "default".to_owned(), name: "a".to_owned() };
        let [network, container_id, interface, netns] =
            ["net", "c1", "eth0", "/var/run/netns/a"].map(str::to_owned);
        let holder = Holder { network, container_id, interface, netns, pod };
        let id = "0000:01:00.1".parse().unwrap();
        let home = "/sys/bus/pci/devices/0000:01:00.1".to_owned();
        let mac: MacAddress = [2, 0, 0, 0, 0, 1].into();
        let vf = Vf {
            pf: "0000:01:00.0".parse().unwrap(),
            index: 0,
            was: VfChange { trust: Some(false), ..Default::default() },
            interface: Some(Addressed { home: home.clone(), mac }),
        };
        let [name, inside] = ["enp1s0v0", "net1"].map(|name| name.parse().unwrap());
        let device = Some("0000:01:00.1".to_owned());
        let netdev = Netdev { name, inside, mac: Some(mac), mtu: 1500, up: true, device, home };
        let undo = vec![
            Undo::RemoveAttachment,
            Undo::RemoveDeviceInfo("/run/a".to_owned()),
            Undo::Vf(vf),
            Undo::Netdev(netdev),
        ];
        let former = Some(Holder { container_id: "c0".to_owned(), ..holder.clone() });
        Claim { api_version: API_VERSION.to_owned(), id, boot, holder, former, undo }
    }

    #[test]
    fn a_claim_reads_back() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        write(&host, &claim()).unwrap();
        assert_eq!(read(&host, &claim().id).unwrap(), Some(claim()));
        assert_eq!(ids(&host).unwrap(), [claim().id]);
        remove(&host, &claim().id).unwrap();
        assert_eq!(read(&host, &claim().id).unwrap(), None);
    }

    #[test]
    fn a_claim_of_another_version_is_not_guessed_at() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        write(&host, &Claim { api_version: "doorbell.dev/v9".to_owned(), ..claim() }).unwrap();
        assert!(read(&host, &claim().id).unwrap_err().to_string().contains("doorbell.dev/v9"));
    }

    #[test]
    fn a_claim_of_an_earlier_boot_is_nobodys() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        let booted = |id: &[u8]| {
            host.make_folder("/proc/sys/kernel/random").unwrap();
            host.replace(boot::ID, id).unwrap();
        };
        booted(b"b1\n");
        assert!(!may_be_in_use(&host, &claim().id));
        write(&host, &claim()).unwrap();
        assert!(may_be_in_use(&host, &claim().id));
        booted(b"b2\n");
        assert!(!may_be_in_use(&host, &claim().id));
        host.replace(path(&claim().id), b"{").unwrap();
        assert!(may_be_in_use(&host, &claim().id));
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_claim_is_refused_or_reads_back(seed: u64) {
            let root = tempfile::tempdir().unwrap();
            let host = Host::at(root.path());
            let text = Dice::of(seed).damage(&formats::to_json(&claim()));
            host.keep_as(path(&claim().id), &text).unwrap();
            if let Ok(read_once) = read(&host, &claim().id) {
                let once = read_once.unwrap();
                proptest::prop_assert_eq!(&once.id, &claim().id);
                write(&host, &once).unwrap();
                proptest::prop_assert_eq!(read(&host, &once.id).unwrap(), Some(once));
            }
        }
    }

    #[test]
    fn the_lock_is_free_again_once_dropped() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        drop(lock(&host, &claim().id).unwrap());
        let _held = lock(&host, &claim().id).unwrap();
    }
}
