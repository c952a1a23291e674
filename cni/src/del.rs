//! DEL: gives back what this attachment holds, and nothing else.
//!
//! It can come late, twice, without a namespace, or for a sandbox that never held a device: where no claim names the
//! attachment it succeeds and touches nothing. One thing's trouble does not keep the others.

use doorbell_common::claim::{self, ClaimError, Holder};
use doorbell_common::host::Host;
use doorbell_common::subdevice::DeviceId;

use crate::call::Call;
use crate::config;
use crate::failure::Failure;
use crate::hold;
use crate::ipam::Ipam;

/// Gives back the addresses of the sandbox and interface, and releases every device that they hold; how many that were.
pub fn del(host: &Host, call: &Call, stdin: &[u8]) -> Result<usize, Failure> {
    let (mut failed, mut devices) = (None, 0);
    if let Some(name) = config::leasing(stdin) {
        let given_back = Ipam::find(host, &name, call, stdin).and_then(|ipam| ipam.del());
        collect(&mut failed, given_back, || format!("ipam {name}: "));
    }
    match claim::ids(host) {
        Ok(ids) => {
            for id in ids {
                let released = release(host, &id, call).map(|held| devices += usize::from(held));
                collect(&mut failed, released, || format!("device {id}: "));
            }
        }
        Err(error) => collect(&mut failed, Err(error.into()), String::new),
    }
    failed.map_or(Ok(devices), Err)
}

/// The first failure is the answer; those after it are told in its details.
pub(crate) fn collect(
    failed: &mut Option<Failure>,
    outcome: Result<(), Failure>,
    what: impl FnOnce() -> String,
) {
    if let Err(failure) = outcome {
        *failed = Some(match failed.take() {
            None => failure,
            Some(first) => first.with_details(what() + &failure.msg),
        });
    }
}

/// Whether the attachment held the device.
fn release(host: &Host, id: &DeviceId, call: &Call) -> Result<bool, Failure> {
    let is_ours = |holder: &Holder| holder.is(&call.container_id, &call.interface);
    match claim::read(host, id) {
        // An ADD that takes the device over at this moment gives it back to its former holder if it fails: `release`
        // waits for its end and looks again.
        Ok(Some(claim)) if is_ours(&claim.holder) || claim.former.as_ref().is_some_and(is_ours) => {
            hold::release(host, id, &call.container_id, &call.interface, &call.netns).map(|()| true)
        }
        // A disk that fails now may read later, and the claim may be this attachment's.
        Err(error @ ClaimError::Host(_)) => Err(error.into()),
        // What no version of ours wrote is not known to be this attachment's: an ADD on its device will say so.
        Ok(_) | Err(_) => Ok(false),
    }
}
