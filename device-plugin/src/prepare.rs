//! Making VFs and binding them, before anything is advertised.
//!
//! Only pools with a `prepare` section change the host, and only what their selectors name. What fails is reported
//! and leaves its device unadvertised; the rest goes on.

use std::collections::BTreeMap;

use doorbell_common::claim;
use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::kernel::pci::{self, PciAddress};
use doorbell_common::kernel::sriov;
use tracing::{info, warn};

use crate::config::{Config, PoolName};
use crate::discovery::{Survey, Vf};

/// Makes the VFs that pools ask for. Whether the host may have changed: then a new survey shows it.
pub fn make_vfs(host: &Host, config: &Config, survey: &Survey) -> bool {
    let wanted = wanted_vfs(config, survey);
    for (pf, wanted) in &wanted {
        match sriov::enable(host, *pf, *wanted) {
            Ok(0) => {}
            Ok(made) => info!(pf = %pf, vfs = made, "VFs made"),
            Err(error) => warn!(pf = %pf, error = chain(&error), "VFs not made"),
        }
    }
    !wanted.is_empty()
}

/// The most VFs that any pool asks for, a PF: the kernel takes a number once.
fn wanted_vfs(config: &Config, survey: &Survey) -> BTreeMap<PciAddress, u32> {
    let mut wanted: BTreeMap<PciAddress, u32> = BTreeMap::new();
    for pool in &config.pools {
        let Some(vfs) = pool.prepare.as_ref().and_then(|prepare| prepare.num_vfs) else { continue };
        for selector in pool.select.pfs().filter(|selector| !survey.pfs.iter().any(|pf| selector.pf.is(pf))) {
            warn!(pool = %pool.name, pf = %selector.pf, "no such PF");
        }
        for pf in survey.pfs.iter().filter(|pf| pool.select.may_take_from(pf)) {
            let most = wanted.entry(pf.address).or_default();
            *most = vfs.max(*most);
        }
    }
    wanted
}

/// A VF that its pool wants on a driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The pool.
    pub pool: PoolName,
    /// The driver.
    pub driver: String,
}

/// What is to be bound: selected VFs on no VFIO driver, of any name, that sysfs shows nothing against. What no check
/// would let through is not taken off its driver.
#[must_use]
pub fn bindings(config: &Config, survey: &Survey) -> BTreeMap<PciAddress, Binding> {
    let mut bindings = BTreeMap::new();
    for (address, assignment) in survey.assign(config) {
        let pool = config.pools.iter().find(|pool| pool.name == assignment.pool);
        let Some(prepare) = pool.and_then(|pool| pool.prepare.as_ref()) else { continue };
        let wanted = survey.vfs.get(&address).is_some_and(|Vf { device, .. }| {
            !device.on_vfio && device.doorbell.is_ok() && device.isolation.is_ok()
        });
        if wanted {
            bindings.insert(address, Binding { pool: assignment.pool, driver: prepare.driver.to_string() });
        }
    }
    bindings
}

/// Binds what is to be bound and free. Whether the host may have changed: a bind that fails may have taken the VF off
/// its driver all the same.
pub fn bind(host: &Host, config: &Config, survey: &Survey) -> bool {
    let bindings = bindings(config, survey);
    for (address, Binding { pool, driver }) in &bindings {
        let bound = free(host, *address)
            .and_then(|()| pci::bind(host, *address, driver).map_err(|error| chain(&error)));
        match bound {
            Ok(()) => info!(%pool, device = %address, driver, "VF bound"),
            Err(error) => warn!(%pool, device = %address, driver, error, "VF not bound"),
        }
    }
    !bindings.is_empty()
}

/// Whether a VF may be taken off its driver, or why not: an unbind of a held device blocks for as long as it is held,
/// and no signal ends it.
pub fn free(host: &Host, address: PciAddress) -> Result<(), String> {
    if claim::may_be_in_use(host, &address.into()) {
        return Err("a pod has claimed it".to_owned());
    }
    match pci::vdpa_children(host, address) {
        Ok(children) if children.is_empty() => Ok(()),
        Ok(children) => Err(format!("it is the parent of vDPA device {}", children.join(", "))),
        Err(error) => Err(chain(&error)),
    }
}
