//! Taking back what no pool wants any more.

use std::collections::{BTreeMap, BTreeSet};

use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::kernel::pci::{self, PciAddress};
use doorbell_common::kernel::vdpa::VdpaName;
use doorbell_common::kernel::{mdev, sriov, vdpa as kernel_vdpa};
use doorbell_common::subdevice::{Access, Child, Parent};
use tracing::{info, warn};

use super::free::{self, Allocated};
use super::made::{self, Made, Step};
use super::plan::{Plan, plans};
use super::settled::Settled;
use super::{mdevs, vdpa, vfs};
use crate::config::{Config, PoolName};
use crate::discovery::Survey;

/// Takes back every change on record that no pool wants any more, of what nobody uses. Whether the host has changed.
pub(super) fn all(
    host: &Host,
    config: &Config,
    survey: &Survey,
    allocated: &Allocated,
    settled: &mut Settled,
) -> bool {
    let names = made::all(host).unwrap_or_else(|error| {
        warn!(error = chain(&error), "records of what was made not readable");
        Vec::new()
    });
    let wanted = Wanted::of(config, survey);
    let mut changed = false;
    // VFs first, then their PFs: the latter's are removed only once nothing is left on the former.
    let (pfs, others): (Vec<String>, Vec<String>) =
        names.into_iter().partition(|name| survey.pfs.iter().any(|pf| pf.address.to_string() == *name));
    for name in others.iter().chain(&pfs) {
        let parent = parent(survey, name);
        match take_back(host, survey, name, parent.as_ref(), &wanted, allocated) {
            Ok(taken_back) => changed |= taken_back,
            Err(reason) => {
                changed = true;
                settled.fail_withdrawal();
                warn!(of = name, reason, "what no pool wants any more stays for now");
            }
        }
    }
    changed
}

fn parent(survey: &Survey, name: &str) -> Option<Parent> {
    survey.parents().find(|parent| parent.to_string() == name)
}

fn take_back(
    host: &Host,
    survey: &Survey,
    name: &str,
    parent: Option<&Parent>,
    wanted: &Wanted,
    allocated: &Allocated,
) -> Result<bool, String> {
    let failed = |error: doorbell_common::host::HostError| chain(&error);
    let mut made = Made::of(host, name)?;
    if made.steps.is_empty() {
        made::forget(host, name).map_err(failed)?;
        return Ok(false);
    }
    let mut changed = false;
    for step in made.steps.clone().into_iter().rev() {
        if wanted.has(&step, name, parent) {
            continue;
        }
        match (&step, parent) {
            (Step::Vfs { autoprobe }, _) => {
                if let Ok(pf) = name.parse() {
                    remove_vfs(host, pf, *autoprobe, allocated)?;
                }
            }
            (Step::BusAutoprobe, _) => kernel_vdpa::set_autoprobe(host, true).map_err(failed)?,
            (step, Some(parent)) => undo(host, survey, parent, step, &made, allocated)?,
            (step, None) => gone(host, name, step)?,
        }
        made.undone(host, &step).map_err(failed)?;
        info!(of = name, step = ?step, "taken back");
        changed = true;
    }
    Ok(changed)
}

/// Whether what was made is gone with the parent that no survey shows: one that can't be read is there all the same.
fn gone(host: &Host, name: &str, step: &Step) -> Result<(), String> {
    let there = match step {
        Step::Driver { .. } => name.parse().is_ok_and(|address| host.exists(pci::folder(address))),
        Step::Vdpa(name) | Step::BusDriver { name, .. } => {
            kernel_vdpa::find(host, name).map_err(|error| chain(&error))?.is_some()
        }
        Step::Mdev(uuid) => mdev::find(host, uuid).map_err(|error| chain(&error))?.is_some(),
        Step::Vfs { .. } | Step::BusAutoprobe => false,
    };
    if there { Err("it is there, and can't be looked at".to_owned()) } else { Ok(()) }
}

/// What the config wants of what was made.
struct Wanted {
    plans: BTreeMap<Parent, Plan>,
    /// Parents of pools that take them as they are found: what was made of these is what they take.
    as_found: BTreeSet<Parent>,
    /// PFs on which a pool wants VFs, or has one.
    pfs: BTreeSet<PciAddress>,
}

impl Wanted {
    fn of(config: &Config, survey: &Survey) -> Self {
        let assigned = survey.assign(config);
        let mut pfs: BTreeSet<PciAddress> = vfs::wanted(config, survey, false).into_keys().collect();
        let with_vfs = assigned.keys().filter_map(|parent| survey.vfs.get(&parent.vf()?));
        pfs.extend(with_vfs.map(|vf| vf.pf));
        let prepares =
            |pool: &PoolName| config.pools.iter().any(|other| other.name == *pool && other.prepare.is_some());
        let as_found = assigned.into_iter().filter(|(_, assignment)| !prepares(&assignment.pool));
        Self { as_found: as_found.map(|(parent, _)| parent).collect(), pfs, plans: plans(config, survey) }
    }

