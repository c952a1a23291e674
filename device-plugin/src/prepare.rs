//! Making VFs, binding them, and making what stands on them, before anything is advertised.
//!
//! Only pools with a `prepare` section change the host, and only what their selectors name. What fails is reported
//! and leaves its device unadvertised; the rest goes on. Each change is on record before it is made ([`made`]) and only
//! what nobody uses is changed ([`free`]); a start after a kill goes on where the last one was, and another config first
//! takes back what no pool wants any more ([`mod@withdraw`]). What comes later is prepared once ([`Settled`]).

pub mod free;
mod made;
mod mdevs;
mod plan;
mod settled;
mod vdpa;
mod vfs;
mod withdraw;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::kernel::net;
use doorbell_common::kernel::pci::{self, PciAddress};
use doorbell_common::subdevice::{Access, Parent};
use tracing::{info, warn};

use crate::config::Config;
use crate::discovery::Survey;
use crate::proof;

pub use free::Allocated;
pub use plan::{Change, Plan, plans};
pub use settled::Settled;

use made::{Made, Step};

/// Takes back what no pool wants any more. Whether the host may have changed: then a new survey shows it.
pub fn withdraw(
    host: &Host,
    config: &Config,
    survey: &Survey,
    allocated: &Allocated,
    settled: &mut Settled,
) -> bool {
    if is_stuck(survey) {
        return false;
    }
    withdraw::all(host, config, survey, allocated, settled)
}

/// Makes the VFs that pools ask for, on PFs where that was not done before. Whether the host may have changed.
pub fn make_vfs(host: &Host, config: &Config, survey: &Survey, settled: &mut Settled) -> bool {
    !is_stuck(survey) && vfs::make(host, config, survey, settled)
}

/// Binds what is to be bound and free, and makes what is to stand on it, where that was not done before. Whether the
/// host may have changed: a step that fails may have taken a VF off its driver all the same.
pub fn carry_out(
    host: &Host,
    config: &Config,
    survey: &Survey,
    allocated: &Allocated,
    settled: &mut Settled,
) -> bool {
    if is_stuck(survey) {
        return false;
    }
    let mut plans = plans(config, survey);
    plans.retain(|parent, plan| {
        let due = !settled.has(parent) && plan.change(survey).is_some();
        settled.add(parent);
        due
    });
    // PFs whose VFs were seen not to attach: the next VF would not either.
    let mut failed = BTreeSet::new();
    let autoprobe = vdpa::Autoprobe::off_for(host, plans.values());
    for plan in plans.values() {
        if let Err(reason) = one(host, survey, plan, allocated, &mut failed) {
            warn!(pool = %plan.pool, parent = %plan.parent, reason, "not prepared");
            settled.fail(&plan.parent);
        }
    }
    drop(autoprobe);
    interfaces(host, plans.values());
    !plans.is_empty()
}

/// Whether something is to be made or bound that was not before: then the kubelet is asked first what it has given away.
#[must_use]
pub fn is_due(config: &Config, survey: &Survey, settled: &Settled) -> bool {
    if config.pools.iter().all(|pool| pool.prepare.is_none()) {
        return false;
    }
    let new_pfs = || vfs::wanted(config, survey, false).into_keys().any(|pf| !settled.has_pf(pf));
    let due = |(parent, plan): (&Parent, &Plan)| !settled.has(parent) && plan.change(survey).is_some();
    new_pfs() || plans(config, survey).iter().any(due)
}

/// Has what another config wants otherwise prepared again.
pub fn forget_what_changes(settled: &mut Settled, survey: &Survey, was: &Config, is: &Config) {
    let (plans_were, plans_are) = (plans(was, survey), plans(is, survey));
    let (vfs_were, vfs_are) = (vfs::wanted(was, survey, false), vfs::wanted(is, survey, false));
    settled.keep(
        |parent| survey.has(parent) && plans_were.get(parent) == plans_are.get(parent),
        |pf| vfs_were.get(&pf) == vfs_are.get(&pf),
    );
}

/// A bind then takes a lock that somebody waits with: for ever, as far as we know.
fn is_stuck(survey: &Survey) -> bool {
    if let Some(reason) = &survey.stuck {
        warn!(reason, "nothing is prepared and nothing taken back");
    }
    survey.stuck.is_some()
}

