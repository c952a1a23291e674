//! Holding a device: the lock, the claim, and the way back.
//!
//! A [`Hold`] that is dropped before [`Hold::keep`] undoes what it changed, newest first, and gives the device back to
//! whoever held it before: an ADD that fails, or panics, leaves the node as it found it.

use doorbell_common::claim::{self, Claim, Holder, Lock, Undo};
use doorbell_common::fault::{self, Bug};
use doorbell_common::formats::cni::code;
use doorbell_common::formats::descriptor::{self, ATTACHMENT_FILE};
use doorbell_common::host::Host;
use doorbell_common::subdevice::DeviceId;

use crate::failure::Failure;
use crate::{netdev, vf, vm};

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

/// Who held the device when we came. What was done to its interface and its VF is undone by then; our claim takes over
/// the other undo steps, so that a killed ADD loses none of them.
#[derive(Debug)]
struct Former {
    claim: Claim,
    /// The files that its steps remove, as they were; `None` where there was none.
    files: Vec<(String, Option<Vec<u8>>)>,
}

impl<'a> Hold<'a> {
    /// Locks and claims a device.
    ///
    /// A former holder is no obstacle: the kubelet says that the device is this pod's now, and a DEL of its old
    /// sandbox may come late or never. Whether somebody still uses the device shows when it is opened. Its interface
    /// comes back to the host at once, because it is needed now.
    pub fn take(host: &'a Host, id: &DeviceId, holder: Holder) -> Result<Self, Failure> {
        let lock = claim::lock(host, id)?;
        let mut claim = Claim::new(host, id.clone(), holder)?;
        let mut former = None;
        if let Some(mut before) = claim::read(host, id)? {
            reclaim(host, &mut before)?;
            claim.undo.clone_from(&before.undo);
            claim.former = Some(before.holder.clone());
            let mut files = Vec::new();
            for file in before.undo.iter().filter_map(|step| file(id, step)) {
                let content = host.read_if_any(&file)?;
                files.push((file, content));
            }
            former = Some(Former { claim: before, files });
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
    pub fn change<T>(&mut self, undo: Undo, make: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        if !self.claim.undo.contains(&undo) {
            self.claim.undo.push(undo);
            claim::write(self.host, &self.claim)?;
        }
        self.changed = true;
        make()
    }

    /// Has the newest change undone another way, now that more is known of it.
    pub fn amend(&mut self, undo: Undo) -> Result<(), Failure> {
        self.claim.undo.pop();
        self.claim.undo.push(undo);
        Ok(claim::write(self.host, &self.claim)?)
    }

    /// The attachment stands; from now on only its DEL undoes it.
    pub fn keep(mut self) {
        self.kept = true;
    }

    fn give_back(&mut self) -> Result<(), Failure> {
        let Some(Former { claim: before, files }) = &self.former else {
            undo(self.host, &mut self.claim, 0, "")?;
            return Ok(claim::remove(self.host, &self.claim.id)?);
        };
        if self.changed {
            undo(self.host, &mut self.claim, before.undo.len(), "")?;
            for (file, content) in files {
                match content {
                    Some(content) => self.host.replace(file, content)?,
                    None => self.host.remove(file)?,
                }
            }
        }
        Ok(claim::write(self.host, before)?)
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

/// Undoes and removes the claim on a device if that sandbox and interface hold it; otherwise nothing is touched. `netns`
/// is where the sandbox's network namespace is now, which may be nowhere.
pub fn release(
    host: &Host,
    id: &DeviceId,
    container_id: &str,
    interface: &str,
    netns: &str,
) -> Result<(), Failure> {
    let _lock = claim::lock(host, id)?;
    match claim::read(host, id)? {
        Some(mut claim) if claim.holder.is(container_id, interface) => {
            if fault::planted(Bug::EarlyRelease) {
                claim::remove(host, id)?;
            }
            undo(host, &mut claim, 0, netns)?;
            Ok(claim::remove(host, id)?)
        }
        _ => Ok(()),
    }
}

/// Takes back what a claim lists, newest first, down to the steps that stay. What is done is off the list on disk, so a
/// killed undo goes on where it was. On a full disk the list stays as it was: what is taken back twice is taken back
/// once, and the claim can still be removed in the end.
fn undo(host: &Host, claim: &mut Claim, stay: usize, netns: &str) -> Result<(), Failure> {
    while let Some(step) = claim.undo.get(stay..).and_then(<[Undo]>::last) {
        take_back(host, claim, step, netns)?;
        claim.undo.pop();
        if !fault::planted(Bug::EarlyRelease) {
            let _ = claim::write(host, claim);
        }
    }
    Ok(())
}

/// Takes back all but files of a former holder's claim, as [`undo`] does: files are ours to write anew, and are given
/// back where we fail.
fn reclaim(host: &Host, claim: &mut Claim) -> Result<(), Failure> {
    let is_file = |step: &Undo| file(&claim.id, step).is_some();
    while let Some(place) = claim.undo.iter().rposition(|step| !is_file(step)) {
        take_back(host, claim, &claim.undo[place], "").map_err(|failure| {
            let Claim { id, holder, .. } = &*claim;
            let pod = format!("{}/{}", holder.pod.namespace, holder.pod.name);
            Failure::new(code::TRY_AGAIN, format!("device {id} is not back from pod {pod}"))
                .with_details(failure.msg)
                .with_details(failure.details)
        })?;
        claim.undo.remove(place);
        claim::write(host, claim)?;
    }
    Ok(())
}

/// Takes back one step of a claim.
fn take_back(host: &Host, claim: &Claim, step: &Undo, netns: &str) -> Result<(), Failure> {
    if fault::planted(Bug::LostUndo) && *step == Undo::RemoveAttachment {
        return Ok(());
    }
    if let Some(file) = file(&claim.id, step) {
        return Ok(host.remove(file)?);
    }
    // The folder may outlive a boot, and the sandbox's id does not come again.
    if let Undo::Dan(step) = step {
        return vm::take_out(host, step);
    }
    // Interfaces and VFs of this boot know nothing of what was done in another.
    if !claim.is_of_this_boot(host)? {
        return Ok(());
    }
    match step {
        Undo::Netdev(netdev) => {
            let mut known: Vec<&str> = [claim.holder.netns.as_str(), netns].to_vec();
            known.retain(|path| !path.is_empty());
            known.dedup();
            netdev::bring_back(host, netdev, &known)
        }
        Undo::Vf(step) => vf::restore(host, step),
        Undo::RemoveAttachment | Undo::RemoveDeviceInfo(_) | Undo::Dan(_) => Ok(()),
    }
}

/// The file that a step removes; `None` for one that is about something else.
fn file(id: &DeviceId, step: &Undo) -> Option<String> {
    match step {
        Undo::RemoveAttachment => Some(format!("{}/{ATTACHMENT_FILE}", descriptor::folder(id))),
        Undo::RemoveDeviceInfo(path) => Some(path.clone()),
        Undo::Netdev(_) | Undo::Vf(_) | Undo::Dan(_) => None,
    }
}

#[cfg(test)]
mod tests;
