//! The config file: which sub-devices form which pool, and what is prepared for them.
//!
//! YAML, `apiVersion: doorbell.dev/v1`, or the `resourceList` of sriov-network-device-plugin as it is. Every field is a type that parses itself, unknown fields are refused, and an
//! error names the file, the line and the field: `pools.yaml:7: pools[0].select.pciAddresses[1]: `01:00` is no …`.

mod info;
mod list;
mod log_level;
mod names;
mod node;
mod pf;
mod place;
mod pool;
mod prepare;
mod resource_list;
mod runtime;
mod schema;
mod select;
mod selection;
mod switch;
mod virtio;
mod yaml;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use self::pool::{Contradiction, PoolFields};

pub use info::AdditionalInfo;
pub use log_level::LogLevel;
pub use names::{DriverName, PoolName, ResourceName, ResourcePrefix};
pub use node::NodePermissions;
pub use pf::{PfName, PfSelector, RootDevice};
pub use pool::{AllocationPolicy, PfLinkDown, Pool};
pub use prepare::{IfUnsupported, MacPolicy, MdevType, Prepare};
pub use resource_list::Remark;
pub use runtime::{Kata, Runtime};
pub use schema::schema;
pub use select::{AcpiIndex, AuxType, BaseClass, DoorbellVerdict, HexId, Select, VdpaDriver};
pub use selection::Selection;
pub use switch::{Cdi, Iommufd, Registration};
pub use virtio::VirtioType;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// First part of every resource name that a pool does not give itself; `doorbell.dev` by default.
    pub resource_prefix: ResourcePrefix,
    /// Whether devices are handed out by CDI names; by default where the node's runtime is seen to take them.
    pub cdi: Cdi,
    /// containerd's config file, absolute, as the plugin sees it below its host root; `None`: where distributions have it.
    pub containerd_config: Option<String>,
    /// How the kubelet comes to know of the pools; by its socket by default.
    pub registration: Registration,
    /// How much is logged; what changes, by default.
    pub log_level: LogLevel,
    /// In order of precedence: a sub-device that two pools select goes to the first. Names are unique.
    pub pools: Vec<Pool>,
}

/// The file as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "apiVersion")]
    _api_version: ApiVersion,
    #[serde(default)]
    resource_prefix: ResourcePrefix,
    #[serde(default)]
    cdi: Cdi,
    /// containerd's config file, absolute, where it is elsewhere than its distribution has it.
    #[serde(default, deserialize_with = "absolute")]
    containerd_config: Option<String>,
    #[serde(default)]
    registration: Registration,
    #[serde(default)]
    log_level: LogLevel,
    /// In order of precedence: a sub-device that several select goes to the first.
    pools: Vec<PoolFields>,
}

/// Versions of the file's shape.
#[derive(Deserialize, JsonSchema)]
enum ApiVersion {
    #[serde(rename = "doorbell.dev/v1")]
    V1,
}

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
    #[error("{file}:{line}: {}{message}", if field.is_empty() { String::new() } else { format!("{field}: ") })]
    Invalid {
        /// The file.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Path of the field: `pools[0].name`; empty where it is the whole document.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// A list of resources that can't be taken over as it is.
    #[error("{file}:{}", told(refused))]
    Unmappable {
        /// The file.
        file: String,
        /// What can't be, in the order of the file.
        refused: Vec<Remark>,
    },
    /// Something else than what is to be converted.
    #[error("{0}: it has no `resourceList`: no config of sriov-network-device-plugin")]
    NoResourceList(String),
}

/// A config as it was read.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What is to be known of a list of resources that was taken over, in the order of the file.
    pub notes: Vec<Remark>,
}

impl Config {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
        let (file, text) = read(path)?;
        Loaded::parse(&file, &text)
    }

    /// Parses the text of a file that errors call `file`.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        Loaded::parse(file, text).map(|loaded| loaded.config)
    }

    /// The same of a file of ours.
    fn parse_ours(file: &str, text: &str) -> Result<Self, ConfigError> {
        let invalid =
            |line, field, message| ConfigError::Invalid { file: file.to_owned(), line, field, message };
        let parsed = serde_saphyr::from_str(text);
        let File { resource_prefix, cdi, containerd_config, registration, log_level, pools: fields, .. } =
            parsed.map_err(|error: serde_saphyr::Error| {
                let (line, field) = place::of(text, &error);
                invalid(line, field, message(&error))
            })?;

        let mut pools: Vec<Pool> = Vec::new();
        for (index, fields) in fields.into_iter().enumerate() {
            let pool = fields.checked(&resource_prefix, &pools, cdi);
            let pool = pool.map_err(|Contradiction { field, message }| {
                let field = format!("pools[{index}].{field}");
                invalid(place::line(text, &field), field, message)
            })?;
            pools.push(pool);
        }
        Ok(Self { resource_prefix, cdi, containerd_config, registration, log_level, pools })
    }

    /// The pool of that name.
    #[must_use]
    pub fn pool(&self, name: &PoolName) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == *name)
    }

    /// Full name of a pool's resource.
    #[must_use]
    pub fn resource(&self, pool: &Pool) -> String {
        pool.resource_below(&self.resource_prefix)
    }

    /// The environment variable that has the ids of a container's devices from that pool. Who gives the resource's whole
    /// name has pods that know the variable, and sriov-network-device-plugin leaves dashes in it.
    #[must_use]
    pub fn variable(&self, pool: &Pool) -> String {
        let marks: &[char] = if pool.resource.is_some() { &['.', '/'] } else { &['.', '/', '-'] };
        format!("PCIDEVICE_{}", self.resource(pool).to_uppercase().replace(marks, "_"))
    }
}

impl Loaded {
    /// Parses the text of a file that errors call `file`.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        if resource_list::is_one(text) {
            return Self::converted(file, text, None);
        }
        Ok(Self { config: Config::parse_ours(file, text)?, notes: Vec::new() })
    }

    /// Reads a file with a list of resources. `prefix` is that of resources which give none.
    pub fn convert(path: &Path, prefix: Option<&ResourcePrefix>) -> Result<Self, ConfigError> {
        let (file, text) = read(path)?;
        if !resource_list::is_one(&text) {
            return Err(ConfigError::NoResourceList(file));
        }
        Self::converted(&file, &text, prefix)
    }

    fn converted(file: &str, text: &str, prefix: Option<&ResourcePrefix>) -> Result<Self, ConfigError> {
        resource_list::read(text, prefix)
            .map_err(|refused| ConfigError::Unmappable { file: file.to_owned(), refused })
    }
}

fn read(path: &Path) -> Result<(String, String), ConfigError> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((file, text)),
        Err(source) => Err(ConfigError::Unreadable { file, source }),
    }
}

/// The first on one line, and how many there are.
fn told(refused: &[Remark]) -> String {
    let first = refused.first().map(ToString::to_string).unwrap_or_default();
    match refused.len() {
        0 | 1 => first,
        more => format!("{first} (and {} more: `convert` names them)", more - 1),
    }
}

/// A path from the root on; the plugin's working folder means nothing to who writes the file.
fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let path = Option::<String>::deserialize(deserializer)?;
    match path {
        Some(path) if !path.starts_with('/') => {
            Err(de::Error::custom(format!("`{path}` is no absolute path")))
        }
        path => Ok(path),
    }
}

/// The parser's message on one line, without the place, which stands in front already.
pub(crate) fn message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.split('\n').next().unwrap_or_default();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    // Advice for programs that call the parser, not for the file's author.
    let end = text.find(", set DuplicateKeyPolicy").unwrap_or(end);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests;
