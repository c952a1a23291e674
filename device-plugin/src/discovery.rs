//! Finding VFs and saying which pool each belongs to. Reads only.

use std::collections::BTreeMap;
use std::io;

use doorbell_common::error::chain;
use doorbell_common::host::{self, Host};
use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::kernel::sriov::{self, Pf};
use doorbell_common::subdevice::SubDevice;

use crate::config::{Config, PoolName, Select};

/// What the node has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// PFs, in bus order.
    pub pfs: Vec<Pf>,
    /// VFs by address.
    pub vfs: BTreeMap<PciAddress, Vf>,
    /// VFs that could not be read. One of them does not hide the others.
    pub unreadable: BTreeMap<PciAddress, Unreadable>,
}

/// A VF with its place and its verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vf {
    /// The PF that made it.
    pub pf: PciAddress,
    /// Its number there, from 0.
    pub index: u32,
    /// What was found of it.
    pub device: SubDevice,
}

/// A VF of which only the place is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The PF that made it.
    pub pf: PciAddress,
    /// Its number there, from 0.
    pub index: u32,
    /// What could not be read, and why.
    pub reason: String,
}

/// Looks at every VF of the node. `page` is the page size.
pub fn survey(host: &Host, page: u64) -> host::Result<Survey> {
    let mut survey = Survey { pfs: sriov::pfs(host)?, ..Survey::default() };
    for pf in &survey.pfs {
        for (index, address) in &pf.vfs {
            match SubDevice::examine(host, *address, page) {
                Ok(device) => drop(survey.vfs.insert(*address, Vf { pf: pf.address, index: *index, device })),
                // Removed between the listing and the look at it: it is not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound && is_gone(host, *address) => {}
                Err(error) => {
                    let unreadable = Unreadable { pf: pf.address, index: *index, reason: chain(&error) };
                    survey.unreadable.insert(*address, unreadable);
                }
            }
        }
    }
    Ok(survey)
}

fn is_gone(host: &Host, address: PciAddress) -> bool {
    matches!(sriov::pf_of(host, address), Ok(None))
}

impl Survey {
    /// The pool of each selected VF, and the pools that selected it too but come later in the config.
    #[must_use]
    pub fn assign(&self, config: &Config) -> BTreeMap<PciAddress, Assignment> {
        let mut assigned: BTreeMap<PciAddress, Assignment> = BTreeMap::new();
        for pool in &config.pools {
            for (address, _) in self.vfs.iter().filter(|(_, vf)| self.selects(&pool.select, vf)) {
                assigned
                    .entry(*address)
                    .and_modify(|assignment| assignment.also.push(pool.name.clone()))
                    .or_insert_with(|| Assignment { pool: pool.name.clone(), also: Vec::new() });
            }
        }
        assigned
    }

    fn selects(&self, select: &Select, vf: &Vf) -> bool {
        let function = &vf.device.function;
        let pf = self.pfs.iter().find(|pf| pf.address == vf.pf);
        let where_given = |given: bool, matches: bool| !given || matches;
        let Select { pci_addresses, vendors, devices, drivers, pf_names } = select;
        where_given(!pci_addresses.is_empty(), pci_addresses.contains(&function.address))
            && where_given(!vendors.is_empty(), vendors.iter().any(|id| id.0 == function.vendor))
            && where_given(!devices.is_empty(), devices.iter().any(|id| id.0 == function.device))
            && where_given(
                !drivers.is_empty(),
                function.driver.as_deref().is_some_and(|now| drivers.iter().any(|name| name == now)),
            )
            && where_given(
                !pf_names.is_empty(),
                pf.is_some_and(|pf| pf_names.iter().any(|selector| selector.selects(pf, vf.index))),
            )
    }
}

/// Which pool a VF is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The first pool that selects it.
    pub pool: PoolName,
    /// Later pools that select it too and do not get it: two resources must never list one device.
    pub also: Vec<PoolName>,
}
