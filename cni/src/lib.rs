//! `doorbell`, a CNI plugin: wires an allocated sub-device into its pod's sandbox, and undoes it.
//!
//! stdout carries the protocol only: a result, an error document, or nothing. The verbs are a file each ([`add`],
//! [`del`], [`check`], [`gc`], [`status`]), over what [`call`] and [`config`] parsed; [`whose`] decides which devices a call is about; [`hold`] locks,
//! claims and undoes; [`device`] verifies what is wired and tells its container; [`attributes`] is what is asked of it, which
//! [`vf`] has its PF set; [`netdev`] moves its interface into the pod and back, [`vm`] has a VM make one; [`ipam`] has another program give
//! addresses, [`device_info`] tells meta-plugins of the device.

pub mod add;
pub mod attributes;
pub mod call;
pub mod check;
pub mod child;
pub mod config;
pub mod del;
pub mod device;
pub mod device_info;
mod failure;
#[cfg(test)]
mod faults;
pub mod gc;
pub mod hold;
pub mod ipam;
pub mod netdev;
pub mod podresources;
#[cfg(test)]
mod rig;
pub mod status;
pub mod vf;
pub mod vm;
pub mod whose;

use std::time::Instant;

use doorbell_common::calls;
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
    let began = Instant::now();
    let call = Call::parse(variable)?;
    let version = || config::version(stdin, call.verb);
    let parse = || Config::parse(stdin, call.verb, &call.args);
    match call.verb {
        Verb::Add => {
            let added = parse().and_then(|config| add::add(host, &call, &config, stdin));
            tally(host, "ADD", began, added.as_ref().map(|added| added.devices));
            return added.map(|added| Some(added.document));
        }
        Verb::Version => return Ok(Some(VersionReply::ours().document())),
        Verb::Check => check::check(host, &call, &parse()?, stdin),
        Verb::Del => {
            let deleted = version().and_then(|()| del::del(host, &call, stdin));
            tally(host, "DEL", began, deleted.as_ref().copied());
            deleted.map(drop)
        }
        Verb::Gc => version().and_then(|()| gc::gc(host, &call, stdin)),
        Verb::Status => version().and_then(|()| status::status(host, &call, stdin)),
    }
    .map(|()| None)
}

/// Counts a call that was about devices of ours, or failed; the others, every pod's of the node, are not ours to tell of.
fn tally(host: &Host, verb: &str, began: Instant, devices: Result<usize, &Failure>) {
    match devices {
        Ok(0) => {}
        Ok(_) => calls::count(host, verb, 0, began.elapsed()),
        Err(failure) => calls::count(host, verb, failure.code, began.elapsed()),
    }
}
