//! One set of selectors, as one of ours, with what it says of the devices beyond which they are.

use doorbell_common::kernel::net::LinkType;
use doorbell_common::subdevice::Access;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as Plain, StrDeserializer};

use super::super::{
    AuxType, BaseClass, DriverName, HexId, PfName, PfSelector, RootDevice, Select, VdpaDriver,
};
use super::device_type::DeviceType;
use super::tree::At;

/// PCI base classes of network controllers and of processing accelerators (`SupportedDevices` in `pkg/types`).
const NETWORK: BaseClass = BaseClass(0x02);
const ACCELERATOR: BaseClass = BaseClass(0x12);
/// The one driver that has devices handed out by VFIO, and those of user-space I/O.
const VFIO: &str = "vfio-pci";
const UIO: [&str; 3] = ["uio", "igb_uio", "uio_pci_generic"];

/// Selectors, and how what they select is handed out.
pub(super) struct Set {
    pub(super) select: Select,
    pub(super) access: Access,
    pub(super) vhost_net: bool,
}

/// Reads a set; `None` where something of it is refused.
pub(super) fn read(at: &At<'_>, device_type: DeviceType) -> Option<Set> {
    let refusals = at.refusals();
    let mut fields = at.fields();
    let drivers = fields.take("drivers");
    let mut select = Select {
        vendors: each(fields.take("vendors"), hex_id),
        devices: each(fields.take("devices"), hex_id),
        drivers: each(drivers.clone(), At::parsed),
        ..Select::default()
    };
    if device_type != DeviceType::AuxNetDevice {
        select.pci_addresses = each(fields.take("pciAddresses"), At::parsed).into_iter().collect();
    }
    if device_type == DeviceType::NetDevice {
        select.acpi_indexes = each(fields.take("acpiIndexes"), by_serde);
    }
    let mut vhost_net = false;
    if device_type != DeviceType::Accelerator {
        select.pf_names = each_pf(fields.take("pfNames"), pf_name);
        select.root_devices = each_pf(fields.take("rootDevices"), root_device);
        select.link_types = each(fields.take("linkTypes"), link_type);
        vhost_net = fields.take("needVhostNet").is_some_and(|field| field.bool() == Some(true));
        if let Some(field) = fields.take("isRdma")
            && field.bool() == Some(true)
        {
            field.refuse("pods get no RDMA nodes here: leave the resource with sriov-dp");
        }
    }
    let mut vdpa = None;
    match device_type {
        DeviceType::NetDevice => {
            select.classes = vec![NETWORK];
            for (name, what) in [
                ("ddpProfiles", "packet-processing profiles of NICs"),
                ("pKeys", "partition keys of InfiniBand"),
            ] {
                if let Some(field) = fields.take(name).filter(|field| !field.list().is_empty()) {
                    field
                        .refuse(format!("{what} are not looked at: name the VFs by pfNames or pciAddresses"));
                }
            }
            vdpa = fields.take("vdpaType").and_then(|field| vdpa_type(&field));
            select.vdpa_drivers = vdpa.into_iter().collect();
        }
        DeviceType::Accelerator => select.classes = vec![ACCELERATOR],
        DeviceType::AuxNetDevice => {
            select.aux_types = each(fields.take("auxTypes"), aux_type);
            if select.aux_types.is_empty() && at.refusals() == refusals {
                at.refuse("no `auxTypes` are given, and sriov-dp ends at that: `[\"sf\"]` are sub-functions");
            }
        }
    }
    fields.ignore_rest("it selects nothing among devices of this type, there and here");
    let access = access(at, drivers.as_ref(), &select.drivers, vdpa, device_type);
    (at.refusals() == refusals).then_some(Set { select, access, vhost_net })
}

