//! What an ADD answers: a result of its own, or that of the plugin before it with interfaces added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::IpamResult;

/// The version with `mtu`, `pciID` and `socketPath` in a result's interfaces.
const WITH_PCI_ID: &str = "1.1.0";

/// The result of an ADD that is not chained.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AddResult {
    cni_version: String,
    interfaces: Vec<Interface>,
    ips: Vec<Map<String, Value>>,
    routes: Vec<Value>,
    dns: Map<String, Value>,
}

/// The result of the plugin before us. Each key's value stays as it came, to the byte.
#[derive(Debug, Clone)]
pub struct PreviousResult(BTreeMap<String, Box<RawValue>>);

/// An interface in a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name in the sandbox.
    pub name: String,
    /// Its MAC address, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Bytes of its largest packet, where it is known; since 1.1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The network namespace that it is in, by its file; empty for one on the host.
    #[serde(default)]
    pub sandbox: String,
    /// The PCI function behind it; since 1.1.0.
    #[serde(rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

impl Interface {
    /// Without what that version does not have.
    #[must_use]
    pub fn in_version(self, version: &str) -> Self {
        let there = version == WITH_PCI_ID;
        Self { mtu: self.mtu.filter(|_| there), pci_id: self.pci_id.filter(|_| there), ..self }
    }
}

impl AddResult {
    /// As JSON.
    #[must_use]
    pub fn document(&self) -> String {
        super::to_json(self)
    }

    /// One interface.
    #[must_use]
    pub fn one(version: &str, interface: Interface) -> Self {
        Self {
            cni_version: version.to_owned(),
            interfaces: vec![interface.in_version(version)],
            ips: Vec::new(),
            routes: Vec::new(),
            dns: Map::new(),
        }
    }

    /// With the addresses, routes and name servers that an IPAM plugin gave, as it gave them: which keys an address
    /// has changed between the versions, and both speak the same one.
    #[must_use]
    pub fn with(mut self, ipam: &IpamResult) -> Self {
        self.ips = ipam.ips().to_owned();
        for ip in &mut self.ips {
            ip.insert("interface".to_owned(), Value::from(0));
        }
        self.routes = ipam.routes.clone().unwrap_or_default();
        self.dns = ipam.dns.clone().unwrap_or_default();
        self
    }
}

impl PreviousResult {
    /// Reads a `prevResult`.
    pub fn parse(previous: &RawValue) -> serde_json::Result<Self> {
        let result: BTreeMap<String, Box<RawValue>> = serde_json::from_str(previous.get())?;
        interfaces(&result)?;
        Ok(Self(result))
    }

    /// Its interfaces.
    pub fn interfaces(&self) -> serde_json::Result<Vec<Interface>> {
        interfaces(&self.0)?.iter().map(|interface| serde_json::from_str(interface.get())).collect()
    }

    /// The result with interfaces behind its own, as JSON: what others say by an interface's place still holds.
    #[must_use]
    pub fn with(mut self, added: &[Interface]) -> String {
        let mut all = interfaces(&self.0).expect("they were read before");
        let raw = |value| to_raw_value(value).expect("an interface has string keys");
        all.extend(added.iter().map(raw));
        self.0.insert(INTERFACES.to_owned(), to_raw_value(&all).expect("JSON is JSON"));
        super::to_json(&self.0)
    }
}

const INTERFACES: &str = "interfaces";

fn interfaces(result: &BTreeMap<String, Box<RawValue>>) -> serde_json::Result<Vec<Box<RawValue>>> {
    let Some(interfaces) = result.get(INTERFACES) else { return Ok(Vec::new()) };
    Ok(serde_json::from_str::<Option<Vec<Box<RawValue>>>>(interfaces.get())?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface() -> Interface {
        let [name, sandbox] = ["doorbell0", "/run/netns/a"].map(str::to_owned);
        let [mac, pci_id] = ["02:00:00:00:00:01", "0000:01:00.1"].map(|text| Some(text.to_owned()));
        Interface { name, mac, mtu: Some(1500), sandbox, pci_id }
    }

    fn added(previous: &str) -> serde_json::Result<String> {
        let previous: Box<RawValue> = serde_json::from_str(previous)?;
        Ok(PreviousResult::parse(&previous)?.with(&[interface().in_version("1.0.0")]))
    }

    #[test]
    fn an_old_version_has_neither_mtu_nor_pci_id() {
        let [new, old] = ["1.1.0", "1.0.0"].map(|version| AddResult::one(version, interface()).document());
        assert!(new.contains(r#""mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:01:00.1""#), "{new}");
        assert!(old.contains(r#""mac":"02:00:00:00:00:01","sandbox":"/run/netns/a"}]"#), "{old}");
    }

    #[test]
    fn what_others_said_stays_to_the_byte() {
        let ours = r#"{"name":"doorbell0","mac":"02:00:00:00:00:01","sandbox":"/run/netns/a"}"#;
        let previous = r#"{"big":1e400,"interfaces":[ {"name":"eth0", "x":1.50} ],"ips":[{"interface":0 }]}"#;
        assert_eq!(
            added(previous).unwrap(),
            previous.replace("[ {", "[{").replace("} ]", &format!("}},{ours}]"))
        );
        for none in ["{}", r#"{"interfaces":null}"#] {
            assert_eq!(added(none).unwrap(), format!(r#"{{"interfaces":[{ours}]}}"#));
        }
    }

    #[test]
    fn what_is_no_result_is_refused() {
        for previous in ["7", "[]", r#"{"interfaces":7}"#] {
            assert!(added(previous).is_err(), "{previous}");
        }
    }
}
