//! A sub-device, whatever its access mode: what is verified of it, and what its container is told.

use std::fmt::Write;

use doorbell_common::claim::Undo;
use doorbell_common::formats;
use doorbell_common::formats::cni::code;
use doorbell_common::formats::descriptor::{
    self, API_VERSION, ATTACHMENT_FILE, Attachment, Device, IpPrefix, Mapped, Trial, Vdpa,
};
use doorbell_common::host::Host;
use doorbell_common::kernel::memory;
use doorbell_common::subdevice::Eligible;
use doorbell_common::trial::{Opened, Proof};

use crate::failure::{Failure, NOT_ELIGIBLE};
use crate::hold::Hold;
use crate::vm::Plug;

/// Examines the device afresh, and refuses one that is not, by the kernel's word, what its descriptor says. Reads only.
pub fn verify(host: &Host, device: &Device, page: u64) -> Result<Eligible, Failure> {
    let refused = |why: String| {
        Failure::new(NOT_ELIGIBLE, format!("device {} may not be wired", device.id)).with_details(why)
    };
    let eligible = device.subject().examine(host, page).map_err(|reasons| refused(reasons.to_string()))?;
    if eligible.id != device.id {
        return Err(refused(format!("it is {}", eligible.id)));
    }
    if eligible.isolation.group != device.iommu_group {
        let [was, is] = [device.iommu_group, eligible.isolation.group]
            .map(|group| group.map_or_else(|| "none".to_owned(), |group| group.to_string()));
        return Err(refused(format!("it was advertised in IOMMU group {was} and is in group {is}")));
    }
    if eligible.nodes != device.nodes {
        return Err(refused(format!("it was advertised by {} and is at {}", device.nodes, eligible.nodes)));
    }
    let advertised = device.doorbell.area.as_ref();
    let advertised = advertised.map(|area| (area.region, area.offset, area.length, area.stride));
    let now = eligible.doorbell.as_ref().ok();
    if now.map(|now| (now.bar, now.offset, now.length, now.stride)) != advertised {
        return Err(refused("its doorbell is not where it was when it was advertised".to_owned()));
    }
    if eligible.effective != device.doorbell.effective {
        let (was, is) = (device.doorbell.effective, eligible.effective);
        return Err(refused(format!("it was to be rung by {was} and is by {is}")));
    }
    Ok(eligible)
}

/// Tells the container of its attachment: its interface, what is meant for it, and what the open device showed.
pub fn attach(
    host: &Host,
    hold: &mut Hold<'_>,
    proof: &Proof,
    interface: &str,
    mac: Option<String>,
    plug: Option<&Plug>,
    ips: &[IpPrefix],
) -> Result<(), Failure> {
    let attachment = Attachment {
        api_version: API_VERSION.to_owned(),
        interface: interface.to_owned(),
        mac,
        plug: plug.map(Plug::said),
        ips: ips.to_owned(),
        trial: trial(proof),
        memlock_limit: memory::memlock_limit()
            .map_err(|errno| Failure::new(code::IO, "ask for RLIMIT_MEMLOCK").because(&errno))?,
    };
    let file = format!("{}/{ATTACHMENT_FILE}", descriptor::folder(hold.id()));
    hold.change(Undo::RemoveAttachment, || Ok(host.replace(file, &formats::to_json(&attachment))?))
}

fn trial(proof: &Proof) -> Option<Trial> {
    // A trial takes milliseconds, not the 584,000 years that 64 bits of microseconds hold.
    let micros = |took: std::time::Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    match proof {
        Proof::Mapped(mapped) => Some(Trial::Mapped(Mapped {
            region: mapped.region,
            offset: mapped.hull.start,
            length: mapped.hull.length,
            micros: micros(mapped.took),
        })),
        Proof::Opened(Opened { virtio_type, queues, doorbells, features, config, took }) => {
            Some(Trial::Vdpa(Vdpa {
                virtio_type: *virtio_type,
                queues: *queues,
                doorbells: *doorbells,
                features: format!("{features:#x}"),
                config: hex(config),
                micros: micros(*took),
            }))
        }
        Proof::Attached | Proof::Trapped(_) => Some(Trial::Attached { attached: true }),
        Proof::Nothing => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
