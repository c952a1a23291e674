//! Access mode `vfio`: the container drives the whole VF, so wiring it is proving that its doorbell maps.

use doorbell_common::claim::Undo;
use doorbell_common::formats;
use doorbell_common::formats::cni::code;
use doorbell_common::formats::descriptor::{
    self, API_VERSION, ATTACHMENT_FILE, Attachment, Device, IpPrefix, Trial,
};
use doorbell_common::host::Host;
use doorbell_common::kernel::memory;
use doorbell_common::subdevice::{Eligible, SubDevice};
use doorbell_common::trial::Mapped;

use crate::call::Call;
use crate::config::Config;
use crate::failure::{Failure, NOT_ELIGIBLE};
use crate::hold::Hold;

/// Examines the device afresh, and refuses one that is not, by the kernel's word, what its descriptor says. Reads only.
pub fn verify(host: &Host, device: &Device, page: u64) -> Result<Eligible, Failure> {
    let refused = |why: String| {
        Failure::new(NOT_ELIGIBLE, format!("device {} may not be wired", device.id)).with_details(why)
    };
    let found = SubDevice::examine(host, device.pci_address, page)?;
    let eligible = found.eligible(host, device.nodes.way()).map_err(|reasons| refused(reasons.join("; ")))?;
    let group = eligible.isolation.group;
    if group != device.iommu_group {
        return Err(refused(format!(
            "it was advertised in IOMMU group {} and is in group {group}",
            device.iommu_group
        )));
    }
    if eligible.nodes != device.nodes {
        return Err(refused(format!("it was advertised by {} and is at {}", device.nodes, eligible.nodes)));
    }
    let (advertised, now) = (&device.doorbell, eligible.doorbell);
    let advertised = (advertised.region, advertised.offset, advertised.length, advertised.stride);
    if (now.bar, now.offset, now.length, now.stride) != advertised {
        return Err(refused("its doorbell is not where it was when it was advertised".to_owned()));
    }
    Ok(eligible)
}

/// Tells the container of its attachment, and what the trial mapping showed.
pub fn attach(
    host: &Host,
    hold: &mut Hold<'_>,
    mapped: &Mapped,
    call: &Call,
    config: &Config,
    ips: &[IpPrefix],
) -> Result<(), Failure> {
    let attachment = Attachment {
        api_version: API_VERSION.to_owned(),
        interface: call.interface.clone(),
        mac: config.mac.map(|mac| mac.to_string()),
        ips: ips.to_owned(),
        trial: Trial {
            region: mapped.region,
            offset: mapped.hull.start,
            length: mapped.hull.length,
            // A trial takes milliseconds, not the 584,000 years that 64 bits of microseconds hold.
            micros: u64::try_from(mapped.took.as_micros()).unwrap_or(u64::MAX),
        },
        memlock_limit: memory::memlock_limit()
            .map_err(|errno| Failure::new(code::IO, "ask for RLIMIT_MEMLOCK").because(&errno))?,
    };
    let file = format!("{}/{ATTACHMENT_FILE}", descriptor::folder(hold.id()));
    hold.change(Undo::RemoveAttachment, || Ok(host.replace(file, &formats::to_json(&attachment))?))
}
