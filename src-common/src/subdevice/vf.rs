//! A VF with its verdicts, and what it can be handed out as.

use std::sync::Arc;

use super::{Access, Child, Effective, Eligible, Kind, Nodes, Parent, Reasons, netdev, vdpa};
use crate::check::Checks;
use crate::doorbell::{self, Doorbell};
use crate::error::chain;
use crate::host::{self, Host};
use crate::isolation::{self, Class, Isolation};
use crate::kernel::iommu::{self, GroupId};
use crate::kernel::pci::{self, Bars, ConfigSpace, Function, PciAddress};
use crate::kernel::vfio::{self, Way};
use crate::kernel::{sriov, virtio_pci};

/// A VF with its verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualFunction {
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

impl VirtualFunction {
    /// Examines a VF by a dozen small reads; no register is touched. `page` is the host's page size.
    pub fn examine(host: &Host, address: PciAddress, page: u64) -> host::Result<Self> {
        Self::examine_keeping(host, address, page, &mut Checks::unkept())
    }

    /// [`VirtualFunction::examine`], of one that a PF has listed as its own.
    pub fn examine_of(host: &Host, address: PciAddress, pf: PciAddress, page: u64) -> host::Result<Self> {
        Self::examine_made_by(host, address, |_| Ok(Some(pf)), page, &mut Checks::unkept())
    }

    /// [`VirtualFunction::examine`], each step kept in `checks`.
    pub fn examine_keeping(
        host: &Host,
        address: PciAddress,
        page: u64,
        checks: &mut Checks,
    ) -> host::Result<Self> {
        Self::examine_made_by(host, address, |address| sriov::pf_of(host, address), page, checks)
    }

    fn examine_made_by(
        host: &Host,
        address: PciAddress,
        pf: impl FnOnce(PciAddress) -> host::Result<Option<PciAddress>>,
        page: u64,
        checks: &mut Checks,
    ) -> host::Result<Self> {
        let folder = pci::folder(address);
        let function = Function::read(host, address)?;
        let bars = Bars::read(host, address)?;
        checks.note("function", format_args!("{folder}/{{vendor,device}}"), || function.ids.to_string());
        let pf = pf(address)?;
        let virtual_function = pf.ok_or("no virtual function");
        // Kept for its place in the list: what follows is looked at either way.
        let _ = checks.step("virtual-function", format_args!("{folder}/physfn"), virtual_function, |pf| {
            format!("of PF {pf}")
        });
        let virtio_type = virtio_pci::device_type(host, &function)?;
        let doorbell = doorbell_of(host, &function, &bars, virtio_type, page, &folder, checks);
        let iommu_group = iommu::group_of(host, address)?;
        let isolation = isolation::examine(host, address, pf, iommu_group, checks);
        let on_vfio = vfio::is_bound(host, address)?;
        Ok(Self { function, pf, iommu_group, virtio_type, on_vfio, doorbell, isolation })
    }

    /// What it, or what stands on it, may be handed out as now, or everything that keeps it from that.
    pub fn eligible(
        &self,
        host: &Host,
        child: &Child,
        access: Access,
        way: Way,
        page: u64,
    ) -> Result<Eligible, Reasons> {
        let eligible = match access {
            Access::Vfio => self.by_vfio(host, way),
            Access::VhostVdpa | Access::VirtioVdpa => vdpa::on_vf(host, self, child, access, page),
            Access::Netdev => self.by_netdev(host),
            Access::Mdev => Err(Kind::Mdev.because("a VF itself is no mdev").into()),
        };
        let no_vf = || Kind::Parent.because("no virtual function");
        match (eligible, self.pf) {
            (eligible, Some(_)) => eligible,
            (Ok(_), None) => Err(no_vf().into()),
            (Err(reasons), None) => Err(reasons.behind(no_vf())),
        }
    }