/// Waits for the interfaces of what was bound, of all together: some drivers make theirs only after they have talked to
/// the PF.
fn interfaces<'a>(host: &Host, plans: impl Iterator<Item = &'a Plan>) {
    let deadline = Instant::now() + INTERFACES_WITHIN;
    let addresses = plans.filter(|plan| plan.access.is_netdev()).filter_map(|plan| plan.parent.vf());
    for folder in addresses.map(pci::folder) {
        let lacks = || host.is_real() && net::has_interface(host, &folder).is_ok_and(|has| !has);
        while lacks() && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
    }
}

/// From a bind to the interface; what comes later is found at the next start.
const INTERFACES_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

fn one(
    host: &Host,
    survey: &Survey,
    plan: &Plan,
    allocated: &Allocated,
    failed: &mut BTreeSet<PciAddress>,
) -> Result<(), String> {
    if let (Parent::Vf(address), Some(driver)) = (&plan.parent, plan.rebind(survey)) {
        let mut made = Made::of(host, &plan.parent.to_string())?;
        free::to_rebind(host, &plan.parent, &made, allocated)?;
        if let Some(driver) = &driver {
            // Before it is taken off the one that it is on, and by way of vfio-pci left there.
            pci::is_loaded(host, driver).map_err(|error| chain(&error))?;
        }
        let was = pci::driver(host, *address).map_err(|error| chain(&error))?;
        made.will(host, Step::Driver { was: was.clone() }).map_err(|error| chain(&error))?;
        if plan.access == Access::VhostVdpa
            && let Err(reason) = prove(host, survey, *address, failed)
        {
            // Where it was found, it may serve another. The attach may have failed because somebody has it.
            free::to_rebind(host, &plan.parent, &made, allocated)
                .map_err(|held| format!("{reason}; {held}"))?;
            pci::give_back(host, *address, was.as_deref()).map_err(|error| chain(&error))?;
            return Err(reason);
        }
        match &driver {
            Some(driver) => pci::bind(host, *address, driver).map_err(|error| chain(&error))?,
            None => pci::unbind_to_default(host, *address).map_err(|error| chain(&error))?,
        }
        info!(pool = %plan.pool, device = %address, driver = driver.as_deref().unwrap_or("the kernel's choice"), "VF bound");
    }
    match plan.access {
        Access::VhostVdpa | Access::VirtioVdpa => vdpa::make(host, survey, plan, allocated),
        Access::Mdev => mdevs::make(host, survey, plan),
        Access::Vfio | Access::Netdev => Ok(()),
    }
}

/// Shows that interrupts of a PF's VFs are isolated, on one that is about to go where that can't be shown any more: only
/// VFIO attaches a function in the way that fails without.
fn prove(
    host: &Host,
    survey: &Survey,
    address: PciAddress,
    failed: &mut BTreeSet<PciAddress>,
) -> Result<(), String> {
    let Some(vf) = survey.vfs.get(&address) else { return Err("it is gone".to_owned()) };
    let Ok(isolation) = &vf.device.isolation else { return Ok(()) };
    let Some(group) = isolation.group else { return Ok(()) };
    if proof::is_kept(host, vf.pf) {
        return Ok(());
    }
    if failed.contains(&vf.pf) {
        return Err(format!("VFs of PF {} were seen not to attach", vf.pf));
    }
    let attached = pci::bind(host, address, VFIO)
        .map_err(|error| {
            format!("{} (an attach by {VFIO} shows that interrupts are isolated)", chain(&error))
        })
        .and_then(|()| proof::attach_and_keep(host, vf.pf, address, group));
    attached.inspect_err(|_| {
        failed.insert(vf.pf);
    })
}

/// The driver by which a function attaches; every function is one to it.
const VFIO: &str = "vfio-pci";

/// Whether a change that is due would be made, as far as this host shows it, the kubelet unasked.
pub fn would_be_made(host: &Host, survey: &Survey, plan: &Plan, change: &Change) -> Result<(), String> {
    match change {
        Change::Bind(_) => {
            let made = Made::of(host, &plan.parent.to_string())?;
            free::to_rebind(host, &plan.parent, &made, &Allocated::Unasked)
        }
        Change::BindVdpa(wanted) => vdpa::free_for(host, survey, plan, *wanted, &Allocated::Unasked),
        // Nothing that is there is touched.
        Change::MakeVdpa(_) | Change::MakeMdevs(_) => Ok(()),
    }
}

/// Whether a parent may be changed as far as this host shows it, the kubelet unasked.
pub fn looks_free(host: &Host, parent: &Parent) -> Result<(), String> {
    free::parent(host, parent, &Allocated::Unasked)
}
