//! IOMMU groups: which functions one translation confines together.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::host::{self, Host};

use super::pci::{self, PciAddress};

/// Folder of all groups, by number.
pub const GROUPS: &str = "/sys/kernel/iommu_groups";
/// PCI class 06xx: bridges. They pass DMA on and have no driver that could be handed out.
const CLASS_BRIDGE: u32 = 0x06;

/// Number of an IOMMU group; it shifts between boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u32);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for GroupId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The group that a function belongs to now; `None` without an IOMMU.
pub fn group_of(host: &Host, address: PciAddress) -> host::Result<Option<GroupId>> {
    let name = host.link_name(format!("{}/iommu_group", pci::folder(address)))?;
    Ok(name.and_then(|name| name.parse().ok()))
}

/// Folder that lists the members of a group.
#[must_use]
pub fn members_folder(group: GroupId) -> String {
    format!("{GROUPS}/{group}/devices")
}

/// Who is in a group beside a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// Whether the group lists the function itself.
    pub has_it: bool,
    /// Others that could be driven by somebody: all but bridges.
    ///
    /// A member that is no PCI function keeps its sysfs name: what it is does not matter, that it is there does.
    pub others: Vec<String>,
}

/// The members of the group of a function.
pub fn members(host: &Host, group: GroupId, function: PciAddress) -> host::Result<Members> {
    let mut members = Members { has_it: false, others: Vec::new() };
    for member in host.list(members_folder(group))? {
        match member.parse::<PciAddress>() {
            Ok(address) if address == function => members.has_it = true,
            Ok(address) if pci::class(host, address)? >> 16 == CLASS_BRIDGE => {}
            _ => members.others.push(member),
        }
    }
    Ok(members)
}
