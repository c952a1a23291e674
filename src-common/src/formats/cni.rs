//! The CNI protocol's documents, versions 0.3.0 to 1.1.0: network configuration, result, error.
//!
//! Follows the CNI specification 1.1.0. stdout carries one JSON document or nothing; an error is a document too.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::descriptor::IpPrefix;

/// Versions that are spoken, oldest first.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The version with `pciID`, `mtu` and `socketPath` in a result's interfaces.
const WITH_PCI_ID: &str = "1.1.0";

/// Error codes of the specification.
pub mod code {
    /// The configuration asks for a protocol version that is not spoken.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A needed environment variable is missing or malformed.
    pub const BAD_ENVIRONMENT: u32 = 4;
    /// A file or socket failed.
    pub const IO: u32 = 5;
    /// stdin is no JSON of the expected shape.
    pub const DECODE: u32 = 6;
    /// The configuration makes no sense.
    pub const BAD_CONFIG: u32 = 7;
    /// The same call may succeed later.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: an ADD could not be served now.
    pub const NOT_AVAILABLE: u32 = 50;
}

/// The error document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorReply {
    /// The version of the request, or the newest where it could not be read.
    #[serde(default)]
    pub cni_version: String,
    /// From [`code`], or 100 and above.
    pub code: u32,
    /// What failed.
    pub msg: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

/// The answer to VERSION.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionReply {
    /// The version of this document.
    pub cni_version: &'static str,
    /// What is spoken.
    pub supported_versions: [&'static str; VERSIONS.len()],
}

/// The network configuration, as far as we read it. Keys of other plugins and of Multus pass by.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetConf {
    /// Protocol version of configuration and result.
    pub cni_version: String,
    /// Network name.
    pub name: String,
    /// The device that Multus found for this network.
    #[serde(rename = "deviceID")]
    pub device_id: Option<String>,
    /// The same under its newer name.
    #[serde(rename = "pciBusID")]
    pub pci_bus_id: Option<String>,
    /// What the runtime passes for declared capabilities.
    pub runtime_config: Option<RuntimeConfig>,
    /// The plugin that gives addresses.
    pub ipam: Option<IpamConf>,
    /// The result of the plugin before us, as it came; there only in a chain.
    pub prev_result: Option<Box<RawValue>>,
}

/// The part of a configuration that every verb needs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Versioned {
    /// Protocol version of configuration and result.
    pub cni_version: String,
}

/// The part of a configuration that names another plugin.
#[derive(Debug, Clone, Deserialize)]
pub struct Delegating {
    /// The plugin that gives addresses.
    pub ipam: Option<IpamConf>,
}

/// The part of `ipam` that every plugin has; the rest is its own. Field and meta-plugins write `{}` for none.
#[derive(Debug, Clone, Deserialize)]
pub struct IpamConf {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// What an IPAM plugin answers to ADD. Interfaces in it mean nothing.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct IpamResult {
    ips: Option<Vec<Map<String, Value>>>,
    routes: Option<Vec<Value>>,
    dns: Option<Map<String, Value>>,
}

/// Capabilities that the runtime fills in.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RuntimeConfig {
    /// The device, with the capability `deviceID`.
    #[serde(rename = "deviceID")]
    pub device_id: Option<String>,
    /// MAC address, with the capability `mac`.
    pub mac: Option<String>,
    /// Addresses with prefix lengths, with the capability `ips`.
    pub ips: Option<Vec<String>>,
    /// Where the attachment's device-info file is to be, with the capability of that name.
    #[serde(rename = "CNIDeviceInfoFile")]
    pub device_info_file: Option<String>,
}

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

/// An interface in a result.
#[derive(Debug, Clone, Serialize)]
pub struct Interface {
    name: String,
    sandbox: String,
    #[serde(rename = "pciID", skip_serializing_if = "Option::is_none")]
    pci_id: Option<String>,
}

impl IpamConf {
    /// The plugin's name, where there is one.
    #[must_use]
    pub fn named(&self) -> Option<&str> {
        self.kind.as_deref().filter(|name| !name.is_empty())
    }
}

impl IpamResult {
    /// Its addresses, each with its `address` and what else the plugin says of it.
    #[must_use]
    pub fn ips(&self) -> &[Map<String, Value>] {
        self.ips.as_deref().unwrap_or_default()
    }
}

impl ErrorReply {
    /// As JSON.
    #[must_use]
    pub fn document(&self) -> String {
        to_json(self)
    }
}

impl VersionReply {
    /// As JSON.
    #[must_use]
    pub fn document(&self) -> String {
        to_json(self)
    }

    /// What this program speaks.
    #[must_use]
    pub fn ours() -> Self {
        Self { cni_version: VERSIONS[VERSIONS.len() - 1], supported_versions: VERSIONS }
    }
}

/// An address with its prefix length as the protocol writes it: `10.0.0.2/24`.
#[must_use]
pub fn ip_prefix(text: &str) -> Option<IpPrefix> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    // `+24` parses as a number.
    let digits = prefix.bytes().all(|digit| digit.is_ascii_digit());
    let prefix = prefix.parse().ok().filter(|_| digits)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= bits).then_some(IpPrefix { address, prefix })
}

fn to_json<T: Serialize>(document: &T) -> String {
    serde_json::to_string(document).expect("these types have string keys and no failing serializer")
}

impl AddResult {
    /// As JSON.
    #[must_use]
    pub fn document(&self) -> String {
        to_json(self)
    }

    /// One interface: the consumer drives the device itself, and gives it what addresses there are.
    #[must_use]
    pub fn one(version: &str, name: &str, sandbox: &str, pci_id: Option<String>) -> Self {
        let pci_id = pci_id.filter(|_| version == WITH_PCI_ID);
        let interface = Interface { name: name.to_owned(), sandbox: sandbox.to_owned(), pci_id };
        Self {
            cni_version: version.to_owned(),
            interfaces: vec![interface],
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
