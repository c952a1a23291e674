//! The descriptor: what a consumer must know of a sub-device to drive it, as JSON files in one folder a device.
//!
//! On the host the folder is `/run/doorbell/devices/<id>/`; the container sees it read-only at
//! `$DOORBELL_DESCRIPTORS/<pool>/<id>/`. One writer a file: the plugin writes `device.json` ([`Device`]), the CNI
//! writes `attachment.json` ([`Attachment`]) and removes it at DEL. Both are versioned by `apiVersion`.
//!
//! Where the container is in a VM, its `device.json` says what the guest has ([`Device::for_guest`]), and what only the
//! host may know stands in a file beside, which no container sees: `/run/doorbell/vms/<id>.json`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::kata_dan::KataRuntime;
use crate::doorbell::Granularity;
use crate::host::{self, Host, HostError};
use crate::isolation::Class;
use crate::kernel::iommu::GroupId;
use crate::kernel::mdev::Uuid;
use crate::kernel::pci::PciAddress;
use crate::kernel::vdpa::VdpaName;
pub use crate::subdevice::{Access, Effective, Mediation, Nodes, Registers};
use crate::subdevice::{Child, DeviceId, Parent, Subject};

/// Value of `apiVersion` in both files.
pub const API_VERSION: &str = "doorbell.dev/v1";
/// Folder of the descriptors inside a container, and the value of [`ENV`].
pub const CONTAINER_FOLDER: &str = "/run/doorbell";
/// The environment variable that names [`CONTAINER_FOLDER`] to the consumer.
pub const ENV: &str = "DOORBELL_DESCRIPTORS";
/// File that the plugin writes.
pub const DEVICE_FILE: &str = "device.json";
/// File that the CNI writes.
pub const ATTACHMENT_FILE: &str = "attachment.json";

/// Folder of all descriptors on the host.
pub const HOST_FOLDER: &str = "/run/doorbell/devices";

/// Folder of what the host knows of devices that go into VMs.
pub const VM_FOLDER: &str = "/run/doorbell/vms";

/// A device's folder on the host. Its inode is kept for life, because containers have it mounted.
#[must_use]
pub fn folder(id: &DeviceId) -> String {
    format!("{HOST_FOLDER}/{id}")
}

/// Where a container of the pool sees a device's folder.
#[must_use]
pub fn container_folder(pool: &str, id: &DeviceId) -> String {
    format!("{CONTAINER_FOLDER}/{pool}/{id}")
}

/// The device's `device.json` on the host.
#[must_use]
pub fn device_file(id: &DeviceId) -> String {
    format!("{}/{DEVICE_FILE}", folder(id))
}

/// What the host knows of a device that goes into a VM: a [`Device`] too.
#[must_use]
pub fn vm_file(id: &DeviceId) -> String {
    format!("{VM_FOLDER}/{id}.json")
}

/// Ids of all devices that the host knows to go into VMs, sorted.
pub fn vm_ids(host: &Host) -> host::Result<Vec<DeviceId>> {
    let id = |name: &String| name.strip_suffix(".json")?.parse().ok();
    Ok(host.list(VM_FOLDER)?.iter().filter_map(id).collect())
}

