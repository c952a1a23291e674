//! Making vDPA devices and binding them to a driver of their bus.

use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::kernel::mac::MacAddress;
use doorbell_common::kernel::vdpa::{
    self, BusDriver, ManagementHandle, NewDevice, OnBus, VdpaError, VdpaName,
};
use doorbell_common::subdevice::{self, Child, Parent};
use tracing::{info, warn};

use super::free::{self, Allocated};
use super::made::{Made, Step};
use super::plan::Plan;
use crate::config::{IfUnsupported, MacPolicy, Prepare};
use crate::discovery::Survey;

/// Under which name it is on record that the bus was told to leave new devices alone.
pub(super) const BUS: &str = "vdpa-bus";

/// While it is there, the vDPA bus leaves new devices alone: which driver would take them depends on the order in which
/// modules were loaded.
pub(super) struct Autoprobe<'a> {
    host: &'a Host,
    made: Option<Made>,
}

impl<'a> Autoprobe<'a> {
    /// Switched off where a device is about to be made, on again when this is dropped.
    pub(super) fn off_for<'p>(host: &'a Host, plans: impl Iterator<Item = &'p Plan>) -> Self {
        let mut off = Self { host, made: None };
        let any = plans.into_iter().any(|plan| plan.bus_driver().is_some());
        if any && let Err(error) = off.switch() {
            warn!(error, "vDPA bus not told to leave new devices alone");
        }
        off
    }

    fn switch(&mut self) -> Result<(), String> {
        // Without the module there is no bus, and nothing will be made.
        if !vdpa::autoprobe(self.host).unwrap_or(false) {
            return Ok(());
        }
        let mut made = Made::of(self.host, BUS)?;
        made.will(self.host, Step::BusAutoprobe).map_err(|error| chain(&error))?;
        self.made = Some(made);
        vdpa::set_autoprobe(self.host, false).map_err(|error| chain(&error))
    }
}

impl Drop for Autoprobe<'_> {
    fn drop(&mut self) {
        let Some(made) = &mut self.made else { return };
        let on =
            vdpa::set_autoprobe(self.host, true).and_then(|()| made.undone(self.host, &Step::BusAutoprobe));
        if let Err(error) = on {
            warn!(error = chain(&error), "vDPA bus not told to bind new devices again: the next start does");
        }
    }
}

/// Makes the vDPA devices that are missing on a parent, and binds all of its to the driver that the pool needs.
pub(super) fn make(host: &Host, survey: &Survey, plan: &Plan, allocated: &Allocated) -> Result<(), String> {
    let Some(wanted) = plan.bus_driver() else { return Ok(()) };
    let mut made = Made::of(host, &plan.parent.to_string())?;
    let handle = handle(survey, &plan.parent)?;
    let mut devices = on(host, survey, &plan.parent)?;
    if !plan.parent.takes_several() {
        // A second one would be the first one's again, and nobody could say whose it is.
        subdevice::at_most_one(&devices)?;
    }
    let there: Vec<String> = devices.iter().map(|device| device.name.clone()).collect();
    let names = (0..plan.count()).map(|number| plan.vdpa_name(number));
    for name in names.filter(|name| !there.contains(name)).take(plan.count().saturating_sub(there.len())) {
        let name: VdpaName = name.parse().map_err(|_| format!("{name} is no name of a vDPA device"))?;
        let device = new(host, plan, handle.clone(), name.clone())?;
        made.will(host, Step::Vdpa(name.clone())).map_err(|error| chain(&error))?;
        if let Err(error) = create(host, plan, device) {
            // Whatever has the name is not ours, but where the kernel has kept the request and may yet make it.
            if !matches!(error, VdpaError::Stuck { .. }) {
                made.undone(host, &Step::Vdpa(name)).map_err(|error| chain(&error))?;
            }
            return Err(chain(&error));
        }
        devices.extend(vdpa::find(host, &name).map_err(|error| chain(&error))?);
        info!(pool = %plan.pool, parent = %plan.parent, device = %name, "vDPA device made");
    }
    devices.iter().try_for_each(|device| bind(host, plan, &mut made, device, wanted, allocated))
}

/// Whether every device of a parent that is on another driver than the wanted one may be taken off it, or why not.
pub(super) fn free_for(
    host: &Host,
    survey: &Survey,
    plan: &Plan,
    wanted: BusDriver,
    allocated: &Allocated,
) -> Result<(), String> {
    let elsewhere =
        survey.vdpa_on(&plan.parent).iter().filter(|on| on.on_bus.driver.as_deref() != Some(wanted.name()));
    elsewhere.filter_map(|on| on.on_bus.name.parse().ok()).try_for_each(|name| {
        free::child(host, &plan.parent, &Child::Vdpa { name, virtio_type: None }, allocated)
    })
}

