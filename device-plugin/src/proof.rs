//! The proof of isolated interrupts: one attach a PF, kept until the node reboots.
//!
//! Without interrupt remapping a VF looks isolated in every file of sysfs; only attaching its group shows the
//! difference. The attach resets nothing, but it opens the group, so it is done on a VF that nobody holds, once:
//! whether interrupts are remapped does not change while the node runs.

use std::collections::BTreeMap;

use doorbell_common::claim;
use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::isolation::{Isolation, Refusal};
use doorbell_common::kernel::iommu::GroupId;
use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::subdevice::SubDevice;
use doorbell_common::trial;

use crate::discovery::{Survey, Vf};

/// A file a PF whose VFs attach; /run is empty after a reboot, and so is the proof.
const FOLDER: &str = "/run/doorbell/attaches";

/// What an attach showed of a PF's VFs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Proof {
    Attaches,
    Fails(String),
    /// No VF of the PF is on VFIO and free.
    Untried(&'static str),
}

/// Confirms, or takes back, the isolation verdict of every VF on VFIO.
pub fn confirm(host: &Host, survey: &mut Survey) {
    let mut proofs: BTreeMap<PciAddress, Proof> = BTreeMap::new();
    for pf in survey.pfs.iter().map(|pf| pf.address) {
        proofs.insert(pf, prove(host, pf, survey));
    }
    for Vf { pf, device, .. } in survey.vfs.values_mut() {
        let Ok(isolation) = &device.isolation else { continue };
        let group = isolation.group;
        match proofs.get(pf) {
            Some(Proof::Attaches) => {}
            Some(Proof::Fails(reason)) => {
                device.isolation = Err(Refusal::NotAttached { group, reason: reason.clone() });
            }
            Some(Proof::Untried(reason)) => device.isolation = Err(unproven(group, reason)),
            None => device.isolation = Err(unproven(group, "its PF is not known")),
        }
    }
}

fn unproven(group: GroupId, reason: &str) -> Refusal {
    Refusal::Unproven { group, reason: reason.to_owned() }
}

fn prove(host: &Host, pf: PciAddress, survey: &Survey) -> Proof {
    let file = format!("{FOLDER}/{pf}");
    if host.exists(&file) {
        return Proof::Attaches;
    }
    let mut proof = Proof::Untried("no VF of its PF is on a VFIO driver");
    for Vf { device, .. } in survey.vfs.values().filter(|vf| vf.pf == pf && vf.device.on_vfio) {
        let Ok(Isolation { group, .. }) = device.isolation else { continue };
        if !is_free(host, device) {
            proof = Proof::Untried("every VF of its PF is in use");
            continue;
        }
        match trial::attach(host, group) {
            Ok(()) => {
                // Kept so that later starts need not open a group; without it the next start attaches again.
                let kept = host.make_folder(FOLDER).and_then(|()| host.replace(&file, b""));
                if let Err(error) = kept {
                    tracing::warn!(pf = %pf, error = chain(&error), "attach not recorded");
                }
                return Proof::Attaches;
            }
            Err(error) if error.is_busy() => proof = Proof::Untried("every VF of its PF is in use"),
            // Perhaps only this VF's own trouble: another may still show that the PF's attach.
            Err(error) => proof = Proof::Fails(chain(&error)),
        }
    }
    proof
}

/// A claim that can't be read may be somebody's.
fn is_free(host: &Host, device: &SubDevice) -> bool {
    matches!(claim::read(host, &device.id()), Ok(None))
}