/// Ids of all devices with a descriptor folder, sorted.
pub fn ids(host: &Host) -> host::Result<Vec<DeviceId>> {
    Ok(host.list(HOST_FOLDER)?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// What the CNI did for the sandbox that holds a device, if one does.
pub fn read_attachment(host: &Host, id: &DeviceId) -> Result<Option<Attachment>, DescriptorError> {
    let path = format!("{}/{ATTACHMENT_FILE}", folder(id));
    let Some(text) = host.read_text_if_any(&path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|source| DescriptorError::Malformed { path, source })
}

/// Why a descriptor can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorError {
    /// The file can't be read.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The file is no `device.json` that this version understands.
    #[error("{path} is no descriptor of {API_VERSION}")]
    Malformed {
        /// The file.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The file speaks of another device or another version.
    #[error("{path} describes device {id} in {version}")]
    Foreign {
        /// The file.
        path: String,
        /// The id in it.
        id: DeviceId,
        /// The version in it.
        version: String,
    },
}

/// The device as the host has it: by its `device.json`, or where that is a guest's, by the file beside. `None` where
/// there is none.
pub fn read_device(host: &Host, id: &DeviceId) -> Result<Option<Device>, DescriptorError> {
    match read(host, id, device_file(id))? {
        Some(Device { guest: Some(_), .. }) => read(host, id, vm_file(id)),
        device => Ok(device),
    }
}

/// The device as its container sees it, by the folder that [`ENV`] names.
pub fn read_in_container(
    host: &Host,
    folder: &str,
    pool: &str,
    id: &DeviceId,
) -> Result<Option<Device>, DescriptorError> {
    read(host, id, format!("{folder}/{pool}/{id}/{DEVICE_FILE}"))
}

fn read(host: &Host, id: &DeviceId, path: String) -> Result<Option<Device>, DescriptorError> {
    let Some(text) = host.read_text_if_any(&path)? else { return Ok(None) };
    match serde_json::from_str::<Device>(&text) {
        Ok(device) if device.api_version == API_VERSION && device.id == *id => Ok(Some(device)),
        Ok(Device { id, api_version: version, .. }) => Err(DescriptorError::Foreign { path, id, version }),
        Err(source) => Err(DescriptorError::Malformed { path, source }),
    }
}

/// `device.json`: the sub-device as the plugin found and advertised it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// [`API_VERSION`].
    pub api_version: String,
    /// Device id, as the kubelet knows it: for a VF its PCI address.
    pub id: DeviceId,
    /// The pool that advertises it.
    pub pool: String,
    /// Extended resource name, `doorbell.dev/<pool>`.
    pub resource: String,
    /// How the consumer drives it.
    pub access: Access,
    /// Device nodes of this access mode, at the same path on the host and in the container; none for a guest.
    pub nodes: Nodes,
    /// What the sub-device stands on.
    pub parent: Parent,
    /// Name of the vDPA device, in the modes that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vdpa: Option<VdpaName>,
    /// UUID of the mdev, by which a consumer asks its group for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mdev: Option<Uuid>,
    /// The PCI function that does the sub-device's DMA; absent for one of software.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_address: Option<PciAddress>,
    /// The IOMMU group that the device's DMA goes through, its parent's; absent where it goes through none of its own,
    /// and for a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iommu_group: Option<GroupId>,
    /// What confines its DMA, and what shows it.
    pub isolation: Isolation,
    /// Whether the consumer reaches registers beyond the doorbell.
    pub registers: Registers,
    /// Who stands between the consumer and the device's control path.
    pub mediation: Mediation,
    /// How it is rung, and where the doorbell is.
    pub doorbell: Doorbell,
    /// Virtio device type (virtio 1.3, section 5: 1 is a network device); absent where it is no virtio device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtio_type: Option<u16>,
    /// NUMA node of the PCI function, where the platform says one.
    pub numa_node: Option<u32>,
    /// What its consumer must know of memory.
    pub memory: Memory,
    /// What the guest has of it: in the descriptor of a container in a VM, and nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Guest>,
    /// The VM that it goes into: in what the host knows of such a device, and nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<Vm>,
}

/// The VM that a sub-device goes into, as the config says of its pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vm {
    /// Which of Kata's runtimes makes it.
    pub kata: KataRuntime,
    /// The folder where that runtime reads DAN files; absent where it takes no VF by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dan_conf: Option<String>,
}

/// What a VM's guest has of the sub-device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Guest {
    /// Vendor and device id of the PCI function in the guest; absent where it is an mdev, whose type's they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_ids: Option<String>,
    /// The environment variable that has its PCI address in the guest, in the order of the container's devices. Absent
    /// where the runtime puts none there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_address_in: Option<String>,
}

/// What the consumer's rings and buffers cost: memory that a device reads and writes is locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Memory {
    /// Bytes of a page on this host: the grain of every mapping, the doorbell's included.
    pub page_size: u64,
    /// How locked memory is accounted.
    pub locked: Locked,
}

/// How the kernel accounts the memory that a consumer maps for DMA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Locked {
    /// Every mapped byte, huge pages included, counts against RLIMIT_MEMLOCK; beyond it the mapping fails with
    /// ENOMEM, unless the process has CAP_IPC_LOCK. By the group (VFIO type 1) a process counts alone, by the device's
    /// own node (iommufd) together with the other processes of its user.
    MemlockUnlessIpcLock,
    /// Every mapped byte counts against RLIMIT_MEMLOCK, whatever the process may; beyond it the mapping fails with
    /// EFAULT, as every message to a vDPA device's IOTLB does that fails.
    Memlock,
    /// The consumer maps nothing: a kernel's driver has the rings, this host's or a VM's.
    Nothing,
}

/// The isolation class with its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// What confines the device's DMA.
    pub class: Class,
    /// What shows it.
    pub reason: String,
}

