//! What stands on the parents of a node: vDPA devices and mdevs, whoever made them.

use doorbell_common::error::chain;
use doorbell_common::host::{self, Host};
use doorbell_common::kernel::mdev;
use doorbell_common::kernel::vdpa::{self, OnBus, VdpaDevice, VdpaError};
use doorbell_common::kernel::vfio::Way;
use doorbell_common::subdevice::{
    self, Access, Child, DeviceId, Effective, Eligible, Kind, Parent, Reasons, Subject,
};

use super::{Assignment, Driven, Other, Survey, VdpaOn};

impl Survey {
    /// What sysfs has on the vDPA bus, and what netlink adds: simulators, and of what type devices are.
    pub(super) fn look_for_vdpa(&mut self, host: &Host) -> host::Result<()> {
        let said =
            vdpa::management_devices(host).and_then(|management| Ok((management, vdpa::devices(host)?)));
        let (management, devices) = said.unwrap_or_else(|error| {
            self.unlisted = Some(chain(&error));
            if matches!(error, VdpaError::Stuck { .. }) {
                self.stuck = Some(chain(&error));
            }
            Default::default()
        });
        for device in &management {
            if let (None, Ok(name)) = (device.handle.bus(), device.handle.name().parse()) {
                self.others.insert(name, Other::Simulator(device.clone()));
            }
        }
        self.management = management;
        for on_bus in vdpa::list(host)? {
            let known = devices.iter().find(|device| device.name == on_bus.name);
            if let Some(parent) = self.parent_of(&on_bus, known) {
                let virtio_type = known.and_then(|device| u16::try_from(device.virtio_id).ok());
                self.vdpa.entry(parent).or_default().push(VdpaOn { on_bus, virtio_type });
            }
        }
        Ok(())
    }

    /// sysfs says which function a device stands on; of which simulator it is, only netlink does.
    fn parent_of(&self, on_bus: &OnBus, known: Option<&VdpaDevice>) -> Option<Parent> {
        match &on_bus.parent {
            Some(parent) => match parent.parse() {
                Ok(address) => Some(Parent::Vf(address)),
                Err(_) => self.sfs.values().find(|sf| sf.name == *parent).map(|sf| Parent::Sf(sf.address())),
            },
            None => Some(Parent::Device(known?.management.name().parse().ok()?)),
        }
    }

    pub(super) fn look_for_mdevs(&mut self, host: &Host) -> host::Result<()> {
        let all = mdev::list(host)?;
        for parent in mdev::parents(host)? {
            let Ok(name) = parent.name.parse() else { continue };
            let of_parent = all.iter().filter(|device| device.parent == parent.name);
            let mdevs = of_parent.map(|device| device.uuid.clone()).collect();
            self.others.insert(name, Other::Mdev { parent, mdevs });
        }
        Ok(())
    }

    /// vDPA devices that stand on a parent.
    #[must_use]
    pub fn vdpa_on(&self, parent: &Parent) -> &[VdpaOn] {
        self.vdpa.get(parent).map(Vec::as_slice).unwrap_or_default()
    }

    /// How what stands on a parent is driven: as its pool says, or without one as it stands.
    #[must_use]
    pub fn driven(&self, parent: &Parent, assignment: Option<&Assignment>) -> Driven {
        match assignment {
            Some(assignment) => assignment.driven,
            None => Driven { access: self.as_it_stands(parent), way: Way::default(), in_vm: false },
        }
    }

    fn as_it_stands(&self, parent: &Parent) -> Access {
        let vdpa = self.vdpa_on(parent);
        let on_bus = vdpa.first().and_then(|on| on.on_bus.driver.as_deref());
        match parent {
            _ if on_bus == Some("virtio_vdpa") => Access::VirtioVdpa,
            _ if !vdpa.is_empty() => Access::VhostVdpa,
            Parent::Vf(_) => Access::Vfio,
            Parent::Sf(_) => Access::Netdev,
            Parent::Device(name) => match self.others.get(name) {
                Some(Other::Mdev { .. }) => Access::Mdev,
                _ => Access::VhostVdpa,
            },
        }
    }

    /// What stands on a parent of a pool, as consumers of that pool would drive it.
    #[must_use]
    pub fn subjects(&self, parent: &Parent, access: Access, way: Way) -> Vec<Subject> {
        let subject = |child| Subject { parent: parent.clone(), child, access, way };
        if access.is_vdpa() {
            let named = |on: &VdpaOn| {
                let (name, virtio_type) = (on.on_bus.name.parse().ok()?, on.virtio_type);
                Some(subject(Child::Vdpa { name, virtio_type }))
            };
            return self.vdpa_on(parent).iter().filter_map(named).collect();
        }
        match parent {
            Parent::Device(name) => match self.others.get(name) {
                Some(Other::Mdev { mdevs, .. }) => {
                    mdevs.iter().cloned().map(|uuid| subject(Child::Mdev(uuid))).collect()
                }
                _ => Vec::new(),
            },
            Parent::Vf(_) | Parent::Sf(_) => vec![subject(Child::None)],
        }
    }

    /// The sub-devices on a parent of a pool, each as it may be handed out or with what keeps it from that.
    pub fn sub_devices(
        &self,
        host: &Host,
        parent: &Parent,
        driven: Driven,
        page: u64,
    ) -> Vec<(DeviceId, Result<Eligible, Reasons>)> {
        let Driven { access, way, .. } = driven;
        let subjects = self.subjects(parent, access, way);
        let several: Vec<OnBus> = self.vdpa_on(parent).iter().map(|on| on.on_bus.clone()).collect();
        if !parent.takes_several() && access.is_vdpa() && subjects.len() != 1 {
            let reason =
                subdevice::at_most_one(&several).err().unwrap_or_else(|| "it has no vDPA device".to_owned());
            let id = DeviceId::of(parent, &Child::None);
            return id.into_iter().map(|id| (id, Err(self.lacking(parent, access, &reason)))).collect();
        }
        let examined = subjects.into_iter().filter_map(|subject| {
            let id = DeviceId::of(parent, &subject.child).ok()?;
            let eligible = match parent {
                // Examined already, and its isolation confirmed since.
                Parent::Vf(address) => {
                    let device = &self.vfs.get(address)?.device;
                    device.eligible(host, &subject.child, access, way, page)
                }
                _ => subject.examine(host, page),
            };
            let eligible = eligible.and_then(|eligible| match &eligible.doorbell {
                Err(refusal) if eligible.effective == Effective::Trapped && !driven.puts_up_with(refusal) => {
                    Err(Kind::Doorbell.because(refusal).into())
                }
                _ => Ok(eligible),
            });
            Some((id, eligible))
        });
        examined.collect()
    }

    /// Why nothing on a parent can be handed out, and what would keep it from that besides.
    fn lacking(&self, parent: &Parent, access: Access, reason: &str) -> Reasons {
        let device = parent.vf().and_then(|address| self.vfs.get(&address)).map(|vf| &vf.device);
        let isolation =
            device.filter(|_| access == Access::VhostVdpa).and_then(|vf| vf.isolation.as_ref().err());
        let mut reasons = Reasons::from(Kind::Vdpa.because(reason));
        if let Some(refusal) = isolation {
            reasons.add(&Kind::Isolation.because(refusal).into());
        }
        reasons
    }
}
