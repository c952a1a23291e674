//! PCI functions as sysfs shows them: identity, driver, BARs, configuration space.

mod address;
mod bar;
mod bind;
mod config;

pub use address::{BadAddress, PciAddress};
pub use bar::{Bar, BarKind, Bars};
pub use bind::{BindError, bind, give_back, is_loaded, unbind_to_default};
pub use config::{Capability, CapabilityError, ConfigSpace};

use std::fmt;
use std::sync::Arc;

use crate::host::{self, Host};

const DEVICES: &str = "/sys/bus/pci/devices";

/// Folder of a function in sysfs.
#[must_use]
pub fn folder(address: PciAddress) -> String {
    format!("{DEVICES}/{address}")
}

/// Addresses of all functions, in bus order.
pub fn functions(host: &Host) -> host::Result<Vec<PciAddress>> {
    let mut addresses: Vec<PciAddress> =
        host.list(DEVICES)?.iter().filter_map(|name| name.parse().ok()).collect();
    addresses.sort();
    Ok(addresses)
}

/// Vendor and device id of a function, written as lspci(8) does: `1af4:1041`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// Vendor.
    pub vendor: u16,
    /// Device of that vendor.
    pub device: u16,
}

/// What sysfs says of a function, apart from its configuration space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Where it is.
    pub address: PciAddress,
    /// From the files: a VF's configuration space reads 0xffff there (PCIe 6.0, 9.3.4.1.1).
    pub ids: Ids,
    /// Name of the bound driver.
    pub driver: Option<Arc<str>>,
    /// NUMA node, where the platform says one.
    pub numa_node: Option<u32>,
}

impl Function {
    /// Reads four small files of the function's folder.
    pub fn read(host: &Host, address: PciAddress) -> host::Result<Self> {
        let folder = folder(address);
        let text = |name: &str| host.attribute(format!("{folder}/{name}"));
        Ok(Self {
            address,
            ids: Ids { vendor: hex(&text("vendor")?), device: hex(&text("device")?) },
            driver: driver(host, address)?.map(Arc::from),
            // -1 where the platform says none.
            numa_node: host
                .attribute_if_any(format!("{folder}/numa_node"))?
                .and_then(|node| node.parse().ok()),
        })
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

/// The driver that a function is bound to now.
pub fn driver(host: &Host, address: PciAddress) -> host::Result<Option<String>> {
    host.link_name(format!("{}/driver", folder(address)))
}

/// The number that firmware gives a function (`_DSM` of the PCI Firmware Specification 3.1, 4.6.7); `None` where it
/// gives none, as for most VFs.
pub fn acpi_index(host: &Host, address: PciAddress) -> host::Result<Option<u64>> {
    let index = host.attribute_if_any(format!("{}/acpi_index", folder(address)))?;
    Ok(index.and_then(|index| index.parse().ok()))
}

/// Class code: base class, subclass, programming interface.
pub fn class(host: &Host, address: PciAddress) -> host::Result<u32> {
    Ok(hex(&host.attribute(format!("{}/class", folder(address)))?))
}

/// Subsystem device id.
pub fn subsystem_device(host: &Host, address: PciAddress) -> host::Result<u16> {
    Ok(hex(&host.attribute(format!("{}/subsystem_device", folder(address)))?))
}

/// The kernel writes these files as `0x%04x`; a value that is none of that reads as the type's default, which no
/// virtio function has.
fn hex<T: TryFrom<u32> + Default>(text: &str) -> T {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u32::from_str_radix(digits, 16).ok().and_then(|number| T::try_from(number).ok()).unwrap_or_default()
}
