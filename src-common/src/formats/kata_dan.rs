//! DAN files of Kata Containers (directly attachable network): the interfaces of a sandbox, for its guest to have.
//!
//! One file a sandbox, `<dan_conf>/<sandbox id>.json`, read once when the VM starts. Where it is there Kata looks at
//! nothing else, so it has to name every interface of the sandbox. The two runtimes of Kata read it apart (in Kata's
//! source `virtcontainers/types/dan.go` and `resource/src/network/dan.rs`), and each leaves out in silence what it does
//! not understand: what can't be said to one is refused here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::cni::is_container_id;
use super::descriptor::IpPrefix;
use crate::kernel::link::{LinkName, Route};
use crate::kernel::mac::MacAddress;
use crate::kernel::pci::PciAddress;

/// Where Kata looks unless it is told otherwise (`dan_conf` in `configuration.toml`).
pub const FOLDER: &str = "/run/kata-containers/dans";

/// `NUD_PERMANENT` (linux/neighbour.h): both runtimes want neighbours of that state alone.
const PERMANENT: u32 = 0x80;
/// `RT_SCOPE_LINK` (linux/rtnetlink.h).
const LINK: u8 = 253;
/// More than any runtime's ids, and short enough to be a file's name with what is put behind it.
const ID_LENGTH: usize = 128;

/// Kata's two runtimes, which read the file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KataRuntime {
    /// The one in Go.
    Go,
    /// The one in Rust, runtime-rs: Kata's own default since 4.0, and the stricter.
    #[default]
    Rs,
}

/// A sandbox by its id: a file's name, and never a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxId(String);

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no sandbox id: 1 to {ID_LENGTH} of A-Z, a-z, 0-9, `_`, `.` and `-`, the first a letter or digit, no `..`"
)]
pub struct NoSandboxId(String);

/// An interface of the guest, made of a VF.
#[derive(Debug, Clone, Copy)]
pub struct Nic<'a> {
    /// Its name in the guest.
    pub name: &'a LinkName,
    /// The VF's MAC address: by it Kata's agent finds the interface in the guest.
    pub mac: MacAddress,
    /// The VF, on the host.
    pub function: PciAddress,
    /// Bytes of its largest packet.
    pub mtu: u32,
    /// Its addresses.
    pub ips: &'a [IpPrefix],
    /// Routes by it.
    pub routes: &'a [Route],
    /// Neighbours that need not be asked for.
    pub neighbors: &'a [Neighbor],
}

/// A neighbour that need not be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbor {
    /// Its IP address.
    pub ip: IpAddr,
    /// Its MAC address.
    pub mac: MacAddress,
}

/// What a dialect has no words for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{dialect} can't be told of the route to {route}: {why}")]
pub struct Unsayable {
    dialect: KataRuntime,
    route: String,
    why: &'static str,
}

/// Why a file is no DAN file.
#[derive(Debug, thiserror::Error)]
pub enum NotDan {
    /// It is no JSON object.
    #[error("it can't be read as one")]
    Json(#[from] serde_json::Error),
    /// It is one without a list of devices.
    #[error("it has no list `devices`")]
    NoDevices,
}

impl FromStr for SandboxId {
    type Err = NoSandboxId;

    fn from_str(text: &str) -> Result<Self, NoSandboxId> {
        let is_good = is_container_id(text) && !text.contains("..") && text.len() <= ID_LENGTH;
        if is_good { Ok(Self(text.to_owned())) } else { Err(NoSandboxId(text.to_owned())) }
    }
}

impl SandboxId {
    /// Its file below the folder of Kata's `dan_conf`.
    #[must_use]
    pub fn file(&self, folder: &str) -> String {
        format!("{folder}/{}.json", self.0)
    }
}

impl Nic<'_> {
    /// Its entry among the file's devices, as that runtime understands it.
    pub fn entry(&self, dialect: KataRuntime) -> Result<Value, Unsayable> {
        let mut routes: Vec<&Route> = self.routes.iter().collect();
        // Kata's agent adds them in this order, and a gateway has to be within reach.
        routes.sort_by_key(|route| route.gateway.is_some());
        let routes = routes.into_iter().map(|route| said(route, dialect)).collect::<Result<Vec<_>, _>>()?;
        let ips: Vec<String> =
            self.ips.iter().map(|IpPrefix { address, prefix }| format!("{address}/{prefix}")).collect();
        let neighbors: Vec<Value> = self.neighbors.iter().map(|neighbor| neighbor.said(dialect)).collect();
        Ok(json!({
            "name": self.name.to_string(),
            GUEST_MAC: self.mac.to_string(),
            "device": { "type": VFIO, PCI_DEVICE_ID: self.function.to_string() },
            "network_info": {
                "interface": { "ip_addresses": ips, "mtu": self.mtu, "ntype": "", "flags": 0 },
                "routes": routes,
                "neighbors": neighbors,
            },
        }))
    }
}

