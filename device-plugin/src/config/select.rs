//! Selectors: which VFs a pool takes. What they mean is said here, how they are matched in [`crate::discovery`].

use std::collections::BTreeSet;
use std::fmt;

use doorbell_common::doorbell::Granularity;
use doorbell_common::isolation::Class;
use doorbell_common::kernel::net::LinkType;
use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::kernel::sriov::Pf;
use doorbell_common::subdevice::{Access, ParentName};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::list::texts;
use super::schema::form;
use super::{DriverName, PfSelector, RootDevice, VirtioType};

/// Selectors; a sub-device is selected where each that is given matches. At least one is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Select {
    /// Kinds of auxiliary devices to select from, instead of VFs.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub aux_types: Vec<AuxType>,
    /// Names of parents that are no VFs: simulators, mdev parents, sub-functions.
    #[schemars(with = "Vec<String>")]
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<ParentName>,
    /// Addresses of VFs.
    #[schemars(with = "Vec<form::Address>")]
    #[serde(deserialize_with = "texts", skip_serializing_if = "BTreeSet::is_empty")]
    pub pci_addresses: BTreeSet<PciAddress>,
    /// PCI vendor ids of VFs, or of the functions that sub-functions are slices of.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub vendors: Vec<HexId>,
    /// PCI device ids of the same.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<HexId>,
    /// PCI base classes of VFs.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<BaseClass>,
    /// Drivers that VFs are bound to when they are found.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub drivers: Vec<DriverName>,
    /// PFs, with numbers of VFs or sub-functions: `ens1f0`, `ens1f0#0-7,9`, `0000:01:00.0#2`.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub pf_names: Vec<PfSelector>,
    /// PFs by address, with VF numbers: `0000:01:00.0#0-3`.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub root_devices: Vec<RootDevice>,
    /// What the network interfaces of VFs and sub-functions are on, or of those without one their PF's.
    #[schemars(with = "Vec<form::LinkType>")]
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub link_types: Vec<LinkType>,
    /// Drivers on the vDPA bus, one of which the vDPA device on a VF or sub-function is bound to when it is found.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub vdpa_drivers: Vec<VdpaDriver>,
    /// ACPI indexes of VFs, where firmware numbers them.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub acpi_indexes: Vec<AcpiIndex>,
    /// NUMA nodes of VFs; one without a node is on none of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub numa_nodes: Vec<u32>,
    /// Virtio device types of VFs, or that devices on other parents can be.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub virtio_types: Vec<VirtioType>,
    /// Isolation classes of VFs; one that is refused has none.
    #[schemars(with = "Vec<form::Class>")]
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub isolation: Vec<Class>,
    /// Doorbell verdicts of VFs; one that is refused has none.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub doorbell: Vec<DoorbellVerdict>,
}

/// A kind of auxiliary device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuxType {
    /// A sub-function.
    Sf,
}

/// A verdict on a doorbell, as a selector asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DoorbellVerdict {
    /// Its pages hold nothing else.
    Exclusive,
    /// The same, and one page rings all queues.
    PerDevice,
    /// The same, and each queue has a page of its own.
    PerQueue,
}

/// A 16-bit PCI id in hex, as `lspci -n` prints it: `1af4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HexId(pub u16);

/// The first byte of a PCI class code in hex, as `lspci -n` prints it: `02` is a network controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseClass(pub u8);

/// A driver on the vDPA bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VdpaDriver {
    /// Makes `/dev/vhost-vdpa-N`.
    VhostVdpa,
    /// Makes a virtio device of the kernel.
    VirtioVdpa,
}

/// A number that firmware gives a device, as its `acpi_index` in sysfs has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcpiIndex(pub u64);

impl Select {
    /// Selectors that name a PF.
    pub fn pfs(&self) -> impl Iterator<Item = &PfSelector> {
        self.pf_names.iter().chain(self.root_devices.iter().map(RootDevice::selector))
    }

    /// Whether VFs of `pf` can be selected: each list of PFs that is given names it.
    #[must_use]
    pub fn may_take_from(&self, pf: &Pf) -> bool {
        let Self { pf_names, root_devices, .. } = self;
        (pf_names.is_empty() || pf_names.iter().any(|selector| selector.pf.is(pf)))
            && (root_devices.is_empty() || root_devices.iter().any(|root| root.selector().pf.is(pf)))
    }
}

impl DoorbellVerdict {
    /// Whether a doorbell of its own pages, of which one rings so much, is meant.
    #[must_use]
    pub fn covers(self, granularity: Granularity) -> bool {
        match self {
            Self::Exclusive => true,
            Self::PerDevice => granularity == Granularity::Device,
            Self::PerQueue => granularity == Granularity::Queue,
        }
    }
}

impl VdpaDriver {
    /// As sysfs calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VhostVdpa => "vhost_vdpa",
            Self::VirtioVdpa => "virtio_vdpa",
        }
    }

    /// Whether that access mode has its devices on it.
    #[must_use]
    pub fn serves(self, access: Access) -> bool {
        match self {
            Self::VhostVdpa => access == Access::VhostVdpa,
            Self::VirtioVdpa => access == Access::VirtioVdpa,
        }
    }
}

impl fmt::Display for BaseClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

impl fmt::Display for HexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

impl fmt::Display for AcpiIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for BaseClass {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_class = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let parsed = u8::from_str_radix(&text, 16).ok().filter(|_| is_class);
        parsed.map(Self).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no PCI base class: expected two hex digits, such as 02"))
        })
    }
}

impl<'de> Deserialize<'de> for HexId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_id = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let parsed = u16::from_str_radix(&text, 16).ok().filter(|_| is_id);
        parsed.map(Self).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no PCI id: expected four hex digits, such as 1af4"))
        })
    }
}

impl<'de> Deserialize<'de> for AcpiIndex {
    /// Taken as text, so that `101` and `'101'` are the same to those who come from another plugin's config.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        parsed.map(Self).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no ACPI index: expected a number, such as 101"))
        })
    }
}
