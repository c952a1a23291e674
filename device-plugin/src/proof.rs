//! The proof of isolated interrupts: one attach a PF and boot.
//!
//! Without interrupt remapping a VF looks isolated in every file of sysfs; only attaching it shows the difference. The
//! attach opens its group, or the VF itself where the kernel has no groups, and that resets it. So it is done on a VF
//! that nobody holds, once: whether interrupts are remapped does not change while the node runs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use doorbell_common::claim;
use doorbell_common::error::chain;
use doorbell_common::host::{self, Host};
use doorbell_common::isolation::{Isolation, Refusal};
use doorbell_common::kernel::boot;
use doorbell_common::kernel::iommu::GroupId;
use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::kernel::sriov::Pf;

use crate::discovery::{Survey, Vf};
use crate::prover::attach::{Proof, attach};

/// A file a PF whose VFs attach, with the boot in which they did. Not below /run, which somebody may empty while every
/// VF is in use and none could be attached to show it again.
const FOLDER: &str = "/var/lib/doorbell/attaches";

/// The survey with the isolation verdict of every VF confirmed, or taken back; itself, where none is taken back. Only VFs
/// that `may_open` has are opened: the others are somebody else's to use.
pub fn confirm<'a>(
    host: &Host,
    survey: &'a Survey,
    may_open: impl Fn(PciAddress) -> bool,
) -> Cow<'a, Survey> {
    let prove = |pf: &Pf| (pf.address, prove(host, pf.address, survey, &may_open));
    let proofs: BTreeMap<PciAddress, Proof> = survey.pfs.iter().map(prove).collect();
    let mut confirmed = Cow::Borrowed(survey);
    if proofs.values().all(|proof| matches!(proof, Proof::Attaches)) {
        return confirmed;
    }
    for (address, Vf { pf, device, .. }) in &survey.vfs {
        let Ok(Isolation { group: Some(group), .. }) = device.isolation else { continue };
        let refusal = match proofs.get(pf) {
            Some(Proof::Attaches) => continue,
            Some(Proof::Fails(reason)) => Refusal::NotAttached { group, reason: reason.clone() },
            Some(Proof::Untried(reason)) => unproven(group, reason),
            None => unproven(group, "its PF is not known"),
        };
        if let Some(vf) = confirmed.to_mut().vfs.get_mut(address) {
            Arc::make_mut(&mut vf.device).isolation = Err(refusal);
        }
    }
    confirmed
}

/// Where it is kept that a PF's VFs attach.
#[must_use]
pub fn file(pf: PciAddress) -> String {
    format!("{FOLDER}/{pf}")
}

/// Keeps that a PF's VFs attach in this boot.
fn keep(host: &Host, pf: PciAddress) -> host::Result<()> {
    host.keep_as(file(pf), boot::id(host)?.as_bytes())
}

/// Whether VFs of a PF were seen to attach in this boot.
pub fn is_kept(host: &Host, pf: PciAddress) -> bool {
    let kept = host.read_text_if_any(file(pf)).ok().flatten();
    // What can't be read is not known: the attach is made again, or the VFs stay unproven.
    kept.is_some_and(|kept| boot::id(host).is_ok_and(|boot| kept == boot))
}

fn unproven(group: GroupId, reason: &str) -> Refusal {
    Refusal::Unproven { group, reason: reason.to_owned() }
}

fn prove(host: &Host, pf: PciAddress, survey: &Survey, may_open: &impl Fn(PciAddress) -> bool) -> Proof {
    if is_kept(host, pf) {
        return Proof::Attaches;
    }
    let ours = |address: &PciAddress, vf: &Vf| vf.pf == pf && vf.device.on_vfio && may_open(*address);
    let mut proof = Proof::Untried("no pool has a VF of its PF on a VFIO driver".to_owned());
    for (_, Vf { device, .. }) in survey.vfs.iter().filter(|(address, vf)| ours(address, vf)) {
        let Ok(Isolation { group: Some(group), .. }) = device.isolation else { continue };
        let tried = if claim::may_be_in_use(host, &device.function.address.into()) {
            Proof::Untried("every VF of its PF is in use".to_owned())
        } else {
            attach(host, device.function.address, group)
        };
        match tried {
            Proof::Attaches => {
                // Kept so that later starts need not open a group; without it the next start attaches again.
                if let Err(error) = keep(host, pf) {
                    tracing::warn!(pf = %pf, error = chain(&error), "attach not recorded");
                }
                return Proof::Attaches;
            }
            // Perhaps only this VF's own trouble: another may still show that the PF's attach.
            Proof::Fails(_) => proof = tried,
            Proof::Untried(_) if matches!(proof, Proof::Fails(_)) => {}
            Proof::Untried(_) => proof = tried,
        }
    }
    proof
}

/// Attaches one VF of a PF, which nobody uses, and keeps it if that went well.
pub fn attach_and_keep(
    host: &Host,
    pf: PciAddress,
    address: PciAddress,
    group: GroupId,
) -> Result<(), String> {
    match attach(host, address, group) {
        Proof::Attaches => keep(host, pf).map_err(|error| chain(&error)),
        Proof::Fails(reason) | Proof::Untried(reason) => Err(reason),
    }
}
