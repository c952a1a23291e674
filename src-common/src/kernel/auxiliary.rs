//! Sub-functions: slices of a PCI function that its driver puts on the auxiliary bus (mlx5), each with queues of its own
//! and none of its own IOMMU group.
//!
//! The kernel has no document for their files; this follows `drivers/net/ethernet/mellanox/mlx5/core/sf/dev/dev.c` of
//! Linux 6.12.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::host::{self, Host};

use super::device;
use super::pci::PciAddress;

const DEVICES: &str = "/sys/bus/auxiliary/devices";

/// A sub-function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubFunction {
    /// Its name on the bus: `mlx5_core.sf.2`. The number shifts when sub-functions are made in another order.
    pub name: String,
    /// Its own folder: `/sys/devices/…/0000:08:00.0/mlx5_core.sf.2`.
    pub folder: String,
    /// The number that it was made with (devlink's `sfnum`), which stays.
    pub number: u32,
    /// The PCI function that it is a slice of.
    pub parent: PciAddress,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// NUMA node of its parent, where the platform says one.
    pub numa_node: Option<u32>,
    /// Names of its network interfaces in this network namespace, sorted.
    pub netdevs: Vec<String>,
}

/// Names a sub-function for good: by the function that it is a slice of, and its number there. `0000:08:00.0-sf88`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SfAddress {
    /// The function.
    pub function: PciAddress,
    /// devlink's `sfnum`.
    pub number: u32,
}

/// Why a string names no sub-function.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no sub-function: expected <PCI function>-sf<number>, such as 0000:08:00.0-sf88")]
pub struct BadSfAddress(String);

impl SubFunction {
    /// What names it for good.
    #[must_use]
    pub fn address(&self) -> SfAddress {
        SfAddress { function: self.parent, number: self.number }
    }
}

/// The sub-function of that address; `None` where there is none.
pub fn find(host: &Host, address: SfAddress) -> host::Result<Option<SubFunction>> {
    Ok(list(host)?.into_iter().find(|found| found.address() == address))
}

impl fmt::Display for SfAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-sf{}", self.function, self.number)
    }
}

impl FromStr for SfAddress {
    type Err = BadSfAddress;

    fn from_str(text: &str) -> Result<Self, BadSfAddress> {
        let parse = || {
            let (function, number) = text.split_once("-sf")?;
            // `parse` would take `+8` for a number.
            let number = number.parse().ok().filter(|_| !number.starts_with('+'))?;
            Some(Self { function: function.parse().ok()?, number })
        };
        parse().ok_or_else(|| BadSfAddress(text.to_owned()))
    }
}

impl TryFrom<String> for SfAddress {
    type Error = BadSfAddress;

    fn try_from(text: String) -> Result<Self, BadSfAddress> {
        text.parse()
    }
}

impl From<SfAddress> for String {
    fn from(address: SfAddress) -> Self {
        address.to_string()
    }
}

/// All sub-functions, by parent and number; none where no driver puts anything on the bus.
///
/// Their own parts are on the same bus (`mlx5_core.eth.2`, `mlx5_core.vnet.2`), as are other drivers': only what has a
/// sub-function's number, and a PCI function for a parent, is one.
pub fn list(host: &Host) -> host::Result<Vec<SubFunction>> {
    let mut found = Vec::new();
    for name in host.list(DEVICES)? {
        found.extend(read(host, name)?);
    }
    found.sort_by_key(|function| (function.parent, function.number));
    Ok(found)
}

fn read(host: &Host, name: String) -> host::Result<Option<SubFunction>> {
    let Some(folder) = device::folder(host, &format!("{DEVICES}/{name}"))? else { return Ok(None) };
    let number = host.read_text_if_any(format!("{folder}/sfnum"))?;
    let Some(number) = number.and_then(|number| number.parse().ok()) else { return Ok(None) };
    let Some((parent_folder, parent)) = device::parent(&folder) else { return Ok(None) };
    let Ok(parent) = parent.parse() else { return Ok(None) };
    // -1 where the platform says none.
    let numa_node = host.read_text_if_any(format!("{parent_folder}/numa_node"))?;
    Ok(Some(SubFunction {
        number,
        parent,
        driver: host.link_name(format!("{folder}/driver"))?,
        numa_node: numa_node.and_then(|node| node.parse().ok()),
        netdevs: host.list(format!("{folder}/net"))?,
        name,
        folder,
    }))
}
