//! DEL: gives back what this attachment holds, and nothing else.
//!
//! It can come late, twice, without a namespace, or for a sandbox that never held a device: where no claim names the
//! attachment it succeeds and touches nothing. One device's trouble does not keep the others.

use doorbell_common::claim::{self, ClaimError};
use doorbell_common::host::Host;

use crate::call::Call;
use crate::failure::Failure;
use crate::hold;

/// Releases every device that the sandbox and interface hold.
pub fn del(host: &Host, call: &Call) -> Result<(), Failure> {
    let mut failed: Option<Failure> = None;
    for id in claim::ids(host)? {
        let released = match claim::read(host, &id) {
            Ok(Some(claim)) if claim.holder.is(&call.container_id, &call.interface) => {
                hold::release(host, &id, &call.container_id, &call.interface)
            }
            // A disk that fails now may read later, and the claim may be this attachment's.
            Err(error @ ClaimError::Host(_)) => Err(error.into()),
            // What no version of ours wrote is not known to be this attachment's: an ADD on its device will say so.
            Ok(_) | Err(_) => Ok(()),
        };
        if let Err(failure) = released {
            failed = Some(match failed {
                None => failure,
                Some(first) => first.with_details(format!("device {id}: {}", failure.msg)),
            });
        }
    }
    failed.map_or(Ok(()), Err)
}
