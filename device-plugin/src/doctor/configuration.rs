//! Kata's configuration: one TOML file and the pieces in `config.d` beside it, which its two runtimes have in common, as
//! most keys that matter here.

use std::io::ErrorKind;

use doorbell_common::error::chain;
use doorbell_common::formats::kata_dan::KataRuntime;
use doorbell_common::host::Host;
use serde::Deserialize;
use toml::{Table, Value};

/// Where each runtime looks, by Kata's sources (`kata-types/src/config/default.rs`, `katautils/config-settings.go.in`) and
/// kata-deploy.
const RS: [&str; 3] = [
    "/etc/kata-containers/runtime-rs/configuration.toml",
    "/usr/share/defaults/kata-containers/runtime-rs/configuration.toml",
    "/opt/kata/share/defaults/kata-containers/runtime-rs/configuration.toml",
];
const GO: [&str; 3] = [
    "/etc/kata-containers/configuration.toml",
    "/usr/share/defaults/kata-containers/configuration.toml",
    "/opt/kata/share/defaults/kata-containers/configuration.toml",
];
/// Links on the way to a file; more are a circle.
const LINKS: usize = 8;

/// What matters of it. A key that is left out is what the runtime takes it for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Configuration {
    /// The file.
    pub(super) path: String,
    /// Whose it is.
    pub(super) runtime: KataRuntime,
    /// The hypervisor whose keys follow.
    pub(super) hypervisor: String,
    /// Keys of that hypervisor.
    pub(super) vmm: Vmm,
    /// Keys of the runtime.
    pub(super) own: Own,
}

/// Keys of `[hypervisor.<name>]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Vmm {
    pub(super) cold_plug_vfio: String,
    pub(super) hot_plug_vfio: String,
    pub(super) pcie_root_port: u32,
    pub(super) enable_iommu: bool,
}

/// Keys of `[runtime]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(super) struct Own {
    /// Of runtime-rs alone.
    name: Option<String>,
    hypervisor_name: Option<String>,
    pub(super) vfio_mode: String,
    pub(super) dan_conf: String,
    pub(super) pod_resource_api_sock: String,
}

/// The VMM that runtime-rs takes where none is named.
const DRAGONBALL: &str = "dragonball";
/// What plugs nothing.
pub(super) const NO_PORT: &str = "no-port";

impl Default for Vmm {
    fn default() -> Self {
        let none = || NO_PORT.to_owned();
        Self { cold_plug_vfio: none(), hot_plug_vfio: none(), pcie_root_port: 0, enable_iommu: false }
    }
}

/// The first of the usual files that a runtime finds.
pub(super) fn usual(host: &Host, runtime: KataRuntime) -> Option<&'static str> {
    paths(runtime).into_iter().find(|path| resolved(host, path).is_ok_and(|end| host.exists(end)))
}

/// The usual files of a runtime.
pub(super) fn paths(runtime: KataRuntime) -> [&'static str; 3] {
    match runtime {
        KataRuntime::Rs => RS,
        KataRuntime::Go => GO,
    }
}

/// Reads one, whosever it is, or says why it is none.
pub(super) fn read(host: &Host, path: &str) -> Result<Configuration, String> {
    let resolved = resolved(host, path)?;
    let mut table = table(host, &resolved)?;
    let folder = resolved.rsplit_once('/').map_or("", |(folder, _)| folder);
    let pieces = format!("{folder}/config.d");
    for piece in host.list(&pieces).map_err(|error| chain(&error))? {
        merge(&mut table, self::table(host, &format!("{pieces}/{piece}"))?);
    }
    let part = |name: &str| table.get(name).and_then(Value::as_table).cloned().unwrap_or_default();
    let keys = |error: toml::de::Error| format!("{path}: {}", error.message());
    let own: Own = part("runtime").try_into().map_err(keys)?;
    let vmms = part("hypervisor");
    let runtime = if own.name.is_some() { KataRuntime::Rs } else { KataRuntime::Go };
    let hypervisor = match (runtime, &own.hypervisor_name) {
        (KataRuntime::Rs, named) => named.as_deref().unwrap_or(DRAGONBALL),
        (KataRuntime::Go, _) => vmms.keys().next().map_or("any hypervisor", String::as_str),
    };
    let hypervisor = hypervisor.to_owned();
    if !vmms.contains_key(&hypervisor) {
        return Err(format!("{path} does not configure {hypervisor}"));
    }
    let vmm = vmms.get(&hypervisor).and_then(Value::as_table).cloned().unwrap_or_default();
    let vmm: Vmm = vmm.try_into().map_err(keys)?;
    Ok(Configuration { path: path.to_owned(), runtime, hypervisor, vmm, own })
}

/// Where the links end: the pieces are beside that.
fn resolved(host: &Host, path: &str) -> Result<String, String> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match host.follow(&path) {
            Ok(Some(next)) => path = next.display().to_string(),
            // It is no link.
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(path),
            Ok(None) => return Ok(path),
            Err(error) => return Err(chain(&error)),
        }
    }
    Err(format!("{path} is one of too many links"))
}

fn table(host: &Host, path: &str) -> Result<Table, String> {
    let text = host.read_text(path).map_err(|error| chain(&error))?;
    text.parse().map_err(|error: toml::de::Error| format!("{path}: {}", error.message()))
}

/// As both runtimes do: a key of a piece replaces that of the file, tables are gone through.
fn merge(base: &mut Table, piece: Table) {
    for (key, value) in piece {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(piece)) => merge(base, piece),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}