const GUEST_MAC: &str = "guest_mac";
const VFIO: &str = "vfio";
const PCI_DEVICE_ID: &str = "pci_device_id";
const DEVICES: &str = "devices";
const NETNS: &str = "netns";

impl Neighbor {
    fn said(&self, dialect: KataRuntime) -> Value {
        let ip = match (dialect, self.ip) {
            (KataRuntime::Go, ip) => ip.to_string(),
            (KataRuntime::Rs, ip @ IpAddr::V4(_)) => format!("{ip}/32"),
            (KataRuntime::Rs, ip @ IpAddr::V6(_)) => format!("{ip}/128"),
        };
        json!({ "ip_address": ip, "hardware_addr": self.mac.to_string(), "state": PERMANENT, "flags": 0 })
    }
}

fn said(route: &Route, dialect: KataRuntime) -> Result<Value, Unsayable> {
    let Route { destination: (ip, prefix), gateway, priority, mtu, mss, table, scope } = *route;
    let refused = |why| Unsayable { dialect, route: route.to_string(), why };
    if priority.is_some() {
        return Err(refused("it has a priority"));
    }
    if mss.is_some() {
        return Err(refused("it has an MSS of its own"));
    }
    if table.is_some() {
        return Err(refused("it is of a table of its own"));
    }
    if mtu.is_some() && dialect == KataRuntime::Go {
        return Err(refused("it has an MTU of its own"));
    }
    if gateway.is_some_and(|gateway| gateway.is_ipv4() != ip.is_ipv4()) {
        return Err(refused("its gateway is of the other family"));
    }
    let is_default = prefix == 0;
    if is_default && gateway.is_none() && dialect == KataRuntime::Rs {
        return Err(refused("nothing says its family without a gateway"));
    }
    let dest = if is_default { String::new() } else { format!("{ip}/{prefix}") };
    let gateway_text = match (dialect, gateway) {
        (_, Some(gateway)) => gateway.to_string(),
        // The family is that of the gateway, and IPv6 where there is none; the kernel takes this one for none.
        (KataRuntime::Go, None) if ip.is_ipv4() => Ipv4Addr::UNSPECIFIED.to_string(),
        (_, None) => String::new(),
    };
    let scope = scope.unwrap_or(if gateway.is_some() { 0 } else { LINK });
    let mut said = json!({ "dest": dest, "gateway": gateway_text, "source": "", "scope": scope, "flags": 0 });
    if dialect == KataRuntime::Rs {
        said["mtu"] = json!(mtu.unwrap_or_default());
    }
    Ok(said)
}

/// The file with an entry in it: in the place of that of the same name, or behind the others. What others wrote stays.
pub fn with(before: Option<&[u8]>, entry: Value) -> Result<Vec<u8>, NotDan> {
    let mut file = match before {
        Some(text) => serde_json::from_slice(text)?,
        None => Map::from_iter([(NETNS.to_owned(), Value::Null), (DEVICES.to_owned(), json!([]))]),
    };
    let devices = devices(&mut file)?;
    match devices.iter_mut().find(|device| device["name"] == entry["name"]) {
        Some(device) => *device = entry,
        None => devices.push(entry),
    }
    Ok(super::to_json(&file))
}

/// The file without a VF's entry of that name; `None` where nothing is left that it could say.
pub fn without(before: &[u8], name: &LinkName, function: PciAddress) -> Result<Option<Vec<u8>>, NotDan> {
    let mut file: Map<String, Value> = serde_json::from_slice(before)?;
    let devices = devices(&mut file)?;
    devices.retain(|device| !is(device, name, function));
    if devices.is_empty() {
        return Ok(None);
    }
    Ok(Some(super::to_json(&file)))
}

/// What a guest is told of an interface made of a VF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its MAC address.
    pub mac: Option<String>,
    /// Its addresses, with the lengths of their prefixes.
    pub ips: Vec<String>,
}

/// What the file says of a VF by that name, if it says anything.
pub fn told(text: &[u8], name: &LinkName, function: PciAddress) -> Result<Option<Told>, NotDan> {
    let mut file: Map<String, Value> = serde_json::from_slice(text)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let told = |device: &Value| Told {
        mac: text(&device[GUEST_MAC]),
        ips: device["network_info"]["interface"]["ip_addresses"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(text)
            .collect(),
    };
    Ok(devices(&mut file)?.iter().find(|device| is(device, name, function)).map(told))
}

fn is(device: &Value, name: &LinkName, function: PciAddress) -> bool {
    device["name"] == name.to_string() && device["device"][PCI_DEVICE_ID] == function.to_string()
}

fn devices(file: &mut Map<String, Value>) -> Result<&mut Vec<Value>, NotDan> {
    file.get_mut(DEVICES).and_then(Value::as_array_mut).ok_or(NotDan::NoDevices)
}

impl fmt::Display for KataRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Go => "Kata's Go runtime",
            Self::Rs => "Kata's runtime-rs",
        })
    }
}
