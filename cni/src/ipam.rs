//! The IPAM plugin that a network of its own may name: it gives the attachment its addresses.
//!
//! Follows the CNI specification 1.1.0, section 4: the plugin is a program of `CNI_PATH` that gets our environment and
//! our configuration, byte for byte. What it leases it keeps by container and interface, so no claim lists it: every
//! DEL of such a network asks the plugin to give back, whether or not an ADD came that far.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use doorbell_common::formats::cni::{ErrorReply, IpamResult, code, ip_prefix};
use doorbell_common::formats::descriptor::IpPrefix;
use doorbell_common::host::Host;
use doorbell_common::kernel::link::Route;

use crate::call::{Call, Verb};
use crate::child::{self, Said};
use crate::failure::Failure;

/// The kubelet waits 2 minutes for a sandbox (`--runtime-request-timeout`); an ADD that fails runs the plugin twice.
const ANSWER_FOR: Duration = Duration::from_secs(30);

/// This program, as networks name it: as its own IPAM plugin each call would start the next.
const OURS: &str = "doorbell";

/// The plugin's name, which is a file name: `CNI_PATH` alone says where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// Why a text is none.
#[derive(Debug, PartialEq, Eq)]
pub struct NoName;

/// A plugin that is there, with all that it is called with.
#[derive(Debug)]
pub struct Ipam<'a> {
    title: String,
    program: PathBuf,
    call: &'a Call,
    stdin: &'a [u8],
    within: Duration,
}

/// What an ADD leased; given back where it is dropped unkept.
#[derive(Debug)]
pub struct Lease<'a> {
    /// What the plugin answered.
    pub answer: IpamResult,
    /// The addresses in it.
    pub addresses: Vec<IpPrefix>,
    /// The routes in it.
    pub routes: Vec<Route>,
    ipam: &'a Ipam<'a>,
    kept: bool,
}

impl FromStr for Name {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        let bad = matches!(text, "" | "." | ".." | OURS) || text.contains(['/', '\0']);
        if bad { Err(NoName) } else { Ok(Self(text.to_owned())) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'a> Ipam<'a> {
    /// The plugin of that name in the first folder of `CNI_PATH` that has it.
    pub fn find(host: &Host, name: &Name, call: &'a Call, stdin: &'a [u8]) -> Result<Self, Failure> {
        // A relative folder would be one of wherever the runtime happens to run.
        let folders = call.path.split(':').filter(|folder| folder.starts_with('/'));
        let program = folders.map(|folder| host.path(format!("{folder}/{name}"))).find(|path| path.is_file());
        let title = format!("the IPAM plugin `{name}`");
        let absent = || {
            let msg = format!("{title} is in no folder of CNI_PATH (`{}`)", call.path);
            Failure::new(code::BAD_CONFIG, msg)
        };
        Ok(Self { program: program.ok_or_else(absent)?, title, call, stdin, within: ANSWER_FOR })
    }

    /// Leases addresses.
    pub fn add(&'a self) -> Result<Lease<'a>, Failure> {
        // It stands before the call: a plugin that fails, or is killed, may have leased.
        let mut lease = Lease {
            answer: IpamResult::default(),
            addresses: Vec::new(),
            routes: Vec::new(),
            ipam: self,
            kept: false,
        };
        let said = self.run(Verb::Add)?;
        let unreadable = || Failure::new(code::DECODE, format!("the answer of {} can't be read", self.title));
        lease.answer = serde_json::from_slice(&said.stdout).map_err(|error| unreadable().because(&error))?;
        for ip in lease.answer.ips() {
            let text = ip.get("address").and_then(|address| address.as_str()).unwrap_or_default();
            let bad = || unreadable().with_details(format!("`{text}` is no address with a prefix length"));
            lease.addresses.push(ip_prefix(text).ok_or_else(bad)?);
        }
        if lease.addresses.is_empty() {
            return Err(unreadable().with_details("it has no address"));
        }
        let none = |route: String| unreadable().with_details(format!("{route} is no route"));
        lease.routes = lease.answer.routes().map_err(none)?;
        Ok(lease)
    }

    /// Gives back what the plugin has leased to this container and interface, if anything.
    pub fn del(&self) -> Result<(), Failure> {
        self.run(Verb::Del).map(drop)
    }

    /// Whether what it has leased to this container and interface stands.
    pub fn check(&self) -> Result<(), Failure> {
        self.run(Verb::Check).map(drop)
    }

    /// Gives back what it has leased to others than those that its configuration calls valid.
    pub fn gc(&self) -> Result<(), Failure> {
        self.run(Verb::Gc).map(drop)
    }

    /// Whether it could lease now.
    pub fn status(&self) -> Result<(), Failure> {
        self.run(Verb::Status).map(drop)
    }

    fn run(&self, verb: Verb) -> Result<Said, Failure> {
        let mut command = Command::new(&self.program);
        let text = verb.to_string();
        // Said again from what we parsed, because an undo is a DEL within an ADD.
        for (name, value) in [
            ("CNI_COMMAND", &text),
            ("CNI_CONTAINERID", &self.call.container_id),
            ("CNI_NETNS", &self.call.netns),
            ("CNI_IFNAME", &self.call.interface),
            ("CNI_ARGS", &self.call.args),
            ("CNI_PATH", &self.call.path),
        ] {
            // GC and STATUS are about no container.
            if value.is_empty() && matches!(verb, Verb::Gc | Verb::Status) {
                command.env_remove(name);
            } else {
                command.env(name, value);
            }
        }
        let said = child::run(&self.title, &mut command, self.stdin, self.within)?;
        if said.status.success() { Ok(said) } else { Err(self.failure(&said)) }
    }

    /// The plugin's own error goes up as it is; one that has none to show is named.
    fn failure(&self, said: &Said) -> Failure {
        match serde_json::from_slice::<ErrorReply>(&said.stdout) {
            Ok(ErrorReply { code, msg, details, .. }) => Failure::new(code, msg).with_details(details),
            Err(_) => Failure::new(code::IO, format!("{} failed: {}", self.title, said.status))
                .with_details(String::from_utf8_lossy(&said.stdout).trim()),
        }
    }
}

impl Lease<'_> {
    /// The attachment stands; from now on only its DEL gives the addresses back.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // What fails here is left to DEL, which the runtime calls after a failed ADD.
            let _ = self.ipam.del();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
