//! The sub-device: the model that everything downstream reads.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::check::Checks;
use crate::doorbell::{self, Doorbell};
use crate::error::chain;
use crate::host::{self, Host};
use crate::isolation::{self, Isolation};
use crate::kernel::iommu::{self, GroupId};
use crate::kernel::pci::{self, ConfigSpace, Function, PciAddress};
use crate::kernel::vfio::{self, Nodes, Way};
use crate::kernel::{sriov, virtio_pci};

/// The kubelet's limit for a device id.
const ID_LENGTH: usize = 63;

/// Id of a sub-device, as the kubelet, CDI and our files know it: for a VF its PCI address.
///
/// It names files, so only what CDI takes as a device name is an id: no slash, alphanumeric at both ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(String);

/// Why a string is no device id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no device id")]
pub struct BadId(String);

/// A VF with its verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubDevice {
    /// What sysfs says of it.
    pub function: Function,
    /// The PF that made it; `None` for a function that is no VF.
    pub pf: Option<PciAddress>,
    /// Its IOMMU group, where it has one.
    pub iommu_group: Option<GroupId>,
    /// Virtio device type; `None` for a function of another kind.
    pub virtio_type: Option<u16>,
    /// Whether a VFIO driver holds it.
    pub on_vfio: bool,
    /// Where its doorbell is, or why it has none to give.
    pub doorbell: Result<Doorbell, doorbell::Refusal>,
    /// What confines it, or why nothing does.
    pub isolation: Result<Isolation, isolation::Refusal>,
}

/// A sub-device that passed every check, with what its consumer and its guards need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eligible {
    /// Its id.
    pub id: DeviceId,
    /// The PCI function.
    pub address: PciAddress,
    /// The PF that made it.
    pub pf: PciAddress,
    /// The VFIO driver that it was on when it was examined.
    pub driver: String,
    /// The nodes by which its consumer drives it.
    pub nodes: Nodes,
    /// NUMA node, where the platform says one.
    pub numa_node: Option<u32>,
    /// Virtio device type.
    pub virtio_type: u16,
    /// What confines it.
    pub isolation: Isolation,
    /// Where its doorbell is.
    pub doorbell: Doorbell,
}

impl SubDevice {
    /// Examines a VF by some fifteen small reads; no register is touched. `page` is the host's page size.
    pub fn examine(host: &Host, address: PciAddress, page: u64) -> host::Result<Self> {
        Self::examine_keeping(host, address, page, &mut Checks::unkept())
    }

    /// [`SubDevice::examine`], each step kept in `checks`.
    pub fn examine_keeping(
        host: &Host,
        address: PciAddress,
        page: u64,
        checks: &mut Checks,
    ) -> host::Result<Self> {
        let folder = pci::folder(address);
        let function = Function::read(host, address)?;
        checks.note("function", format_args!("{folder}/{{vendor,device}}"), || {
            format!("{:04x}:{:04x}", function.vendor, function.device)
        });
        let pf = sriov::pf_of(host, address)?;
        let virtual_function = pf.ok_or("no virtual function");
        // Kept for its place in the list: what follows is looked at either way.
        let _ = checks.step("virtual-function", format_args!("{folder}/physfn"), virtual_function, |pf| {
            format!("of PF {pf}")
        });
        let virtio_type = virtio_pci::device_type(host, &function)?;
        let doorbell = doorbell_of(host, &function, virtio_type, page, &folder, checks);
        let isolation = isolation::examine(host, address, checks);
        let on_vfio = vfio::is_bound(host, address)?;
        // Kept for its place in the list, as above.
        let _ = checks.step(
            "vfio-driver",
            format_args!("{folder}/vfio-dev, {folder}/driver"),
            vfio_driver(&function, on_vfio),
            |driver| (*driver).to_owned(),
        );
        let iommu_group = iommu::group_of(host, address)?;
        Ok(Self { function, pf, iommu_group, virtio_type, on_vfio, doorbell, isolation })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.function.address.into()
    }

    /// The device as it may be handed out by `way`, or everything that keeps it from that, a line each.
    pub fn eligible(&self, host: &Host, way: Way) -> Result<Eligible, Vec<String>> {
        let Self { doorbell: Ok(doorbell), isolation: Ok(isolation), on_vfio: true, .. } = self else {
            return Err(self.refusals());
        };
        let (Some(virtio_type), Some(driver), Some(pf)) = (self.virtio_type, &self.function.driver, self.pf)
        else {
            return Err(self.refusals());
        };
        let nodes = vfio::nodes(host, self.function.address, isolation.group, way);
        Ok(Eligible {
            id: self.id(),
            address: self.function.address,
            pf,
            driver: driver.clone(),
            nodes: nodes.map_err(|error| vec![chain(&error)])?,
            numa_node: self.function.numa_node,
            virtio_type,
            isolation: isolation.clone(),
            doorbell: *doorbell,
        })
    }

    fn refusals(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.pf.is_none() {
            reasons.push("no virtual function".to_owned());
        }
        reasons.extend(vfio_driver(&self.function, self.on_vfio).err());
        reasons.extend(self.isolation.as_ref().err().map(ToString::to_string));
        reasons.extend(self.doorbell.as_ref().err().map(ToString::to_string));
        reasons
    }
}

/// The VFIO driver that holds the function, or what does instead.
fn vfio_driver(function: &Function, on_vfio: bool) -> Result<&str, String> {
    match &function.driver {
        Some(driver) if on_vfio => Ok(driver),
        driver => Err(format!("not on a VFIO driver but on {}", driver.as_deref().unwrap_or("no driver"))),
    }
}

fn doorbell_of(
    host: &Host,
    function: &Function,
    virtio_type: Option<u16>,
    page: u64,
    folder: &str,
    checks: &mut Checks,
) -> Result<Doorbell, doorbell::Refusal> {
    let (vendor, device) = (function.vendor, function.device);
    let is_virtio = virtio_type.ok_or(doorbell::Refusal::NotVirtio { vendor, device });
    let files = format_args!("{folder}/{{vendor,device,subsystem_device}}");
    checks.step("virtio-type", files, is_virtio, |kind| format!("virtio device type {kind}"))?;
    let config = ConfigSpace::read(host, function.address);
    let config = config.map_err(|error| doorbell::Refusal::Unreadable(chain(&error)));
    let config = checks.step("config-space", format_args!("{folder}/config"), config, |config| {
        format!("{} bytes", config.length())
    })?;
    doorbell::examine(&config, &function.bars, page, folder, checks)
}

impl DeviceId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let bytes = text.as_bytes();
        let good = bytes.len() <= ID_LENGTH
            && bytes.iter().all(|byte| inner(*byte))
            && ends(bytes.first().copied())
            && ends(bytes.last().copied());
        if good { Ok(Self(text.to_owned())) } else { Err(BadId(text.to_owned())) }
    }
}

impl TryFrom<String> for DeviceId {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<PciAddress> for DeviceId {
    fn from(address: PciAddress) -> Self {
        Self(address.to_string())
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_no_path() {
        for bad in ["", "..", "../etc", "a/b", ".a", "a.", "a b", "a\n", &"a".repeat(64)] {
            assert_eq!(bad.parse::<DeviceId>(), Err(BadId(bad.to_owned())), "{bad:?}");
        }
        assert!("0000:01:00.1".parse::<DeviceId>().is_ok());
    }
}
