//! Making VFs.

use std::collections::BTreeMap;

use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::kernel::sriov;
use tracing::{info, warn};

use super::made::{Made, Step};
use super::settled::Settled;
use crate::config::Config;
use crate::discovery::Survey;

/// Makes the VFs that pools ask for, each PF's once. Whether the host may have changed.
pub(super) fn make(host: &Host, config: &Config, survey: &Survey, settled: &mut Settled) -> bool {
    let mut wanted = wanted(config, survey, true);
    wanted.retain(|pf, _| !settled.has_pf(*pf));
    let mut changed = false;
    for (pf, wanted) in wanted {
        settled.add_pf(pf);
        match enable(host, pf, wanted) {
            Ok(0) => {}
            Ok(made) => {
                changed = true;
                info!(pf = %pf, vfs = made, "VFs made");
            }
            Err(error) => {
                changed = true;
                settled.fail_pf(pf);
                warn!(pf = %pf, error, "VFs not made");
            }
        }
    }
    changed
}

fn enable(host: &Host, pf: PciAddress, wanted: u32) -> Result<u32, String> {
    let due = sriov::due(host, pf, wanted).map_err(|error| chain(&error))?;
    if !due {
        return Ok(0);
    }
    let autoprobe = sriov::autoprobe(host, pf).map_err(|error| chain(&error))?;
    let mut made = Made::of(host, &pf.to_string())?;
    made.will(host, Step::Vfs { autoprobe }).map_err(|error| chain(&error))?;
    sriov::enable(host, pf, wanted).map_err(|error| {
        // VFs that somebody else makes then are not ours.
        let none = sriov::vfs(host, pf).is_ok_and(|vfs| vfs.is_empty());
        if none && sriov::disable(host, pf, autoprobe).is_ok() {
            // What stays on record is tried again at the next start.
            let _ = made.undone(host, &Step::Vfs { autoprobe });
        }
        chain(&error)
    })
}

/// The most VFs that any pool asks for, a PF: the kernel takes a number once. `tell` of PFs that are not there.
pub(super) fn wanted(config: &Config, survey: &Survey, tell: bool) -> BTreeMap<PciAddress, u32> {
    let mut wanted: BTreeMap<PciAddress, u32> = BTreeMap::new();
    for pool in &config.pools {
        let Some(vfs) = pool.prepare.as_ref().and_then(|prepare| prepare.num_vfs) else { continue };
        let unknown = pool.select.pfs().filter(|selector| !survey.pfs.iter().any(|pf| selector.pf.is(pf)));
        for selector in unknown.filter(|_| tell) {
            warn!(pool = %pool.name, pf = %selector.pf, "no such PF");
        }
        for pf in survey.pfs.iter().filter(|pf| pool.select.may_take_from(pf)) {
            let most = wanted.entry(pf.address).or_default();
            *most = vfs.max(*most);
        }
    }
    wanted
}
