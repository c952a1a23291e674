//! What takes a change back that an attachment made.

use serde::{Deserialize, Serialize};

use crate::kernel::link::LinkName;
use crate::kernel::link::vf::VfChange;
use crate::kernel::mac::MacAddress;
use crate::kernel::pci::PciAddress;

/// A change that an attachment made, by what takes it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Remove `attachment.json` from the device's descriptor.
    RemoveAttachment,
    /// Remove the attachment's device-info file, which lies where the runtime said.
    RemoveDeviceInfo(String),
    /// Bring the sub-device's network interface back to the host, and make it what it was there.
    Netdev(Netdev),
    /// Give the sub-device's VF back, through its PF, what it was.
    Vf(Vf),
    /// Take the interface out of the DAN file of the sandbox, that its VM makes of the VF.
    Dan(Dan),
}

/// An interface in a DAN file of Kata Containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dan {
    /// The file.
    pub file: String,
    /// Name of the interface.
    pub name: LinkName,
    /// The VF.
    pub function: PciAddress,
}

/// A network interface as it was on the host, and what it is found by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Netdev {
    /// Its name on the host.
    pub name: LinkName,
    /// Its name in the pod.
    pub inside: LinkName,
    /// Its MAC address; absent where it got another through the PF, whose step has it ([`Vf::interface`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// Bytes of its largest packet.
    pub mtu: u32,
    /// Whether it was switched on.
    pub up: bool,
    /// Name of the device below it on that device's bus, the same in every namespace: `0000:01:00.1`, `virtio3`. Absent
    /// where the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The folder in sysfs below which it shows while it is on the host.
    pub home: String,
}

/// What a PF held of a VF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vf {
    /// The PF.
    pub pf: PciAddress,
    /// Number of the VF.
    pub index: u32,
    /// What was changed, as it was.
    pub was: VfChange,
    /// The sub-device's interface, where the PF gave it another MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Addressed>,
}

/// A network interface with the MAC address that it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addressed {
    /// As in [`Netdev`].
    pub home: String,
    /// Its address.
    pub mac: MacAddress,
}