/// Devices on a parent, as they are now: the survey was made before its driver was bound.
fn on(host: &Host, survey: &Survey, parent: &Parent) -> Result<Vec<OnBus>, String> {
    let on = match parent {
        Parent::Vf(address) => {
            vdpa::children_of(host, &address.to_string()).map_err(|error| chain(&error))?
        }
        _ => survey.vdpa_on(parent).iter().map(|on| on.on_bus.clone()).collect(),
    };
    Ok(on)
}

fn handle(survey: &Survey, parent: &Parent) -> Result<ManagementHandle, String> {
    let text = match parent {
        Parent::Vf(address) => return Ok(ManagementHandle::pci(*address)),
        Parent::Sf(address) => {
            let sf = survey.sfs.get(address).ok_or_else(|| format!("sub-function {address} is gone"))?;
            format!("auxiliary/{}", sf.name)
        }
        Parent::Device(name) => name.to_string(),
    };
    text.parse().map_err(|_| format!("{text} is no management device"))
}

/// A device with all that the pool asks for.
fn new(host: &Host, plan: &Plan, management: ManagementHandle, name: VdpaName) -> Result<NewDevice, String> {
    let Prepare { max_vq_pairs, mtu, mac, features, .. } = &plan.prepare;
    let mac = mac.map(|MacPolicy::Derived| derived_mac(host, &name)).transpose()?;
    Ok(NewDevice {
        name,
        management,
        max_vq_pairs: max_vq_pairs.map(std::num::NonZero::get),
        mac,
        mtu: mtu.map(std::num::NonZero::get),
        features: features.map(|features| features.0),
    })
}

/// Makes a device, without what its driver does not take where the pool leaves it at that.
fn create(host: &Host, plan: &Plan, mut device: NewDevice) -> Result<(), VdpaError> {
    match vdpa::create(host, &device) {
        Err(error) if error.is_unsupported() && plan.prepare.if_unsupported == IfUnsupported::Ignore => {
            let dropped = device.leave_out_unsupported(&error);
            if dropped.is_empty() {
                return Err(error);
            }
            let dropped = dropped.join(", ");
            warn!(pool = %plan.pool, device = %device.name, dropped, "its driver does not take these: made without");
            vdpa::create(host, &device)
        }
        made => made,
    }
}

/// machine-id(5).
const MACHINE_ID: &str = "/etc/machine-id";

/// The same at each start, another on each machine: locally administered, unicast.
fn derived_mac(host: &Host, name: &VdpaName) -> Result<MacAddress, String> {
    const NAMESPACE: uuid::Uuid = uuid::uuid!("f3a54d0e-58b6-4a55-9a07-9f1cb7d9c0d4");
    let derived = |why: String| format!("a MAC address is derived from the machine's id, and {why}");
    let machine = host.read_text(MACHINE_ID).map_err(|error| derived(chain(&error)))?;
    if machine.is_empty() {
        return Err(derived(format!("{MACHINE_ID} is empty")));
    }
    let drawn = uuid::Uuid::new_v5(&NAMESPACE, format!("{machine}/{name}").as_bytes());
    let [first, second, third, fourth, fifth, sixth, ..] = *drawn.as_bytes();
    Ok([first & 0xfc | 0x02, second, third, fourth, fifth, sixth].into())
}

fn bind(
    host: &Host,
    plan: &Plan,
    made: &mut Made,
    device: &OnBus,
    wanted: BusDriver,
    allocated: &Allocated,
) -> Result<(), String> {
    if device.driver.as_deref() == Some(wanted.name()) {
        return Ok(());
    }
    let name: VdpaName =
        device.name.parse().map_err(|_| format!("{} is no name of a vDPA device", device.name))?;
    let child = Child::Vdpa { name: name.clone(), virtio_type: None };
    free::child(host, &plan.parent, &child, allocated)?;
    if !made.steps.contains(&Step::Vdpa(name.clone())) {
        let was = device.driver.clone();
        made.will(host, Step::BusDriver { name: name.clone(), was }).map_err(|error| chain(&error))?;
    }
    vdpa::bind(host, &name, wanted).map_err(|error| chain(&error))?;
    info!(pool = %plan.pool, device = %name, driver = %wanted, "vDPA device bound");
    Ok(())
}

/// Back to the driver on which somebody else's device was found.
pub(super) fn give_back(host: &Host, name: &VdpaName, was: Option<&str>) -> Result<(), String> {
    let to = [BusDriver::VhostVdpa, BusDriver::VirtioVdpa].into_iter().find(|to| Some(to.name()) == was);
    let back = match to {
        Some(to) => vdpa::bind(host, name, to),
        None => vdpa::unbind(host, name),
    };
    back.map_err(|error| chain(&error))
}
