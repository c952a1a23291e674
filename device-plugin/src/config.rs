//! The config file: which sub-devices form which pool, and what is prepared for them.
//!
//! YAML, `apiVersion: doorbell.dev/v1`. Every field is a type that parses itself, unknown fields are refused, and an
//! error names the file, the line and the field: `pools.yaml:7: pools[0].select.pciAddresses[1]: `01:00` is no …`.

mod names;
mod pf;

use std::fmt;
use std::path::Path;

use doorbell_common::formats::descriptor::Access;
use doorbell_common::kernel::pci::PciAddress;
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;

pub use names::{DriverName, PoolName, ResourcePrefix};
pub use pf::{PfName, PfSelector};

/// The whole file.
#[derive(Debug, Clone)]
pub struct Config {
    /// First part of every resource name; `doorbell.dev` by default.
    pub resource_prefix: ResourcePrefix,
    /// In order of precedence: a sub-device that two pools select goes to the first. Names are unique.
    pub pools: Vec<Pool>,
}

/// The file as it is written: pools keep their lines until their names are compared.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "apiVersion")]
    _api_version: ApiVersion,
    #[serde(default)]
    resource_prefix: ResourcePrefix,
    pools: Vec<PoolFields>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PoolFields {
    name: Spanned<PoolName>,
    access: Access,
    #[serde(default)]
    runtime: Runtime,
    select: Spanned<Select>,
    prepare: Option<Spanned<Prepare>>,
}

/// Versions of the file's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ApiVersion {
    /// The first.
    #[serde(rename = "doorbell.dev/v1")]
    V1,
}

/// One extended resource and the sub-devices behind it.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Last part of the resource name.
    pub name: PoolName,
    /// How a pod drives the sub-device.
    pub access: Access,
    /// Container runtime of the pods that take from this pool; `runc` by default.
    pub runtime: Runtime,
    /// Which sub-devices.
    pub select: Select,
    /// What is made and bound for the pool; absent: sub-devices are taken as they are found.
    pub prepare: Option<Prepare>,
}

/// Container runtimes that differ in what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// Any OCI runtime in the host's kernel.
    #[default]
    Runc,
}

/// Selectors; a sub-device is selected where each that is given matches. At least one is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, try_from = "SelectFields")]
pub struct Select {
    /// Addresses of VFs.
    pub pci_addresses: Vec<PciAddress>,
    /// PCI vendor ids of VFs.
    pub vendors: Vec<HexId>,
    /// PCI device ids of VFs.
    pub devices: Vec<HexId>,
    /// Drivers that VFs are bound to when they are found.
    pub drivers: Vec<DriverName>,
    /// PFs, with VF numbers: `ens1f0`, `ens1f0#0-7,9`, `0000:01:00.0#2`.
    pub pf_names: Vec<PfSelector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct SelectFields {
    pci_addresses: Vec<PciAddress>,
    vendors: Vec<HexId>,
    devices: Vec<HexId>,
    drivers: Vec<DriverName>,
    pf_names: Vec<PfSelector>,
}

/// What is done before sub-devices are advertised.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prepare {
    /// Makes this many VFs on each PF in `select.pfNames` that has none; more are left as they are.
    pub num_vfs: Option<u32>,
    /// Binds each selected VF to this driver; `vfio-pci` by default. One on another VFIO driver stays there.
    #[serde(default)]
    pub driver: DriverName,
}

/// A 16-bit PCI id in hex, as `lspci -n` prints it: `1af4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HexId(pub u16);

/// Why a config file is refused: one line, with the file, the line and the field.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{file}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is read and says nothing usable.
    #[error("{file}:{line}: {field}: {message}")]
    Invalid {
        /// The file.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Path of the field: `pools[0].name`.
        field: String,
        /// What is wrong with it.
        message: String,
    },
}

impl Config {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text),
            Err(source) => Err(ConfigError::Unreadable { file, source }),
        }
    }

    /// Parses the text of a file that errors call `file`.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let invalid =
            |line, field, message| ConfigError::Invalid { file: file.to_owned(), line, field, message };
        let mut field = String::new();
        let parsed = serde_saphyr::with_deserializer_from_str(text, |yaml| {
            let mut track = serde_path_to_error::Track::new();
            let parsed = File::deserialize(serde_path_to_error::Deserializer::new(yaml, &mut track));
            if parsed.is_err() {
                // `Spanned` shows in the path as a field of its own.
                field = track.path().to_string().replace(".value", "");
            }
            parsed
        });
        let File { resource_prefix, pools: fields, .. } = parsed.map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            invalid(line, field, message(&error))
        })?;

        let mut pools: Vec<Pool> = Vec::new();
        for (index, fields) in fields.into_iter().enumerate() {
            if let Some((line, part, message)) = fields.contradiction(&pools) {
                return Err(invalid(line, format!("pools[{index}].{part}"), message));
            }
            let PoolFields { name, access, runtime, select, prepare } = fields;
            let prepare = prepare.map(|prepare| prepare.value);
            pools.push(Pool { name: name.value, access, runtime, select: select.value, prepare });
        }
        Ok(Self { resource_prefix, pools })
    }

    /// Full name of a pool's resource.
    #[must_use]
    pub fn resource(&self, pool: &PoolName) -> String {
        format!("{}/{pool}", self.resource_prefix)
    }
}

impl PoolFields {
    /// What makes no sense beside the rest of the file: line, field, reason.
    fn contradiction(&self, before: &[Pool]) -> Option<(u64, &'static str, String)> {
        let (name, select) = (&self.name, &self.select);
        if before.iter().any(|other| other.name == name.value) {
            let message = format!("pool `{}` is there already", name.value);
            return Some((name.referenced.line(), "name", message));
        }
        let prepare = self.prepare.as_ref()?;
        if prepare.value.num_vfs.is_some() && select.value.pf_names.is_empty() {
            let message = "select.pfNames names no PF to make VFs on".to_owned();
            return Some((prepare.referenced.line(), "prepare.numVfs", message));
        }
        if !select.value.drivers.is_empty() && !select.value.drivers.contains(&prepare.value.driver) {
            let message = "once bound to prepare.driver, no VF would be selected any more".to_owned();
            return Some((select.referenced.line(), "select.drivers", message));
        }
        None
    }
}

/// The parser's message on one line, without the place, which stands in front already.
fn message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.split('\n').next().unwrap_or_default();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    // Advice for programs that call the parser, not for the file's author.
    let end = text.find(", set DuplicateKeyPolicy").unwrap_or(end);
    text[..end].to_owned()
}

impl TryFrom<SelectFields> for Select {
    type Error = &'static str;

    fn try_from(fields: SelectFields) -> Result<Self, Self::Error> {
        let SelectFields { pci_addresses, vendors, devices, drivers, pf_names } = fields;
        let select = Self { pci_addresses, vendors, devices, drivers, pf_names };
        // Every VF of the node would be in the pool, and `prepare` would take them all off their drivers.
        if select == Self::default() { Err("no selector is given") } else { Ok(select) }
    }
}

impl<'de> Deserialize<'de> for HexId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_id = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let parsed = u16::from_str_radix(&text, 16).ok().filter(|_| is_id);
        parsed.map(Self).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no PCI id: expected four hex digits, such as 1af4"))
        })
    }
}

impl fmt::Display for HexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

#[cfg(test)]
mod tests;
