//! Holding a device: the lock, the claim, and the way back.
//!
//! A [`Hold`] that is dropped before [`Hold::keep`] undoes what was recorded, newest first, and gives the device back
//! to whoever held it before: an ADD that fails, or panics, leaves the node as it found it.

use doorbell_common::claim::{self, Claim, Holder, Lock, Undo};
use doorbell_common::formats::descriptor::{self, ATTACHMENT_FILE};
use doorbell_common::host::Host;
use doorbell_common::subdevice::DeviceId;

use crate::failure::Failure;

/// A locked device, claimed for one attachment.
#[derive(Debug)]
pub struct Hold<'a> {
    host: &'a Host,
    claim: Claim,
    /// Who held it when we came. Its file is replaced by our claim and comes back if we fail.
    former: Option<Claim>,
    kept: bool,
    _lock: Lock,
}

impl<'a> Hold<'a> {
    /// Locks and claims a device.
    ///
    /// A former holder is no obstacle: the kubelet says that the device is this pod's now, and a DEL of its old
    /// sandbox may come late or never. Whether somebody still uses the device shows when it is opened.
    pub fn take(host: &'a Host, id: &DeviceId, holder: Holder) -> Result<Self, Failure> {
        let lock = claim::lock(host, id)?;
        let former = claim::read(host, id)?;
        let claim = Claim::new(id.clone(), holder);
        claim::write(host, &claim)?;
        Ok(Self { host, claim, former, kept: false, _lock: lock })
    }

    /// Makes one change, of the kind that happens whole or not at all; how to undo it is on disk before.
    pub fn change(&mut self, undo: Undo, make: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        self.claim.undo.push(undo);
        claim::write(self.host, &self.claim)?;
        make().inspect_err(|_| {
            self.claim.undo.pop();
        })
    }

    /// The attachment stands; from now on only its DEL undoes it.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // What fails here is left to DEL, which the runtime calls after a failed ADD: the claim still lists it.
        let undone = undo(self.host, &mut self.claim);
        let _ = match &self.former {
            Some(former) => claim::write(self.host, former),
            None if undone.is_ok() => claim::remove(self.host, &self.claim.id),
            None => Ok(()),
        };
    }
}

/// Undoes and removes the claim on a device if that sandbox and interface hold it; otherwise nothing is touched.
pub fn release(host: &Host, id: &DeviceId, container_id: &str, interface: &str) -> Result<(), Failure> {
    let _lock = claim::lock(host, id)?;
    match claim::read(host, id)? {
        Some(mut claim) if claim.holder.is(container_id, interface) => {
            undo(host, &mut claim)?;
            Ok(claim::remove(host, id)?)
        }
        _ => Ok(()),
    }
}

/// Takes back what a claim lists, newest first. What is done is off the list on disk, so a killed undo goes on where
/// it was.
fn undo(host: &Host, claim: &mut Claim) -> Result<(), Failure> {
    while let Some(step) = claim.undo.last() {
        match step {
            Undo::RemoveAttachment => {
                host.remove(format!("{}/{ATTACHMENT_FILE}", descriptor::folder(&claim.id)))?;
            }
        }
        claim.undo.pop();
        claim::write(host, claim)?;
    }
    Ok(())
}
