//! `doorbell`, a CNI plugin: wires an allocated sub-device into its pod's sandbox, and undoes it.
//!
//! stdout carries the protocol only: a result, an error document, or nothing. The verbs are a file each ([`add`],
//! [`del`]); [`whose`] decides which devices a call is about; [`hold`] locks, claims and undoes; what an ADD does to a
//! device of one access mode is in that mode's file ([`vfio`]).

pub mod add;
pub mod call;
pub mod del;
mod failure;
pub mod hold;
pub mod podresources;
pub mod vfio;
pub mod whose;

use doorbell_common::formats::cni::VersionReply;
use doorbell_common::host::Host;
use serde_json::Value;

pub use failure::*;

use call::{Call, Verb};

/// One call of the protocol: `variable` reads the environment; the answer is what goes to stdout, if anything.
pub fn answer(
    host: &Host,
    variable: impl Fn(&str) -> Option<String>,
    stdin: &str,
) -> Result<Option<Value>, Failure> {
    let call = Call::parse(variable)?;
    match call.verb {
        Verb::Add => add::add(host, &call, &call::configuration(stdin)?).map(Some),
        Verb::Del => call::configuration(stdin).and_then(|_| del::del(host, &call)).map(|()| None),
        Verb::Status => call::configuration(stdin).and_then(|_| podresources::reachable(host)).map(|()| None),
        Verb::Version => Ok(Some(serde_json::json!(VersionReply::ours()))),
        Verb::Check | Verb::Gc => Err(Failure::new(
            NOT_IMPLEMENTED,
            format!("{} is not implemented by this version: nothing was checked or changed", call.verb),
        )),
    }
}
