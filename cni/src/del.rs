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

/// Gives back the addresses of the sandbox and interface, and releases every device that they hold.
pub fn del(host: &Host, call: &Call, stdin: &[u8]) -> Result<(), Failure> {
    let mut failed = None;
    if let Some(name) = config::leasing(stdin) {
        let given_back = Ipam::find(host, &name, call, stdin).and_then(|ipam| ipam.del());
        collect(&mut failed, given_back, || format!("ipam {name}: "));
    }
    match claim::ids(host) {
        Ok(ids) => {
            for id in ids {
                collect(&mut failed, release(host, &id, call), || format!("device {id}: "));
            }
        }
        Err(error) => collect(&mut failed, Err(error.into()), String::new),
    }
    failed.map_or(Ok(()), Err)
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

fn release(host: &Host, id: &DeviceId, call: &Call) -> Result<(), Failure> {
    let is_ours = |holder: &Holder| holder.is(&call.container_id, &call.interface);
    match claim::read(host, id) {
        // An ADD that takes the device over at this moment gives it back to its former holder if it fails: `release`
        // waits for its end and looks again.
        Ok(Some(claim)) if is_ours(&claim.holder) || claim.former.as_ref().is_some_and(is_ours) => {
            hold::release(host, id, &call.container_id, &call.interface, &call.netns)
        }
        // A disk that fails now may read later, and the claim may be this attachment's.
        Err(error @ ClaimError::Host(_)) => Err(error.into()),
        // What no version of ours wrote is not known to be this attachment's: an ADD on its device will say so.
        Ok(_) | Err(_) => Ok(()),
    }
}
