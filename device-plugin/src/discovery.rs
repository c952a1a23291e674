//! Finding what sub-devices can stand on, what stands there, and which pool each belongs to. Reads only.

mod asked;
mod select;
mod standing;
mod touched;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use doorbell_common::doorbell;
use doorbell_common::error::chain;
use doorbell_common::host::{self, Host};
use doorbell_common::kernel::auxiliary::{self, SfAddress, SubFunction};
use doorbell_common::kernel::mdev::{self, Uuid};
use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::kernel::sriov::{self, Pf};
use doorbell_common::kernel::vdpa::{ManagementDevice, OnBus};
use doorbell_common::kernel::vfio::Way;
use doorbell_common::subdevice::{Access, Parent, ParentName, VirtualFunction};

use self::asked::Asked;
use crate::config::{Config, Pool, PoolName};
use crate::parallel;

pub use touched::Touched;

/// What the node has.
#[derive(Debug, Clone)]
pub struct Survey {
    /// PFs, in bus order.
    pub pfs: Vec<Pf>,
    /// VFs by address.
    pub vfs: BTreeMap<PciAddress, Vf>,
    /// VFs that could not be read. One of them does not hide the others.
    pub unreadable: BTreeMap<PciAddress, Unreadable>,
    /// Sub-functions by address.
    pub sfs: BTreeMap<SfAddress, SubFunction>,
    /// Parents that are neither, by name.
    pub others: BTreeMap<ParentName, Other>,
    /// vDPA devices by what they stand on, those first made first.
    vdpa: BTreeMap<Parent, Vec<VdpaOn>>,
    /// Management devices: what vDPA devices can be made on.
    pub management: Vec<ManagementDevice>,
    /// Why the kernel does not say what vDPA devices there are, if it does not.
    pub unlisted: Option<String>,
    /// The same, where it may be waiting for somebody with the lock that changes need: then nothing is to be changed.
    pub stuck: Option<String>,
    /// What only some pools select by.
    asked: Asked,
}

/// A VF with its place and its verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vf {
    /// The PF that made it.
    pub pf: PciAddress,
    /// Its number there, from 0.
    pub index: u32,
    /// What was found of it, shared by the looks that found the same.
    pub device: Arc<VirtualFunction>,
}

/// A parent that is neither VF nor sub-function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Other {
    /// A vDPA device simulator, by its management device.
    Simulator(ManagementDevice),
    /// An mdev parent.
    Mdev {
        /// What it can make.
        parent: mdev::Parent,
        /// What it has made.
        mdevs: Vec<Uuid>,
    },
}

/// A vDPA device on a parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VdpaOn {
    /// The device.
    pub on_bus: OnBus,
    /// Its virtio device type, where netlink says it.
    pub virtio_type: Option<u16>,
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

/// Looks at every parent of the node. `page` is the page size.
pub fn survey(host: &Host, page: u64) -> host::Result<Survey> {
    look(host, page, sriov::pfs(host)?, |_| None)
}

/// `known` is what need not be examined again of a VF.
fn look(
    host: &Host,
    page: u64,
    pfs: Vec<Pf>,
    known: impl Fn(PciAddress) -> Option<Arc<VirtualFunction>> + Sync,
) -> host::Result<Survey> {
    let mut survey = Survey {
        pfs,
        vfs: BTreeMap::new(),
        unreadable: BTreeMap::new(),
        sfs: BTreeMap::new(),
        others: BTreeMap::new(),
        vdpa: BTreeMap::new(),
        management: Vec::new(),
        unlisted: None,
        stuck: None,
        asked: Asked::nothing_of(host),
    };
    let place =
        |pf: PciAddress, (index, address): &(u32, PciAddress)| (pf, *index, *address, known(*address));
    let places: Vec<_> =
        survey.pfs.iter().flat_map(|pf| pf.vfs.iter().map(|vf| place(pf.address, vf))).collect();
    let unknown = places.iter().filter(|(.., known)| known.is_none()).count();
    let examined = parallel::map(&places, unknown, |(pf, _, address, known)| match known {
        Some(device) => Ok(Arc::clone(device)),
        None => VirtualFunction::examine_of(host, *address, *pf, page).map(Arc::new),
    });
    let mut read = Vec::with_capacity(places.len());
    for ((pf, index, address, _), examined) in places.into_iter().zip(examined) {
        match examined {
            Ok(device) => read.push((address, Vf { pf, index, device })),
            // Removed between the listing and the look at it: it is not there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_gone(host, address) => {}
            Err(error) => {
                survey.unreadable.insert(address, Unreadable { pf, index, reason: chain(&error) });
            }
        }
    }
    survey.vfs = read.into_iter().collect();
    for sub_function in auxiliary::list(host)? {
        survey.sfs.insert(sub_function.address(), sub_function);
    }
    survey.look_for_vdpa(host)?;
    survey.look_for_mdevs(host)?;
    Ok(survey)
}

