//! The CNI protocol's documents, versions 0.3.0 to 1.1.0: network configuration, result, error.
//!
//! Follows the CNI specification 1.1.0. stdout carries one JSON document or nothing; an error is a document too.

mod ipam;
mod result;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

pub use ipam::{IpamConf, IpamResult, ip_prefix};
pub use result::{AddResult, Interface, PreviousResult};

/// Versions that are spoken, oldest first.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

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

/// Whether a text has the form of a `CNI_CONTAINERID`: alphanumeric, then also `_`, `.` and `-`.
#[must_use]
pub fn is_container_id(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
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

/// The part of a configuration that GC is about.
#[derive(Debug, Clone, Deserialize)]
pub struct Collecting {
    /// Network name.
    pub name: String,
    /// Attachments that the runtime knows of.
    #[serde(rename = "cni.dev/valid-attachments")]
    pub valid: Option<Vec<ValidAttachment>>,
}

/// An attachment that the runtime knows of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ValidAttachment {
    /// Its `CNI_CONTAINERID`.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// Its `CNI_IFNAME`.
    #[serde(rename = "ifname")]
    pub interface: String,
}

/// The part of a configuration that names another plugin.
#[derive(Debug, Clone, Deserialize)]
pub struct Delegating {
    /// The plugin that gives addresses.
    pub ipam: Option<IpamConf>,
}

/// The part of a configuration that asks something of the device: the keys of sriov-cni, each as it came.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct AttributesConf {
    /// MAC address.
    pub mac: Option<Value>,
    /// Bytes of the largest packet.
    pub mtu: Option<Value>,
    /// Number of the VLAN.
    pub vlan: Option<Value>,
    /// Priority of its tags.
    #[serde(rename = "vlanQoS")]
    pub vlan_qos: Option<Value>,
    /// What its tags are.
    #[serde(rename = "vlanProto")]
    pub vlan_protocol: Option<Value>,
    /// Whether the VF sends under its own address only.
    #[serde(rename = "spoofchk")]
    pub spoof_check: Option<Value>,
    /// Whether the VF may do what concerns others.
    pub trust: Option<Value>,
    /// Mbit/s that it has for sure.
    pub min_tx_rate: Option<Value>,
    /// Mbit/s that it has at most.
    pub max_tx_rate: Option<Value>,
    /// The link that it sees.
    pub link_state: Option<Value>,
    /// What a user asks of the network at run time.
    pub args: Option<Args>,
}

/// `args` of a configuration.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Args {
    /// The conventional keys.
    pub cni: Option<CniArgs>,
}

/// `args.cni` of a configuration (CONVENTIONS.md of the CNI project).
#[derive(Debug, Clone, Default, Deserialize)]
pub struct CniArgs {
    /// MAC address.
    pub mac: Option<Value>,
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

fn to_json<T: Serialize>(document: &T) -> String {
    serde_json::to_string(document).expect("these types have string keys and no failing serializer")
}