/// How the consumer rings, and where the hardware's doorbell lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Doorbell {
    /// `exclusive`: its pages hold nothing else. Otherwise `shared`, `none` or `unverifiable`, and then none is mapped;
    /// or `driver-attested`: only its driver knows the layout.
    pub verdict: String,
    /// What shows it.
    pub reason: String,
    /// How a ring reaches the hardware in this runtime.
    pub effective: Effective,
    /// Why so.
    pub effective_reason: String,
    /// Where it lies in the PCI function, where that is known.
    #[serde(flatten)]
    pub area: Option<Area>,
}

/// Where the doorbell lies. The address of queue `q` is
/// `region base + offset + queue_notify_off(q) * stride` (virtio 1.3, section 4.1.4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Area {
    /// BAR, which is also the VFIO region index (0 to 5).
    pub region: u8,
    /// Bytes from the start of the region.
    pub offset: u32,
    /// Bytes of the notify area.
    pub length: u32,
    /// Bytes between two `queue_notify_off` steps (the `notify_off_multiplier`), 0 where all queues share one.
    pub stride: u32,
    /// Whether one page rings the whole device or one queue.
    pub granularity: Granularity,
}

/// `attachment.json`: what the CNI did for the sandbox that holds the sub-device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// [`API_VERSION`].
    pub api_version: String,
    /// Name of the network interface: `CNI_IFNAME`, or the one that a netdev got beside it in a chain.
    pub interface: String,
    /// MAC address: the netdev's, or the one that is asked for, or that of the VF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// How the device gets into its VM; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plug: Option<Plug>,
    /// Addresses meant for the device, with prefix lengths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpPrefix>,
    /// What was seen at ADD, in the modes that have a node to open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// RLIMIT_MEMLOCK in bytes as the runtime has it, and as its containers inherit it where nothing sets another;
    /// absent where it is unlimited. What it means for this device, `memory.locked` of `device.json` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memlock_limit: Option<u64>,
}

/// How a device gets into its VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plug {
    /// As what.
    pub by: PlugBy,
    /// Why so.
    pub reason: String,
}

/// As what a device gets into its VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlugBy {
    /// As an interface of the sandbox, before any container: the runtime gives it its name, addresses and routes.
    Dan,
    /// As a device of a container: addresses are its consumer's affair.
    Device,
}

/// An IP address with its prefix length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpPrefix {
    /// The address.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
}

/// What the open device proved at ADD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Trial {
    /// The doorbell's pages of a VF were mapped.
    Mapped(Mapped),
    /// A vDPA device was asked, and its doorbells mapped where they are to be.
    Vdpa(Vdpa),
    /// An mdev was attached, or a VF whose doorbell is trapped.
    Attached {
        /// `true`.
        attached: bool,
    },
}

/// The trial mapping of a VF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    /// VFIO region index.
    pub region: u8,
    /// Bytes from the start of the region, page-aligned.
    pub offset: u64,
    /// Bytes mapped: whole pages.
    pub length: u64,
    /// Microseconds from opening the first node to the mapping in place.
    pub micros: u64,
}

/// What a vDPA device said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vdpa {
    /// Virtio device type.
    pub virtio_type: u32,
    /// Queues.
    pub queues: u32,
    /// Queues whose doorbell was mapped, a page each at `queue number * page size` of the node.
    pub doorbells: u32,
    /// Virtio feature bits offered, in hexadecimal: `0x…`, because JSON's numbers end at 53 bits for some readers.
    pub features: String,
    /// The configuration space, in hexadecimal, two digits a byte.
    pub config: String,
    /// Microseconds from opening the node to the last mapping in place.
    pub micros: u64,
}

impl Device {
    /// What a container in a VM is told: nothing by which only the host could find the device.
    #[must_use]
    pub fn for_guest(self, guest: Guest) -> Self {
        let memory = Memory { locked: Locked::Nothing, ..self.memory };
        Self { nodes: Nodes::None {}, iommu_group: None, memory, guest: Some(guest), vm: None, ..self }
    }

    /// What names the sub-device on this host.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let child = match (&self.vdpa, &self.mdev) {
            (Some(name), _) => Child::Vdpa { name: name.clone(), virtio_type: self.virtio_type },
            (None, Some(uuid)) => Child::Mdev(uuid.clone()),
            (None, None) => Child::None,
        };
        Subject { parent: self.parent.clone(), child, access: self.access, way: self.nodes.way() }
    }
}
