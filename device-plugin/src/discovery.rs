//! Finding what sub-devices can stand on, what stands there, and which pool each belongs to. Reads only.

mod acpi;
mod select;

use std::collections::BTreeMap;
use std::io;

use doorbell_common::error::chain;
use doorbell_common::host::{self, Host};
use doorbell_common::kernel::auxiliary::{self, SfAddress, SubFunction};
use doorbell_common::kernel::mdev::{self, Uuid};
use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::kernel::sriov::{self, Pf};
use doorbell_common::kernel::vdpa::{self, ManagementDevice, OnBus, VdpaDevice};
use doorbell_common::kernel::vfio::Way;
use doorbell_common::subdevice::{
    self, Access, Child, DeviceId, Eligible, Parent, ParentName, Subject, VirtualFunction,
};
use tracing::warn;

use self::acpi::AcpiIndexes;
use crate::config::{Config, Pool, PoolName};

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
    pub device: VirtualFunction,
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
    let mut survey = Survey {
        pfs: sriov::pfs(host)?,
        vfs: BTreeMap::new(),
        unreadable: BTreeMap::new(),
        sfs: BTreeMap::new(),
        others: BTreeMap::new(),
        vdpa: BTreeMap::new(),
        management: Vec::new(),
        acpi: AcpiIndexes::unread(host),
    };
    for pf in &survey.pfs {
        for (index, address) in &pf.vfs {
            match VirtualFunction::examine(host, *address, page) {
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
    /// What sysfs has on the vDPA bus, and what netlink adds: simulators, and of what type devices are.
    fn look_for_vdpa(&mut self, host: &Host) -> host::Result<()> {
        let said =
            vdpa::management_devices(host).and_then(|management| Ok((management, vdpa::devices(host)?)));
        let (management, devices) = said.unwrap_or_else(|error| {
            warn!(error = chain(&error), "vDPA management devices not listed");
            Default::default()
        });
        for device in &management {
            if let (None, Ok(name)) = (device.handle.bus(), device.handle.name().parse()) {
                self.others.insert(name, Other::Simulator(device.clone()));
            }
        }
        self.management = management;
        for on_bus in vdpa::list(host)? {
            let known = devices.iter().find(|device| device.name == on_bus.name);
            if let Some(parent) = self.parent_of(&on_bus, known) {
                let virtio_type = known.and_then(|device| u16::try_from(device.virtio_id).ok());
                self.vdpa.entry(parent).or_default().push(VdpaOn { on_bus, virtio_type });
            }
        }
        Ok(())
    }

    /// sysfs says which function a device stands on; of which simulator it is, only netlink does.
    fn parent_of(&self, on_bus: &OnBus, known: Option<&VdpaDevice>) -> Option<Parent> {
        match &on_bus.parent {
            Some(parent) => match parent.parse() {
                Ok(address) => Some(Parent::Vf(address)),
                Err(_) => self.sfs.values().find(|sf| sf.name == *parent).map(|sf| Parent::Sf(sf.address())),
            },
            None => Some(Parent::Device(known?.management.name().parse().ok()?)),
        }
    }

    fn look_for_mdevs(&mut self, host: &Host) -> host::Result<()> {
        let all = mdev::list(host)?;
        for parent in mdev::parents(host)? {
            let Ok(name) = parent.name.parse() else { continue };
            let of_parent = all.iter().filter(|device| device.parent == parent.name);
            let mdevs = of_parent.map(|device| device.uuid.clone()).collect();
            self.others.insert(name, Other::Mdev { parent, mdevs });
        }
        Ok(())
    }

    /// Every parent, VFs first.
    pub fn parents(&self) -> impl Iterator<Item = Parent> {
        let vfs = self.vfs.keys().copied().map(Parent::Vf);
        let sfs = self.sfs.keys().copied().map(Parent::Sf);
        vfs.chain(sfs).chain(self.others.keys().cloned().map(Parent::Device))
    }

    /// vDPA devices that stand on a parent.
    #[must_use]
    pub fn vdpa_on(&self, parent: &Parent) -> &[VdpaOn] {
        self.vdpa.get(parent).map(Vec::as_slice).unwrap_or_default()
    }

    /// How what stands on a parent is driven: as its pool says, or without one as it stands.
    #[must_use]
    pub fn driven(&self, parent: &Parent, assignment: Option<&Assignment>) -> (Access, Way) {
        match assignment {
            Some(Assignment { access, way, .. }) => (*access, *way),
            None => (self.as_it_stands(parent), Way::default()),
        }
    }

    fn as_it_stands(&self, parent: &Parent) -> Access {
        let vdpa = self.vdpa_on(parent);
        let on_bus = vdpa.first().and_then(|on| on.on_bus.driver.as_deref());
        match parent {
            _ if on_bus == Some("virtio_vdpa") => Access::VirtioVdpa,
            _ if !vdpa.is_empty() => Access::VhostVdpa,
            Parent::Vf(_) => Access::Vfio,
            Parent::Sf(_) => Access::Netdev,
            Parent::Device(name) => match self.others.get(name) {
                Some(Other::Mdev { .. }) => Access::Mdev,
                _ => Access::VhostVdpa,
            },
        }
    }

    /// What stands on a parent of a pool, as consumers of that pool would drive it.
    #[must_use]
    pub fn subjects(&self, parent: &Parent, access: Access, way: Way) -> Vec<Subject> {
        let subject = |child| Subject { parent: parent.clone(), child, access, way };
        if access.is_vdpa() {
            let named = |on: &VdpaOn| {
                let (name, virtio_type) = (on.on_bus.name.parse().ok()?, on.virtio_type);
                Some(subject(Child::Vdpa { name, virtio_type }))
            };
            return self.vdpa_on(parent).iter().filter_map(named).collect();
        }
        match parent {
            Parent::Device(name) => match self.others.get(name) {
                Some(Other::Mdev { mdevs, .. }) => {
                    mdevs.iter().cloned().map(|uuid| subject(Child::Mdev(uuid))).collect()
                }
                _ => Vec::new(),
            },
            Parent::Vf(_) | Parent::Sf(_) => vec![subject(Child::None)],
        }
    }

    /// The sub-devices on a parent of a pool, each as it may be handed out or with what keeps it from that.
    pub fn sub_devices(
        &self,
        host: &Host,
        parent: &Parent,
        access: Access,
        way: Way,
        page: u64,
    ) -> Vec<(DeviceId, Result<Eligible, Vec<String>>)> {
        let subjects = self.subjects(parent, access, way);
        let several: Vec<OnBus> = self.vdpa_on(parent).iter().map(|on| on.on_bus.clone()).collect();
        if !parent.takes_several() && access.is_vdpa() && subjects.len() != 1 {
            let reason =
                subdevice::alone(&several).err().unwrap_or_else(|| "it has no vDPA device".to_owned());
            let id = DeviceId::of(parent, &Child::None);
            return id.into_iter().map(|id| (id, Err(self.lacking(parent, access, &reason)))).collect();
        }
        let examined = subjects.into_iter().filter_map(|subject| {
            let id = DeviceId::of(parent, &subject.child).ok()?;
            let eligible = match parent {
                // Examined already, and its isolation confirmed since.
                Parent::Vf(address) => {
                    let device = &self.vfs.get(address)?.device;
                    device.eligible(host, &subject.child, access, way, page)
                }
                _ => subject.examine(host, page),
            };
            Some((id, eligible))
        });
        examined.collect()
    }

    /// Why nothing on a parent can be handed out, and what would keep it from that besides.
    fn lacking(&self, parent: &Parent, access: Access, reason: &str) -> Vec<String> {
        let device = parent.vf().and_then(|address| self.vfs.get(&address)).map(|vf| &vf.device);
        let isolation =
            device.filter(|_| access == Access::VhostVdpa).and_then(|vf| vf.isolation.as_ref().err());
        [Some(reason.to_owned()), isolation.map(ToString::to_string)].into_iter().flatten().collect()
    }

    /// The pool of each selected parent, and the pools that selected it too but come later in the config.
    #[must_use]
    pub fn assign(&self, config: &Config) -> BTreeMap<Parent, Assignment> {
        let mut assigned: BTreeMap<Parent, Assignment> = BTreeMap::new();
        for pool in &config.pools {
            for parent in self.parents().filter(|parent| self.selects(pool, parent)) {
                assigned
                    .entry(parent)
                    .and_modify(|assignment| assignment.also.push(pool.name.clone()))
                    .or_insert_with(|| Assignment::to(pool));
            }
        }
        assigned
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
    pub access: Access,
    /// The way that they go, where that is through VFIO.
    pub way: Way,
    /// Later pools that select it too and do not get it: two resources must never list one device.
    pub also: Vec<PoolName>,
}

impl Assignment {
    fn to(pool: &Pool) -> Self {
        Self { pool: pool.name.clone(), access: pool.access, way: pool.iommufd.way(), also: Vec::new() }
    }
}