/// What pods get of a device follows there from the driver that it is found on; here a pool says it.
fn access(
    set: &At<'_>,
    at: Option<&At<'_>>,
    drivers: &[DriverName],
    vdpa: Option<VdpaDriver>,
    device_type: DeviceType,
) -> Access {
    let at = at.unwrap_or(set);
    let by_vfio = drivers.iter().any(|driver| *driver == *VFIO);
    if drivers.iter().any(|driver| UIO.iter().any(|uio| *driver == **uio)) {
        at.refuse("user-space I/O has nothing that confines its DMA, and is not handed out: bind the VFs to vfio-pci");
    } else if by_vfio && drivers.iter().any(|driver| *driver != *VFIO) {
        at.refuse(
            "VFs on vfio-pci are handed out by VFIO and others as network interfaces, and a pool has one access mode: \
             make two resources of it",
        );
    }
    match (device_type, vdpa) {
        (DeviceType::AuxNetDevice, _) => {
            if !drivers.is_empty() {
                at.refuse(
                    "there it is the driver of the NIC, here of the sub-function: leave it out, vendors and devices \
                     name the NIC",
                );
            }
            Access::Netdev
        }
        (DeviceType::NetDevice, Some(driver)) => {
            if by_vfio {
                at.refuse("a VF on vfio-pci has no vDPA device: nothing is selected");
            }
            if driver.serves(Access::VhostVdpa) { Access::VhostVdpa } else { Access::VirtioVdpa }
        }
        (DeviceType::NetDevice, None) if by_vfio => Access::Vfio,
        (DeviceType::NetDevice, None) => {
            if drivers.is_empty() {
                at.note(
                    "no `drivers` are given: VFs are handed out as network interfaces, and those on vfio-pci are not \
                     advertised; for these make a resource with `\"drivers\": [\"vfio-pci\"]`, in front of it",
                );
            }
            Access::Netdev
        }
        (DeviceType::Accelerator, _) => {
            if drivers.is_empty() {
                at.note("no `drivers` are given: accelerators that are not on vfio-pci are not advertised");
            } else if !by_vfio {
                at.refuse("pods get no node of an accelerator on such a driver: only vfio-pci is handed out");
            }
            Access::Vfio
        }
    }
}

/// What is made of each text of a list; of one that is not there, nothing.
fn each<'a, T>(list: Option<At<'a>>, read: impl Fn(&At<'a>, &'a str) -> Option<T>) -> Vec<T> {
    let list = list.map(|list| list.list()).unwrap_or_default();
    list.iter().filter_map(|at| read(at, at.text()?)).collect()
}

/// The same of selectors with a PF in front, of which sriov-dp looks at the first for each PF.
fn each_pf<T>(list: Option<At<'_>>, read: impl Fn(&At<'_>, &str) -> Option<T>) -> Vec<T> {
    let mut known: Vec<String> = Vec::new();
    let mut read_new = |at: &At<'_>, text: &str| {
        let pf = text.split('#').next().unwrap_or_default().to_ascii_lowercase();
        if known.contains(&pf) {
            at.note("it has no effect: of one PF, sriov-dp looks at the first only");
            return None;
        }
        known.push(pf);
        read(at, text)
    };
    let list = list.map(|list| list.list()).unwrap_or_default();
    list.iter().filter_map(|at| read_new(at, at.text()?)).collect()
}

fn by_serde<T: for<'de> Deserialize<'de>>(at: &At<'_>, text: &str) -> Option<T> {
    let text: StrDeserializer<'_, Plain> = text.into_deserializer();
    T::deserialize(text).map_err(|error| at.refuse(error.to_string())).ok()
}

fn hex_id(at: &At<'_>, text: &str) -> Option<HexId> {
    let id = by_serde(at, text)?;
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        at.refuse(format!("sriov-dp compares ids as texts and selects nothing by this one: `{id}` is meant"));
    }
    Some(id)
}

fn pf_name(at: &At<'_>, text: &str) -> Option<PfSelector> {
    let selector: PfSelector = at.parsed(text)?;
    match &selector.pf {
        PfName::Address(_) => at.refuse("an address is no name of a PF: write it into rootDevices"),
        PfName::Netdev(name) if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            at.refuse("sriov-dp compares it without regard to capitals: write it as the kernel does");
        }
        PfName::Netdev(_) => {}
    }
    Some(selector)
}

fn root_device(at: &At<'_>, text: &str) -> Option<RootDevice> {
    at.parsed(&text.to_ascii_lowercase())
}

fn link_type(at: &At<'_>, text: &str) -> Option<LinkType> {
    by_serde(at, text)
}

fn aux_type(at: &At<'_>, text: &str) -> Option<AuxType> {
    if text != "sf" {
        at.refuse(format!("`{text}` are no sub-functions (sf), and there are no others"));
        return None;
    }
    Some(AuxType::Sf)
}

fn vdpa_type(at: &At<'_>) -> Option<VdpaDriver> {
    match at.text()? {
        "" => None,
        "vhost" => {
            at.note(
                "a VF of it is advertised once an attach has shown its isolation, for which the pool needs a `prepare` in \
                 place of `vdpaDrivers`",
            );
            Some(VdpaDriver::VhostVdpa)
        }
        "virtio" => Some(VdpaDriver::VirtioVdpa),
        other => {
            at.refuse(format!("`{other}` is no type of vDPA device: expected vhost or virtio"));
            None
        }
    }
}
