//! GC: gives back what attachments of this network hold that the runtime knows no more of.
//!
//! Each is released as its DEL would have done it. What other networks hold is theirs, and a claim that can't be read is
//! not known to be this network's. One thing's trouble does not keep the others.

use doorbell_common::claim::{self, Claim, ClaimError, Holder};
use doorbell_common::host::Host;

use crate::call::Call;
use crate::config::{self, Valid};
use crate::del::collect;
use crate::failure::Failure;
use crate::hold;
use crate::ipam::Ipam;

/// Releases all that is not valid any more, addresses included.
pub fn gc(host: &Host, call: &Call, stdin: &[u8]) -> Result<(), Failure> {
    // Without a list nothing is known to be invalid.
    let Valid { network, attachments } = config::valid(stdin)?;
    let mut failed = None;
    if let Some(name) = config::leasing(stdin) {
        let given_back = Ipam::find(host, &name, call, stdin).and_then(|ipam| ipam.gc());
        collect(&mut failed, given_back, || format!("ipam {name}: "));
    }
    let is_valid = |holder: &Holder| {
        holder.network != network
            || attachments.iter().any(|valid| holder.is(&valid.container_id, &valid.interface))
    };
    match claim::ids(host) {
        Ok(ids) => {
            for id in ids {
                let released = match claim::read(host, &id) {
                    Ok(Some(Claim { holder, .. })) if !is_valid(&holder) => {
                        hold::release(host, &id, &holder.container_id, &holder.interface, "")
                    }
                    Err(error @ ClaimError::Host(_)) => Err(error.into()),
                    Ok(_) | Err(_) => Ok(()),
                };
                collect(&mut failed, released, || format!("device {id}: "));
            }
        }
        Err(error) => collect(&mut failed, Err(error.into()), String::new),
    }
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;
