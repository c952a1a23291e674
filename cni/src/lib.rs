//! `doorbell`, a CNI plugin: wires an allocated sub-device into its pod's sandbox, and undoes it.
//!
//! stdout carries the protocol only: a result, an error document, or nothing. The verbs are a file each ([`add`],
//! [`del`]), over what [`call`] and [`config`] parsed; [`whose`] decides which devices a call is about; [`hold`] locks,
//! claims and undoes; [`device`] verifies what is wired and tells its container; [`attributes`] is what is asked of it, which
//! [`vf`] has its PF set; [`netdev`] moves its interface into the pod and back; [`ipam`] has another program give
//! addresses, [`device_info`] tells meta-plugins of the device.

pub mod add;
pub mod attributes;
pub mod call;
pub mod child;
pub mod config;
pub mod del;
pub mod device;
pub mod device_info;
mod failure;
pub mod hold;
pub mod ipam;
pub mod netdev;
pub mod podresources;
#[cfg(test)]
mod rig;
pub mod vf;
pub mod whose;

use doorbell_common::formats::cni::VersionReply;
use doorbell_common::host::Host;

pub use failure::*;

use call::{Call, Verb};
use config::Config;

/// One call of the protocol: `variable` reads the environment; the answer is the document for stdout, if any.
pub fn answer(
    host: &Host,
    variable: impl Fn(&str) -> Option<String>,
    stdin: &[u8],
) -> Result<Option<String>, Failure> {
    let call = Call::parse(variable)?;
    match call.verb {
        Verb::Add => add::add(host, &call, &Config::parse(stdin, &call.args)?, stdin).map(Some),
        Verb::Del => config::version(stdin).and_then(|()| del::del(host, &call, stdin)).map(|()| None),
        Verb::Status => config::version(stdin).and_then(|()| podresources::reachable(host)).map(|()| None),
        Verb::Version => Ok(Some(VersionReply::ours().document())),
        Verb::Check | Verb::Gc => Err(Failure::new(
            NOT_IMPLEMENTED,
            format!("{} is not implemented by this version: nothing was checked or changed", call.verb),
        )),
    }
}
