//! Access mode `vfio`: the container drives the whole VF, so wiring it is proving that its doorbell maps.

use doorbell_common::claim::Undo;
use doorbell_common::formats::cni::NetConf;
use doorbell_common::formats::descriptor::{self, API_VERSION, ATTACHMENT_FILE, Attachment, Device, Trial};
use doorbell_common::host::Host;
use doorbell_common::kernel::pci::Bar;
use doorbell_common::subdevice::{DeviceId, Eligible, SubDevice};
use doorbell_common::trial::{self, Mapped};

use crate::call::Call;
use crate::failure::{Failure, NOT_ELIGIBLE};
use crate::hold::Hold;

/// A device that is, now and by the kernel's word, what its descriptor says.
#[derive(Debug)]
pub struct Verified {
    device: Eligible,
    bar: Bar,
}

/// Examines the device afresh and compares with what was advertised. Reads only.
pub fn verify(host: &Host, device: &Device, page: u64) -> Result<Verified, Failure> {
    let refused = |why: String| {
        Failure::new(NOT_ELIGIBLE, format!("device {} may not be wired", device.id)).with_details(why)
    };

    let found = SubDevice::examine(host, device.pci_address, page)?;
    let eligible = found.eligible().map_err(|reasons| refused(reasons.join("; ")))?;
    let group = eligible.isolation.group;
    if group != device.iommu_group {
        return Err(refused(format!(
            "it was advertised in IOMMU group {} and is in group {group}",
            device.iommu_group
        )));
    }
    let advertised = &device.doorbell;
    let now = eligible.doorbell;
    if (now.bar, now.offset, now.length, now.stride)
        != (advertised.region, advertised.offset, advertised.length, advertised.stride)
    {
        return Err(refused("its doorbell is not where it was when it was advertised".to_owned()));
    }
    match found.function.bars.get(now.bar) {
        Some(bar) => Ok(Verified { device: eligible, bar }),
        None => Err(refused(format!("it has no BAR {}", now.bar))),
    }
}

/// Proves the doorbell by a trial mapping and tells the container of it.
pub fn wire(
    host: &Host,
    hold: &mut Hold<'_>,
    verified: &Verified,
    call: &Call,
    conf: &NetConf,
) -> Result<(), Failure> {
    let Verified { device, bar } = verified;
    let mapped = trial::map_doorbell(host, device.address, device.isolation.group, &device.doorbell, *bar)?;
    let attachment = Attachment {
        api_version: API_VERSION.to_owned(),
        interface: call.interface.clone(),
        mac: conf.runtime_config.mac.clone(),
        ips: Vec::new(),
        trial: told(device.doorbell.bar, &mapped),
    };
    let file = format!("{}/{ATTACHMENT_FILE}", descriptor::folder(&device.id));
    hold.change(Undo::RemoveAttachment, || Ok(host.replace(file, &descriptor::to_json(&attachment))?))
}

fn told(region: u8, mapped: &Mapped) -> Trial {
    Trial {
        region,
        offset: mapped.hull.start,
        length: mapped.hull.length,
        // A trial takes milliseconds, not the 584,000 years that 64 bits of microseconds hold.
        micros: u64::try_from(mapped.took.as_micros()).unwrap_or(u64::MAX),
    }
}

impl Verified {
    /// The device's id.
    pub fn id(&self) -> &DeviceId {
        &self.device.id
    }
}
