//! The generic netlink family `vdpa` of this machine: what devices can be made of, what was made, making and removing.
//!
//! The kernel knows the family in its first network namespace only: that is where the caller's thread has to be.

use std::io;

use netlink_packet_core::{DecodeError, NLM_F_DUMP};
use nix::errno::Errno;

use crate::host::{Host, HostError};
use crate::kernel::mac::MacAddress;
use crate::kernel::netlink::NetlinkError;

use super::exchange::{PATIENCE, ask, read};
use super::message::{
    DEV_ATTR_SET, DEV_CONFIG_GET, DEV_DEL, DEV_GET, DEV_NAME, DEV_NET_CFG_MACADDR, MGMTDEV_GET, Message,
};
use super::{Config, ManagementDevice, ManagementHandle, NewDevice, VdpaDevice, VdpaName};

/// Where a capture has the answers: no host has such files.
const MANAGEMENT_DEVICES: &str = "/netlink/vdpa/mgmtdev-get";
const DEVICES: &str = "/netlink/vdpa/dev-get";
const CONFIGS: &str = "/netlink/vdpa/dev-config-get";

/// Why the family gave no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum VdpaError {
    /// There is no such family.
    #[error("the module vdpa is not loaded")]
    NotLoaded,
    /// The family is there, and not for this caller.
    #[error("the netlink family vdpa is not to be seen: this is not the host's network namespace")]
    Elsewhere,
    /// The kernel keeps the request.
    #[error(
        "{doing}: no answer from the kernel in {} s; most likely a vDPA device is being removed that somebody has open, \
         and all requests wait until they close it",
        PATIENCE.as_secs()
    )]
    Stuck {
        /// What was tried, and on what.
        doing: String,
    },
    /// The request failed, or the kernel refuses it.
    #[error("{doing}")]
    Netlink {
        /// What was tried, and on what.
        doing: String,
        /// How it went.
        source: NetlinkError,
    },
    /// An answer of the kernel, or in a capture, that is none of the family's.
    #[error("the answer of the netlink family vdpa can't be read")]
    Malformed(#[from] DecodeError),
    /// Hardware is made into one device at a time.
    #[error("{management} is made into vDPA device {by} already")]
    Occupied {
        /// What was to be made into another.
        management: ManagementHandle,
        /// The device that it is.
        by: String,
    },
    /// It was acknowledged, and nothing came of it.
    #[error("vDPA device {0} did not take the MAC address")]
    MacNotTaken(VdpaName),
    /// A captured host has no such answer.
    #[error("the configuration of vDPA device {0} is not captured")]
    NotCaptured(VdpaName),
    /// A captured host has no kernel that could be asked.
    #[error("{0}: this host is a captured one")]
    NotReal(String),
    /// No thread to ask with.
    #[error("start a thread")]
    Thread(#[source] io::Error),
    /// A capture could not be read.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl VdpaError {
    /// Whether the kernel, or the driver of this device, has no such thing: an attribute that it does not take, a
    /// command that is newer than it is.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Netlink { source, .. } if source.refusal() == Some(Errno::EOPNOTSUPP))
    }
}

/// What devices can be made of, by name; none where the module is not loaded.
pub fn management_devices(host: &Host) -> Result<Vec<ManagementDevice>, VdpaError> {
    let answers = list(host, MANAGEMENT_DEVICES, "list vDPA management devices", MGMTDEV_GET)?;
    let mut found = answers.iter().map(ManagementDevice::decode).collect::<Result<Vec<_>, _>>()?;
    found.sort_by(|one, other| one.handle.cmp(&other.handle));
    Ok(found)
}

/// The devices that were made of them, by name; none where the module is not loaded.
pub fn devices(host: &Host) -> Result<Vec<VdpaDevice>, VdpaError> {
    let answers = list(host, DEVICES, "list vDPA devices", DEV_GET)?;
    let mut found = answers.iter().map(VdpaDevice::decode).collect::<Result<Vec<_>, _>>()?;
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn list(host: &Host, file: &str, doing: &str, command: u8) -> Result<Vec<Message>, VdpaError> {
    match read(host, file, doing, NLM_F_DUMP, Message::new(command)) {
        Ok(answers) => Ok(answers.unwrap_or_default()),
        Err(VdpaError::NotLoaded) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// What a device says of itself. The kernel reads out network devices, and since Linux 6.9 block devices; others are
/// [unsupported](VdpaError::is_unsupported).
pub fn config(host: &Host, name: &VdpaName) -> Result<Config, VdpaError> {
    let request = Message::new(DEV_CONFIG_GET).with_text(DEV_NAME, name.as_str());
    let doing = format!("read the configuration of vDPA device {name}");
    let answers = read(host, &format!("{CONFIGS}/{name}"), &doing, 0, request)?;
    let answers = answers.ok_or_else(|| VdpaError::NotCaptured(name.clone()))?;
    let answer = answers.first().ok_or_else(|| DecodeError::from("no answer"))?;
    Ok(Config::decode(answer)?)
}

/// Makes a device. It is on the bus when this returns, and on a driver too unless the bus' autoprobe is off.
///
/// Hardware is made into one device at a time. The kernel takes a request for a second one, and vp_vdpa (Linux 6.12)
/// then forgets the first: removing it, or unbinding the VF, crashes the kernel with the lock of all requests held,
/// even where the second was refused. So it is not asked; two callers at once are the callers' affair. After
/// [`VdpaError::Stuck`] the device may yet be made.
pub fn create(host: &Host, device: &NewDevice) -> Result<(), VdpaError> {
    let NewDevice { name, management, .. } = device;
    if management.bus().is_some()
        && let Some(other) = devices(host)?.into_iter().find(|other| other.management == *management)
    {
        return Err(VdpaError::Occupied { management: management.clone(), by: other.name });
    }
    change(host, format!("make vDPA device {name} of {management}"), device.encode())
}

/// Removes a device that was made by [`create`] or by others in the same way.
///
/// On one that somebody has open the kernel blocks, and so does every later request of this machine: the caller has
/// made sure that it is free.
pub fn delete(host: &Host, name: &VdpaName) -> Result<(), VdpaError> {
    let request = Message::new(DEV_DEL).with_text(DEV_NAME, name.as_str());
    change(host, format!("remove vDPA device {name}"), request)
}

/// Gives a network device another MAC address, since Linux 6.12 and by few drivers (mlx5, the simulator).
pub fn set_mac(host: &Host, name: &VdpaName, mac: MacAddress) -> Result<(), VdpaError> {
    let request = Message::new(DEV_ATTR_SET).with_text(DEV_NAME, name.as_str());
    change(
        host,
        format!("set the MAC address of vDPA device {name}"),
        request.with(DEV_NET_CFG_MACADDR, &mac.octets()),
    )?;
    // For a device that is no network device the kernel acknowledges and does nothing.
    let config = config(host, name)?;
    if config.network().is_some_and(|network| network.mac == Some(mac)) {
        Ok(())
    } else {
        Err(VdpaError::MacNotTaken(name.clone()))
    }
}

fn change(host: &Host, doing: String, request: Message) -> Result<(), VdpaError> {
    if !host.is_real() {
        return Err(VdpaError::NotReal(doing));
    }
    ask(host, &doing, 0, request).map(drop)
}
