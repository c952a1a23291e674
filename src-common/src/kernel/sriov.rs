//! SR-IOV: physical functions (PFs) and the virtual functions (VFs) that they make.

use std::collections::BTreeSet;

use crate::host::{self, Host, HostError};

use super::net;
use super::pci::{self, PciAddress, folder};

/// A physical function with what names it and what it has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pf {
    /// Where it is.
    pub address: PciAddress,
    /// Names of its network interfaces in this network namespace, sorted.
    pub netdevs: Vec<String>,
    /// Its VFs by number.
    pub vfs: Vec<(u32, PciAddress)>,
}

/// Why a PF does not have the VFs asked for.
#[derive(Debug, thiserror::Error)]
pub enum EnableError {
    /// The kernel takes another number only by way of 0, which removes VFs that pods may hold.
    #[error(
        "PF {pf} has {now} VFs and {wanted} are asked for: making more would remove those that are in use (write 0 to its sriov_numvfs first)"
    )]
    WouldRemove {
        /// The PF.
        pf: PciAddress,
        /// VFs now.
        now: u32,
        /// VFs asked for.
        wanted: u32,
    },
    /// More than the function can make.
    #[error("PF {pf} makes at most {total} VFs, {wanted} are asked for")]
    TooMany {
        /// The PF.
        pf: PciAddress,
        /// Its limit.
        total: u32,
        /// VFs asked for.
        wanted: u32,
    },
    /// The PF's driver made fewer than it took.
    #[error("PF {pf} was asked for {wanted} VFs and made {made}")]
    Fewer {
        /// The PF.
        pf: PciAddress,
        /// VFs asked for.
        wanted: u32,
        /// VFs made.
        made: u32,
    },
    /// A count that is none.
    #[error("{name} of PF {pf} reads `{text}`")]
    NotANumber {
        /// The PF.
        pf: PciAddress,
        /// The file.
        name: &'static str,
        /// What is in it.
        text: String,
    },
    /// A sysfs file could not be read or written.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// All PFs of the host that can make VFs, in bus order, each with its VFs.
pub fn pfs(host: &Host) -> host::Result<Vec<Pf>> {
    let mut pfs: Vec<Pf> = Vec::new();
    let mut virtual_functions = BTreeSet::new();
    for address in pci::functions(host)? {
        // A PF comes before its VFs, which can make none themselves.
        if !virtual_functions.contains(&address) && host.exists(format!("{}/sriov_totalvfs", folder(address)))
        {
            let vfs = vfs(host, address)?;
            virtual_functions.extend(vfs.iter().map(|(_, address)| *address));
            pfs.push(Pf { address, netdevs: net::interfaces(host, &folder(address))?, vfs });
        }
    }
    Ok(pfs)
}

/// The PF of a VF; `None` where the function is gone, or no VF.
pub fn pf_of(host: &Host, address: PciAddress) -> host::Result<Option<PciAddress>> {
    let name = host.link_name(format!("{}/physfn", folder(address)))?;
    Ok(name.and_then(|name| name.parse().ok()))
}

/// Whether [`enable`] would make VFs, or why it would not.
pub fn due(host: &Host, pf: PciAddress, wanted: u32) -> Result<bool, EnableError> {
    let now = number(host, pf, "sriov_numvfs")?;
    if now >= wanted {
        return Ok(false);
    }
    if now > 0 {
        return Err(EnableError::WouldRemove { pf, now, wanted });
    }
    let total = number(host, pf, "sriov_totalvfs")?;
    if wanted > total { Err(EnableError::TooMany { pf, total, wanted }) } else { Ok(true) }
}

/// Whether the kernel binds new VFs of a PF to a host driver by itself.
pub fn autoprobe(host: &Host, pf: PciAddress) -> host::Result<bool> {
    Ok(host.read_text(format!("{}/sriov_drivers_autoprobe", folder(pf)))? != "0")
}

/// Removes all VFs of a PF, and says what becomes of the next ones.
///
/// Blocks without a bound while somebody holds one open: the caller has made sure that all are free.
pub fn disable(host: &Host, pf: PciAddress, autoprobe: bool) -> host::Result<()> {
    let folder = folder(pf);
    host.write_attribute(format!("{folder}/sriov_numvfs"), "0")?;
    host.write_attribute(format!("{folder}/sriov_drivers_autoprobe"), if autoprobe { "1" } else { "0" })
}

fn number(host: &Host, pf: PciAddress, name: &'static str) -> Result<u32, EnableError> {
    let text = host.read_text(format!("{}/{name}", folder(pf)))?;
    text.parse().map_err(|_| EnableError::NotANumber { pf, name, text })
}

/// Makes sure that the PF has at least `wanted` VFs; they come without a host driver. Gives how many it made.
pub fn enable(host: &Host, pf: PciAddress, wanted: u32) -> Result<u32, EnableError> {
    let folder = folder(pf);
    if !due(host, pf, wanted)? {
        return Ok(0);
    }
    // A host driver would bring up a netdev a VF, only to be taken off it again.
    host.write_attribute(format!("{folder}/sriov_drivers_autoprobe"), "0")?;
    host.write_attribute(format!("{folder}/sriov_numvfs"), &wanted.to_string())?;
    let made = number(host, pf, "sriov_numvfs")?;
    if made < wanted { Err(EnableError::Fewer { pf, wanted, made }) } else { Ok(made) }
}

/// The VFs that a PF has made, by number.
pub fn vfs(host: &Host, pf: PciAddress) -> host::Result<Vec<(u32, PciAddress)>> {
    let folder = folder(pf);
    let mut vfs = Vec::new();
    for name in host.list(&folder)? {
        let Some(index) = name.strip_prefix("virtfn").and_then(|index| index.parse().ok()) else { continue };
        if let Some(Ok(vf)) = host.link_name(format!("{folder}/{name}"))?.map(|name| name.parse()) {
            vfs.push((index, vf));
        }
    }
    // virtfn10 sorts before virtfn2 by name.
    vfs.sort_unstable();
    Ok(vfs)
}
