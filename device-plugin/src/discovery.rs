//! Finding VFs and saying which pool each belongs to. Reads only.

mod acpi;

use std::collections::BTreeMap;
use std::io;

use doorbell_common::error::chain;
use doorbell_common::host::{self, Host};
use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::kernel::sriov::{self, Pf};
use doorbell_common::kernel::vfio::Way;
use doorbell_common::subdevice::SubDevice;

use self::acpi::AcpiIndexes;
use crate::config::{Config, PfSelector, PoolName, Select};

/// What the node has.
#[derive(Debug, Clone)]
pub struct Survey {
    /// PFs, in bus order.
    pub pfs: Vec<Pf>,
    /// VFs by address.
    pub vfs: BTreeMap<PciAddress, Vf>,
    /// VFs that could not be read. One of them does not hide the others.
    pub unreadable: BTreeMap<PciAddress, Unreadable>,
    /// What only some pools select by.
    acpi: AcpiIndexes,
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
    let mut survey = Survey {
        pfs: sriov::pfs(host)?,
        vfs: BTreeMap::new(),
        unreadable: BTreeMap::new(),
        acpi: AcpiIndexes::unread(host),
    };
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
                    .or_insert_with(|| Assignment {
                        pool: pool.name.clone(),
                        way: pool.iommufd.way(),
                        also: Vec::new(),
                    });
            }
        }
        assigned
    }

    fn selects(&self, select: &Select, vf: &Vf) -> bool {
        let device = &vf.device;
        let function = &device.function;
        let Select {
            pci_addresses,
            vendors,
            devices,
            drivers,
            pf_names,
            root_devices,
            acpi_indexes,
            numa_nodes,
            virtio_types,
            isolation,
            doorbell,
        } = select;
        let pf = self.pf(vf.pf);
        let of_pf = |selector: &PfSelector| pf.is_some_and(|pf| selector.selects(pf, vf.index));
        (pci_addresses.is_empty() || pci_addresses.contains(&function.address))
            && allows(vendors, |id| id.0 == function.vendor)
            && allows(devices, |id| id.0 == function.device)
            && allows(drivers, |name| function.driver.as_ref().is_some_and(|driver| name == driver.as_str()))
            && allows(pf_names, of_pf)
            && allows(root_devices, |root| of_pf(root.selector()))
            && allows(numa_nodes, |node| function.numa_node == Some(*node))
            && allows(virtio_types, |kind| device.virtio_type == Some(kind.0))
            && allows(isolation, |class| device.isolation.as_ref().is_ok_and(|now| now.class == *class))
            && allows(doorbell, |verdict| {
                device.doorbell.as_ref().is_ok_and(|now| verdict.covers(now.granularity))
            })
            && allows(acpi_indexes, |index| self.acpi.of(&self.vfs, function.address) == Some(*index))
    }

    /// The PF, of all in bus order: a look at each of them for each VF would be quadratic.
    fn pf(&self, address: PciAddress) -> Option<&Pf> {
        let at = self.pfs.binary_search_by_key(&address, |pf| pf.address).ok()?;
        self.pfs.get(at)
    }
}

/// What is said of a VF that later pools select too, if any do.
#[must_use]
pub fn overlap(later: &[PoolName]) -> Option<String> {
    let names: Vec<&str> = later.iter().map(PoolName::as_str).collect();
    (!names.is_empty())
        .then(|| format!("selected by {} too: the first pool in the config has it", names.join(", ")))
}

/// Whether a selector lets a VF through: it is not given, or one of its values matches.
fn allows<T>(values: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(matches)
}

/// Which pool a VF is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The first pool that selects it.
    pub pool: PoolName,
    /// The way that consumers of that pool go.
    pub way: Way,
    /// Later pools that select it too and do not get it: two resources must never list one device.
    pub also: Vec<PoolName>,
}
