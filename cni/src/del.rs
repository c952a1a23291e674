//! DEL: gives back what this attachment holds, and nothing else.
//!
//! It can come late, twice, without a namespace, or for a sandbox that never held a device: where no claim names the
//! attachment it succeeds and touches nothing. One device's trouble does not keep the others.

use doorbell_common::claim;
use doorbell_common::host::Host;

use crate::call::Call;
use crate::failure::Failure;
use crate::hold;

/// Releases every device that the sandbox and interface hold.
pub fn del(host: &Host, call: &Call) -> Result<(), Failure> {
    let mut failed: Option<Failure> = None;
    for id in claim::ids(host)? {
        // A claim that can't be read is not known to be this attachment's: an ADD on its device will say so.
        let Ok(Some(claim)) = claim::read(host, &id) else { continue };
        if !claim.holder.is(&call.container_id, &call.interface) {
            continue;
        }
        if let Err(failure) = hold::release(host, &id, &call.container_id, &call.interface) {
            failed = Some(match failed {
                None => failure,
                Some(first) => first.with_details(format!("device {id}: {}", failure.msg)),
            });
        }
    }
    failed.map_or(Ok(()), Err)
}
