//! Holding a device: the lock, the claim, and the way back.
//!
//! A [`Hold`] that is dropped before [`Hold::keep`] undoes what it changed, newest first, and gives the device back to
//! whoever held it before: an ADD that fails, or panics, leaves the node as it found it.

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
    former: Option<Former>,
    changed: bool,
    kept: bool,
    _lock: Lock,
}

/// Who held the device when we came. Our claim takes over its undo steps, so that a killed ADD loses none of them.
#[derive(Debug)]
struct Former {
    claim: Claim,
    attachment: Option<String>,
}

impl<'a> Hold<'a> {
    /// Locks and claims a device.
    ///
    /// A former holder is no obstacle: the kubelet says that the device is this pod's now, and a DEL of its old
    /// sandbox may come late or never. Whether somebody still uses the device shows when it is opened.
    pub fn take(host: &'a Host, id: &DeviceId, holder: Holder) -> Result<Self, Failure> {
        let lock = claim::lock(host, id)?;
        let mut claim = Claim::new(host, id.clone(), holder)?;
        let mut former = None;
        if let Some(before) = claim::read(host, id)? {
            claim.undo.clone_from(&before.undo);
            former = Some(Former { claim: before, attachment: host.read_text_if_any(attachment(id))? });
        }
        claim::write(host, &claim)?;
        Ok(Self { host, claim, former, changed: false, kept: false, _lock: lock })
    }

    /// The device.
    #[must_use]
    pub fn id(&self) -> &DeviceId {
        &self.claim.id
    }

    /// Makes a change; how to undo it is on disk before. Undoing what was not done does no harm.
    pub fn change(&mut self, undo: Undo, make: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        if !self.claim.undo.contains(&undo) {
            self.claim.undo.push(undo);
            claim::write(self.host, &self.claim)?;
        }
        self.changed = true;
        make()
    }

    /// The attachment stands; from now on only its DEL undoes it.
    pub fn keep(mut self) {
        self.kept = true;
    }

    fn give_back(&mut self) -> Result<(), Failure> {
        match &self.former {
            Some(Former { claim, attachment: content }) => {
                if let Some(content) = content.as_ref().filter(|_| self.changed) {
                    self.host.replace(attachment(&claim.id), content.as_bytes())?;
                }
                Ok(claim::write(self.host, claim)?)
            }
            None => {
                undo(self.host, &mut self.claim)?;
                Ok(claim::remove(self.host, &self.claim.id)?)
            }
        }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // What fails here is left to DEL, which the runtime calls after a failed ADD: the claim still lists it.
            let _ = self.give_back();
        }
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
            Undo::RemoveAttachment => host.remove(attachment(&claim.id))?,
        }
        claim.undo.pop();
        claim::write(host, claim)?;
    }
    Ok(())
}

fn attachment(id: &DeviceId) -> String {
    format!("{}/{ATTACHMENT_FILE}", descriptor::folder(id))
}

#[cfg(test)]
mod tests;
