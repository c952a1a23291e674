//! What the config wants of each parent, and what of it is yet to be done.

use std::collections::BTreeMap;
use std::fmt;

use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::kernel::vdpa::BusDriver;
use doorbell_common::subdevice::{Access, Parent};

use crate::config::{Config, PoolName, Prepare};
use crate::discovery::{Driven, Other, Survey};

/// What a pool wants of one of its parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The parent.
    pub parent: Parent,
    /// The pool.
    pub pool: PoolName,
    /// How its consumers drive what stands there.
    pub access: Access,
    /// What is prepared.
    pub prepare: Prepare,
}

/// A change that is yet to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// To another driver; `None`: the kernel's own choice.
    Bind(Option<String>),
    /// So many vDPA devices are to be made.
    MakeVdpa(usize),
    /// vDPA devices are to be bound to this driver of their bus.
    BindVdpa(BusDriver),
    /// So many mdevs are to be made.
    MakeMdevs(usize),
}

/// What the config wants of each parent that it selects and prepares, but for what no check would let through then.
#[must_use]
pub fn plans(config: &Config, survey: &Survey) -> BTreeMap<Parent, Plan> {
    let mut plans = BTreeMap::new();
    for (parent, assignment) in survey.assign(config) {
        let pool = config.pools.iter().find(|pool| pool.name == assignment.pool);
        let Some(prepare) = pool.and_then(|pool| pool.prepare.clone()) else { continue };
        if !refused_anyway(survey, &parent, assignment.driven) {
            let (pool, access) = (assignment.pool, assignment.driven.access);
            plans.insert(parent.clone(), Plan { parent, pool, access, prepare });
        }
    }
    plans
}

/// What sysfs shows something against is not taken off its driver.
fn refused_anyway(survey: &Survey, parent: &Parent, driven: Driven) -> bool {
    let vf = parent.vf().and_then(|address| survey.vfs.get(&address)).map(|vf| &vf.device);
    match (vf, parent) {
        (Some(vf), _) => {
            let refused = |refusal| !driven.puts_up_with(refusal);
            vf.class(driven.access).is_none()
                || driven.access == Access::Vfio && vf.doorbell.as_ref().is_err_and(refused)
        }
        (None, Parent::Device(name)) => {
            matches!(survey.others.get(name), Some(Other::Mdev { parent, .. }) if !parent.is_software())
        }
        (None, _) => false,
    }
}

impl Plan {
    /// The first change that is due; `None` where all is as it is wanted.
    #[must_use]
    pub fn change(&self, survey: &Survey) -> Option<Change> {
        if let Some(driver) = self.rebind(survey) {
            return Some(Change::Bind(driver));
        }
        if let Some(wanted) = self.bus_driver() {
            let there = survey.vdpa_on(&self.parent);
            if there.len() < self.count() {
                return Some(Change::MakeVdpa(self.count() - there.len()));
            }
            let elsewhere = there.iter().any(|on| on.on_bus.driver.as_deref() != Some(wanted.name()));
            return elsewhere.then_some(Change::BindVdpa(wanted));
        }
        match (self.access, &self.parent) {
            (Access::Mdev, Parent::Device(name)) => match survey.others.get(name) {
                Some(Other::Mdev { mdevs, .. }) if mdevs.len() < self.count() => {
                    Some(Change::MakeMdevs(self.count() - mdevs.len()))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The driver that a VF is yet to be bound to; the inner `None` is the kernel's own choice.
    pub(super) fn rebind(&self, survey: &Survey) -> Option<Option<String>> {
        let vf = survey.vfs.get(&self.parent.vf()?)?;
        let address = vf.device.function.address;
        let wanted = self.prepare.driver_for(self.access);
        let now = vf.device.function.driver.as_deref();
        let suits = match self.access {
            // A variant driver of another name serves the same nodes.
            Access::Vfio => vf.device.on_vfio,
            // So does a vDPA driver of the vendor's.
            Access::VhostVdpa | Access::VirtioVdpa => makes_vdpa(survey, address),
            Access::Netdev => match &wanted {
                Some(wanted) => now == Some(wanted),
                None => now.is_some_and(|now| !VDPA_ONLY.contains(&now)) && !vf.device.on_vfio,
            },
            Access::Mdev => true,
        };
        (!suits).then_some(wanted)
    }

    /// The driver of the vDPA bus that its devices are to be on.
    pub(super) fn bus_driver(&self) -> Option<BusDriver> {
        match self.access {
            Access::VhostVdpa => Some(BusDriver::VhostVdpa),
            Access::VirtioVdpa => Some(BusDriver::VirtioVdpa),
            Access::Vfio | Access::Netdev | Access::Mdev => None,
        }
    }

    /// Name of the vDPA device of that number: after its parent, so that it is the same at each start.
    pub(super) fn vdpa_name(&self, number: usize) -> String {
        let parent = &self.parent;
        if parent.takes_several() { format!("{parent}-{number}") } else { parent.to_string() }
    }

    /// How many sub-devices are to stand on the parent.
    pub(super) fn count(&self) -> usize {
        let several = self.prepare.per_parent.filter(|_| self.parent.takes_several());
        several.map_or(1, |count| usize::try_from(count.get()).unwrap_or(usize::MAX))
    }
}

/// PCI drivers that make vDPA devices and nothing else; mlx5_core makes interfaces too.
const VDPA_ONLY: [&str; 5] = ["vp-vdpa", "ifcvf", "octep_vdpa", "eni-vdpa", "snet-vdpa-driver"];

/// Whether the function's driver makes vDPA devices, or has made one.
fn makes_vdpa(survey: &Survey, address: PciAddress) -> bool {
    let name = address.to_string();
    survey.management.iter().any(|device| device.handle.bus() == Some("pci") && device.handle.name() == name)
        || !survey.vdpa_on(&Parent::Vf(address)).is_empty()
}

impl Change {
    /// For people, of what `run` does.
    #[must_use]
    pub fn does(&self) -> String {
        match self {
            Self::Bind(_) | Self::BindVdpa(_) => format!("binds {self}"),
            Self::MakeVdpa(_) | Self::MakeMdevs(_) => format!("makes {self}"),
        }
    }

    /// For people, of what `run` does not do.
    #[must_use]
    pub fn does_not(&self) -> String {
        match self {
            Self::Bind(_) | Self::BindVdpa(_) => format!("does not bind {self}"),
            Self::MakeVdpa(_) | Self::MakeMdevs(_) => format!("does not make {self}"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(Some(driver)) => write!(f, "it to {driver}"),
            Self::Bind(None) => f.write_str("it to the driver that the kernel chooses"),
            Self::MakeVdpa(1) => f.write_str("a vDPA device on it"),
            Self::MakeVdpa(count) => write!(f, "{count} vDPA devices on it"),
            Self::BindVdpa(driver) => write!(f, "its vDPA device to {driver}"),
            Self::MakeMdevs(1) => f.write_str("an mdev on it"),
            Self::MakeMdevs(count) => write!(f, "{count} mdevs on it"),
        }
    }
}
