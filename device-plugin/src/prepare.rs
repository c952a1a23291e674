//! Making VFs and binding them, before anything is advertised.
//!
//! Only pools with a `prepare` section change the host, and only what their selectors name. What fails is reported
//! and leaves its device unadvertised; the rest goes on.

use doorbell_common::claim;
use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::kernel::{pci, sriov};
use doorbell_common::subdevice::SubDevice;
use tracing::{info, warn};

use crate::config::{Config, Pool};
use crate::discovery::{Survey, Vf};

/// Makes the VFs that pools ask for. Whether it made any: then they are in the next survey.
pub fn make_vfs(host: &Host, config: &Config, survey: &Survey) -> bool {
    let mut any = false;
    for pool in &config.pools {
        let Some(wanted) = pool.prepare.as_ref().and_then(|prepare| prepare.num_vfs) else { continue };
        for selector in &pool.select.pf_names {
            let Some(pf) = survey.pfs.iter().find(|pf| selector.pf.is(pf)) else {
                warn!(pool = %pool.name, pf = %selector.pf, "no such PF");
                continue;
            };
            match sriov::enable(host, pf.address, wanted) {
                Ok(0) => {}
                Ok(made) => {
                    info!(pool = %pool.name, pf = %pf.address, vfs = made, "VFs made");
                    any = true;
                }
                Err(error) => {
                    warn!(pool = %pool.name, pf = %pf.address, error = chain(&error), "VFs not made");
                }
            }
        }
    }
    any
}

/// Binds the selected VFs that are on no VFIO driver. Whether it bound any.
pub fn bind(host: &Host, config: &Config, survey: &Survey) -> bool {
    let mut any = false;
    for (address, assignment) in survey.assign(config) {
        let pool = config.pools.iter().find(|pool| pool.name == assignment.pool);
        let (Some(pool), Some(Vf { device, .. })) = (pool, survey.vfs.get(&address)) else { continue };
        let Some(driver) = driver_to_bind(pool, device) else { continue };
        let bound =
            free(host, device).and_then(|()| pci::bind(host, address, driver).map_err(|error| chain(&error)));
        match bound {
            Ok(()) => info!(pool = %pool.name, device = %address, driver, "VF bound"),
            Err(error) => warn!(pool = %pool.name, device = %address, driver, error, "VF not bound"),
        }
        // A failed bind may have taken it off its driver all the same.
        any = true;
    }
    any
}

/// A VFIO driver of any name serves; what no check would let through is not taken off its driver.
fn driver_to_bind<'a>(pool: &'a Pool, device: &SubDevice) -> Option<&'a str> {
    let prepare = pool.prepare.as_ref()?;
    (!device.on_vfio && device.doorbell.is_ok() && device.isolation.is_ok()).then_some(&prepare.driver)
}

/// An unbind of a held device blocks for as long as it is held, and no signal ends it.
fn free(host: &Host, device: &SubDevice) -> Result<(), String> {
    match claim::read(host, &device.id()) {
        Ok(None) => {}
        Ok(Some(claim)) => {
            return Err(format!(
                "it is claimed for pod {}/{}",
                claim.holder.pod.namespace, claim.holder.pod.name
            ));
        }
        Err(error) => return Err(chain(&error)),
    }
    match pci::vdpa_children(host, device.function.address) {
        Ok(children) if children.is_empty() => Ok(()),
        Ok(children) => Err(format!("it is the parent of vDPA device {}", children.join(", "))),
        Err(error) => Err(chain(&error)),
    }
}
