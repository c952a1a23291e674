//! STATUS: whether an ADD could be served now.
//!
//! That no device is described is no reason: the chain serves every pod of the node, that of the device plugin perhaps
//! among them, and a runtime whose network is not available starts none.

use doorbell_common::claim;
use doorbell_common::formats::cni::code;
use doorbell_common::formats::descriptor;
use doorbell_common::host::Host;

use crate::call::Call;
use crate::config;
use crate::failure::Failure;
use crate::ipam::Ipam;
use crate::podresources;

/// Fails with 50 where no device could be wired.
pub fn status(host: &Host, call: &Call, stdin: &[u8]) -> Result<(), Failure> {
    let unavailable = |failure: Failure| Failure { code: code::NOT_AVAILABLE, ..failure };
    podresources::reachable(host)?;
    for folder in [claim::FOLDER, descriptor::HOST_FOLDER] {
        room(host, folder).map_err(unavailable)?;
    }
    if let Some(name) = config::leasing(stdin) {
        Ipam::find(host, &name, call, stdin).map_err(unavailable)?.status()?;
    }
    Ok(())
}

/// Whether a file can be made in a folder, as far as its filesystem says.
pub fn room(host: &Host, folder: &str) -> Result<(), Failure> {
    match host.obstacle(folder)? {
        Some(obstacle) => {
            Err(Failure::new(code::IO, format!("nothing can be written in {folder}: {obstacle}")))
        }
        None => Ok(()),
    }
}