    /// Whether a change of the device of that name stays.
    fn has(&self, step: &Step, name: &str, parent: Option<&Parent>) -> bool {
        match (step, parent) {
            (Step::Vfs { .. }, _) => name.parse().is_ok_and(|pf| self.pfs.contains(&pf)),
            (Step::BusAutoprobe, _) | (_, None) => false,
            (step, Some(parent)) => {
                let plan = self.plans.get(parent);
                self.as_found.contains(parent) || plan.is_some_and(|plan| is_part_of(step, plan))
            }
        }
    }
}

/// Whether the change would be made today.
fn is_part_of(step: &Step, plan: &Plan) -> bool {
    match step {
        Step::Vfs { .. } | Step::BusAutoprobe => false,
        // Whatever it is bound to next, what it was found on stays known.
        Step::Driver { .. } => true,
        Step::Vdpa(name) => {
            plan.access.is_vdpa() && (0..plan.count()).any(|number| plan.vdpa_name(number) == name.as_str())
        }
        Step::BusDriver { .. } => plan.access.is_vdpa(),
        Step::Mdev(uuid) => {
            let Some(kind) = plan.prepare.mdev_type.as_ref().filter(|_| plan.access == Access::Mdev) else {
                return false;
            };
            (0..plan.count()).any(|number| mdevs::uuid(&plan.parent, kind, number) == uuid.as_str())
        }
    }
}

fn undo(
    host: &Host,
    survey: &Survey,
    parent: &Parent,
    step: &Step,
    made: &Made,
    allocated: &Allocated,
) -> Result<(), String> {
    match step {
        Step::Driver { was } => {
            let Some(address) = parent.vf() else { return Ok(()) };
            free::to_rebind(host, parent, made, allocated)?;
            pci::give_back(host, address, was.as_deref()).map_err(|error| chain(&error))
        }
        Step::Vdpa(name) => {
            if !stands_on(survey, parent, name) {
                return Ok(());
            }
            let child = Child::Vdpa { name: name.clone(), virtio_type: None };
            free::child(host, parent, &child, allocated)?;
            kernel_vdpa::delete(host, name).map_err(|error| chain(&error))
        }
        Step::BusDriver { name, was } => {
            if !stands_on(survey, parent, name) {
                return Ok(());
            }
            let child = Child::Vdpa { name: name.clone(), virtio_type: None };
            free::child(host, parent, &child, allocated)?;
            vdpa::give_back(host, name, was.as_deref())
        }
        Step::Mdev(uuid) => {
            let found = mdev::find(host, uuid).map_err(|error| chain(&error))?;
            if found.is_none_or(|found| found.parent != parent.to_string()) {
                return Ok(());
            }
            free::child(host, parent, &Child::Mdev(uuid.clone()), allocated)?;
            mdev::remove(host, uuid).map_err(|error| chain(&error))
        }
        Step::Vfs { .. } | Step::BusAutoprobe => Ok(()),
    }
}

/// Names are the whole bus's: one of ours may be somebody else's device by now, on another parent.
fn stands_on(survey: &Survey, parent: &Parent, name: &VdpaName) -> bool {
    survey.vdpa_on(parent).iter().any(|on| on.on_bus.name == name.as_str())
}

/// Only when each of them is free: the kernel removes all, and waits for those that are held.
fn remove_vfs(host: &Host, pf: PciAddress, autoprobe: bool, allocated: &Allocated) -> Result<(), String> {
    for (_, vf) in &sriov::vfs(host, pf).map_err(|error| chain(&error))? {
        let left = Made::of(host, &vf.to_string())?;
        free::to_rebind(host, &Parent::Vf(*vf), &left, allocated)
            .map_err(|reason| format!("VF {vf}: {reason}"))?;
        if !left.steps.is_empty() {
            return Err(format!("VF {vf} is still prepared"));
        }
        // Made without a driver, and given back without: this is somebody else's doing.
        if let Some(driver) = pci::driver(host, *vf).map_err(|error| chain(&error))? {
            return Err(format!("VF {vf} is on {driver}"));
        }
    }
    sriov::disable(host, pf, autoprobe).map_err(|error| chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Prepare;

    #[test]
    fn the_driver_of_the_kernels_choice_is_wanted_by_the_pool_that_asked_for_it() {
        let plan = Plan {
            parent: Parent::Vf("0000:01:00.1".parse().unwrap()),
            pool: "plain".parse().unwrap(),
            access: Access::Netdev,
            prepare: Prepare::default(),
        };
        assert!(is_part_of(&Step::Driver { was: None }, &plan));
    }
}