    fn by_vfio(&self, host: &Host, way: Way) -> Result<Eligible, Reasons> {
        let effective = match &self.doorbell {
            Ok(_) => Ok(Effective::Direct),
            Err(refusal) if refusal.is_for_msix_alone() => Ok(Effective::Trapped),
            Err(refusal) => Err(refusal),
        };
        let (driver, isolation, effective) = match (self.vfio_driver(), &self.isolation, effective) {
            (Ok(driver), Ok(isolation), Ok(effective)) => (driver, isolation, effective),
            (driver, isolation, effective) => {
                let driver = driver.err().map(|reason| Kind::Driver.because(reason));
                let isolation = isolation.as_ref().err().map(|refusal| Kind::Isolation.because(refusal));
                let effective = effective.err().map(|refusal| Kind::Doorbell.because(refusal));
                let reasons = [driver, isolation, effective].into_iter().flatten();
                return Err(Reasons::of(reasons).expect("one of the three is an error"));
            }
        };
        let group = isolation.group.ok_or_else(|| Kind::Isolation.because("it has no IOMMU group"))?;
        let nodes = vfio::nodes(host, self.function.address, group, way);
        Ok(Eligible {
            nodes: Nodes::Vfio(nodes.map_err(|error| Kind::Node.because(chain(&error)))?),
            isolation: isolation.clone(),
            ..self.as_it_is(Access::Vfio, driver, effective)
        })
    }

    /// Its kernel driver keeps rings and registers, so neither doorbell nor group matters to who has the interface.
    fn by_netdev(&self, host: &Host) -> Result<Eligible, Reasons> {
        let parent = Parent::Vf(self.function.address);
        let Some(driver) = &self.function.driver else {
            return Err(Kind::Driver.because("on no driver").into());
        };
        let there = netdev::there(host, &parent, &Child::None);
        there.map_err(|reason| Kind::Interface.because(format!("{reason}: it is on {driver}")))?;
        Ok(self.as_it_is(Access::Netdev, driver, Effective::Kernel))
    }

    /// The function itself, without nodes.
    fn as_it_is(&self, access: Access, driver: &Arc<str>, effective: Effective) -> Eligible {
        let address = self.function.address;
        Eligible {
            id: address.into(),
            parent: Parent::Vf(address),
            child: Child::None,
            access,
            function: Some(address),
            ids: Some(self.function.ids),
            pf: self.pf,
            driver: Some(Arc::clone(driver)),
            nodes: Nodes::None {},
            numa_node: self.function.numa_node,
            virtio_type: self.virtio_type,
            isolation: Isolation { class: Class::KernelMediated, group: self.iommu_group },
            doorbell: self.doorbell.clone(),
            effective,
        }
    }

    /// The isolation class of what it is handed out as by that mode, or none where nothing confines it then.
    #[must_use]
    pub fn class(&self, access: Access) -> Option<Class> {
        let driver = self.function.driver.as_deref();
        match access {
            Access::VirtioVdpa | Access::Netdev => Some(Class::KernelMediated),
            Access::VhostVdpa if driver.is_some_and(vdpa::is_on_device) => Some(Class::OnDevice),
            Access::Vfio | Access::VhostVdpa | Access::Mdev => {
                self.isolation.as_ref().ok().map(|isolation| isolation.class)
            }
        }
    }

    /// The VFIO driver that holds the function, or what does instead.
    pub fn vfio_driver(&self) -> Result<&Arc<str>, String> {
        match &self.function.driver {
            Some(driver) if self.on_vfio => Ok(driver),
            driver => {
                Err(format!("not on a VFIO driver but on {}", driver.as_deref().unwrap_or("no driver")))
            }
        }
    }
}

fn doorbell_of(
    host: &Host,
    function: &Function,
    bars: &Bars,
    virtio_type: Option<u16>,
    page: u64,
    folder: &str,
    checks: &mut Checks,
) -> Result<Doorbell, doorbell::Refusal> {
    let is_virtio = virtio_type.ok_or(doorbell::Refusal::NotVirtio(function.ids));
    let files = format_args!("{folder}/{{vendor,device,subsystem_device}}");
    checks.step("virtio-type", files, is_virtio, |kind| format!("virtio device type {kind}"))?;
    let config = ConfigSpace::read(host, function.address);
    let config = config.map_err(|error| doorbell::Refusal::Unreadable(chain(&error)));
    let config = checks.step("config-space", format_args!("{folder}/config"), config, |config| {
        format!("{} bytes", config.length())
    })?;
    doorbell::examine(&config, bars, page, folder, checks)
}