fn is_gone(host: &Host, address: PciAddress) -> bool {
    matches!(sriov::pf_of(host, address), Ok(None))
}

impl Survey {
    /// Another look, after what was touched: of the VFs only those are examined that are new, touched, or not isolated as
    /// far as was known. Which VFs there are is listed anew, unless all that was touched are VFs which still are there.
    pub fn again(&self, host: &Host, page: u64, touched: &Touched) -> host::Result<Self> {
        let groups = touched.groups(host);
        let known = |address| {
            let Vf { pf, device, .. } = self.vfs.get(&address)?;
            let stands = !touched.has(address)
                && !touched.has(*pf)
                && device.isolation.is_ok()
                && device.iommu_group.is_none_or(|group| !groups.contains(&group));
            stands.then(|| Arc::clone(device))
        };
        let pfs = if touched.all(|function| self.is_there(host, function)) {
            self.pfs.clone()
        } else {
            sriov::pfs(host)?
        };
        look(host, page, pfs, known)
    }

    /// Whether a function is a VF that was there at this look and is now.
    fn is_there(&self, host: &Host, address: PciAddress) -> bool {
        let pf = self.vfs.get(&address).map(|vf| vf.pf);
        pf.is_some() && sriov::pf_of(host, address).is_ok_and(|now| now == pf)
    }

    /// Whether a parent is there.
    #[must_use]
    pub fn has(&self, parent: &Parent) -> bool {
        match parent {
            Parent::Vf(address) => self.vfs.contains_key(address) || self.unreadable.contains_key(address),
            Parent::Sf(address) => self.sfs.contains_key(address),
            Parent::Device(name) => self.others.contains_key(name),
        }
    }

    /// Every parent, VFs first.
    pub fn parents(&self) -> impl Iterator<Item = Parent> {
        let vfs = self.vfs.keys().copied().map(Parent::Vf);
        let sfs = self.sfs.keys().copied().map(Parent::Sf);
        vfs.chain(sfs).chain(self.others.keys().cloned().map(Parent::Device))
    }

    /// The pool of each selected parent, and the pools that selected it too but come later in the config.
    #[must_use]
    pub fn assign(&self, config: &Config) -> BTreeMap<Parent, Assignment> {
        let assigned = |parent: Parent| Some((parent.clone(), self.assignment(config, &parent)?));
        self.parents().filter_map(assigned).collect()
    }

    /// [`Survey::assign`], of one parent.
    #[must_use]
    pub fn assignment(&self, config: &Config, parent: &Parent) -> Option<Assignment> {
        let found = self.found(parent)?;
        let mut pools = config.pools.iter().filter(|pool| self.selects(pool, &found));
        let mut assignment = Assignment::to(pools.next()?);
        assignment.also.extend(pools.map(|pool| pool.name.clone()));
        Some(assignment)
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

/// Which pool a parent is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The first pool that selects it.
    pub pool: PoolName,
    /// How consumers of that pool drive what stands on it.
    pub driven: Driven,
    /// Later pools that select it too and do not get it: two resources must never list one device.
    pub also: Vec<PoolName>,
}

/// How consumers drive what stands on a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Driven {
    /// The access mode.
    pub access: Access,
    /// The way that they go, where that is through VFIO.
    pub way: Way,
    /// Whether they are VMs, which are rung for by their VMM where it traps the doorbell.
    pub in_vm: bool,
}

impl Driven {
    /// Whether they can have a VF whose doorbell is refused for that reason: a VM may have the MSI-X table beside it.
    #[must_use]
    pub fn puts_up_with(self, refusal: &doorbell::Refusal) -> bool {
        self.in_vm && refusal.is_for_msix_alone()
    }
}

impl Assignment {
    fn to(pool: &Pool) -> Self {
        let (access, way, in_vm) = (pool.access, pool.iommufd.way(), pool.runtime.is_kata());
        Self { pool: pool.name.clone(), driven: Driven { access, way, in_vm }, also: Vec::new() }
    }
}
