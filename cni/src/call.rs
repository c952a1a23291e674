//! The call: the environment, parsed and checked before anything is done.

use std::fmt;

use doorbell_common::claim::Pod;
use doorbell_common::formats::cni::{code, is_container_id};
use doorbell_common::kernel::link::LinkName;

use crate::failure::Failure;

/// What a runtime asks by the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `CNI_COMMAND`.
    pub verb: Verb,
    /// `CNI_CONTAINERID`; empty for verbs without one.
    pub container_id: String,
    /// `CNI_IFNAME`; likewise.
    pub interface: String,
    /// `CNI_NETNS`; empty where the namespace is gone.
    pub netns: String,
    /// `CNI_ARGS`, as it came.
    pub args: String,
    /// From `CNI_ARGS`; known wherever Kubernetes calls.
    pub pod: Option<Pod>,
    /// `CNI_PATH`: folders of plugins, joined by `:`.
    pub path: String,
}

/// Verbs of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification describes them")]
pub enum Verb {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

const VERBS: [(&str, Verb); 6] = [
    ("ADD", Verb::Add),
    ("DEL", Verb::Del),
    ("CHECK", Verb::Check),
    ("GC", Verb::Gc),
    ("STATUS", Verb::Status),
    ("VERSION", Verb::Version),
];

impl Verb {
    /// The first version of the protocol that has it, where not all have.
    #[must_use]
    pub fn since(self) -> Option<&'static str> {
        match self {
            Self::Add | Self::Del | Self::Version => None,
            Self::Check => Some("0.4.0"),
            Self::Gc | Self::Status => Some("1.1.0"),
        }
    }
}

impl Call {
    /// Parses the environment: each verb has the variables that the specification gives it.
    pub fn parse(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let missing = |name: &str| Failure::new(code::BAD_ENVIRONMENT, format!("{name} is not set"));

        let command = get("CNI_COMMAND").ok_or_else(|| missing("CNI_COMMAND"))?;
        let verb = VERBS.into_iter().find(|(name, _)| *name == command);
        let (_, verb) = verb.ok_or_else(|| bad("CNI_COMMAND", &command))?;

        let mut call = Self {
            verb,
            container_id: String::new(),
            interface: String::new(),
            netns: String::new(),
            args: get("CNI_ARGS").unwrap_or_default(),
            pod: None,
            path: get("CNI_PATH").unwrap_or_default(),
        };
        if matches!(verb, Verb::Add | Verb::Del | Verb::Check) {
            call.container_id = get("CNI_CONTAINERID").ok_or_else(|| missing("CNI_CONTAINERID"))?;
            call.interface = get("CNI_IFNAME").ok_or_else(|| missing("CNI_IFNAME"))?;
            if !is_container_id(&call.container_id) {
                return Err(bad("CNI_CONTAINERID", &call.container_id));
            }
            call.link_name()?;
            call.netns = get("CNI_NETNS").unwrap_or_default();
            call.pod = pod(&call.args);
        }
        if matches!(verb, Verb::Add | Verb::Check) && call.netns.is_empty() {
            return Err(missing("CNI_NETNS"));
        }
        Ok(call)
    }

    /// `CNI_IFNAME` as the kernel takes it.
    pub fn link_name(&self) -> Result<LinkName, Failure> {
        self.interface.parse().map_err(|_| bad("CNI_IFNAME", &self.interface))
    }
}

fn bad(name: &str, value: &str) -> Failure {
    Failure::new(code::BAD_ENVIRONMENT, format!("{name} is malformed: `{value}`"))
}

/// The value of a key of `CNI_ARGS`, where it has one: `IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;…`
#[must_use]
pub fn arg<'a>(args: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = args.split(';').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, value)| *name == key && !value.is_empty()).map(|(_, value)| value)
}

fn pod(args: &str) -> Option<Pod> {
    let value = |key: &str| arg(args, key).map(str::to_owned);
    Some(Pod { namespace: value("K8S_POD_NAMESPACE")?, name: value("K8S_POD_NAME")? })
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = VERBS.iter().find(|(_, verb)| verb == self).map_or("?", |(name, _)| name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: [(&str, &str); 5] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=a"),
    ];

    fn parse(with: &[(&str, &str)]) -> Result<Call, Failure> {
        let found = |name: &str| with.iter().chain(&ADD).find(|(key, _)| *key == name);
        Call::parse(|name| found(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn every_missing_variable_is_named() {
        for (name, _) in &ADD[..4] {
            let failure = parse(&[(*name, "")]).unwrap_err();
            assert_eq!(failure.code, code::BAD_ENVIRONMENT);
            assert!(failure.msg.starts_with(name), "{}", failure.msg);
        }
    }

    #[test]
    fn an_id_or_name_from_outside_is_no_path() {
        for (name, value) in [
            ("CNI_CONTAINERID", "../c1"),
            ("CNI_CONTAINERID", ".c1"),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", ".."),
        ] {
            assert_eq!(parse(&[(name, value)]).unwrap_err().code, code::BAD_ENVIRONMENT, "{value}");
        }
    }

    #[test]
    fn del_needs_no_namespace() {
        assert!(parse(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", ""), ("CNI_ARGS", "")]).is_ok());
    }
}
