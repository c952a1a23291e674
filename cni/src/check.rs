//! CHECK: whether what ADD wired still stands, by its claim and by the result that it gave. Reads only.

use doorbell_common::claim::{self, Claim, Undo};
use doorbell_common::formats::cni::{Interface, PreviousResult, code};
use doorbell_common::formats::descriptor::{self, Attachment};
use doorbell_common::host::Host;
use doorbell_common::kernel::link::{self, Link};
use doorbell_common::kernel::memory;
use doorbell_common::subdevice::{DeviceId, Eligible};

use crate::call::Call;
use crate::config::Config;
use crate::failure::{Failure, NOT_AS_WIRED};
use crate::ipam::Ipam;
use crate::{device, netdev, vf, vm, whose};

/// Holds what stands against the claims of this attachment and against `prevResult`.
pub fn check(host: &Host, call: &Call, config: &Config, stdin: &[u8]) -> Result<(), Failure> {
    let Some(previous) = &config.previous else {
        return Err(Failure::new(code::BAD_CONFIG, "CHECK needs the result of the ADD as prevResult"));
    };
    let unreadable = || Failure::new(code::DECODE, "prevResult can't be read as a result");
    let result = PreviousResult::parse(previous).and_then(|previous| previous.interfaces());
    let result = result.map_err(|error| unreadable().because(&error))?;
    let page = memory::page_size()
        .map_err(|errno| Failure::new(code::IO, "ask for the page size").because(&errno))?;

    let mut claims = Vec::new();
    for id in claim::ids(host)? {
        match claim::read(host, &id)? {
            Some(claim) if claim.holder.is(&call.container_id, &call.interface) => claims.push(claim),
            _ => {}
        }
    }
    all_are_claimed(host, call, config, &claims)?;
    for claim in &claims {
        Attached { host, call, config, claim, result: &result }.check(page)?;
    }
    match &config.ipam {
        Some(name) => Ipam::find(host, name, call, stdin)?.check(),
        None => Ok(()),
    }
}

/// Whether every device that the pod was to have wired is claimed.
fn all_are_claimed(host: &Host, call: &Call, config: &Config, claims: &[Claim]) -> Result<(), Failure> {
    let Some(pod) = &call.pod else { return Ok(()) };
    for device in whose::devices(host, pod, config)? {
        if !claims.iter().any(|claim| claim.id == device.id) {
            return Err(differs(&device.id, "no claim of this sandbox and interface is on it"));
        }
    }
    Ok(())
}

fn differs(id: &DeviceId, what: impl AsRef<str>) -> Failure {
    Failure::new(NOT_AS_WIRED, format!("device {id} is not as it was wired")).with_details(what)
}

/// A device that this attachment claims.
struct Attached<'a> {
    host: &'a Host,
    call: &'a Call,
    config: &'a Config,
    claim: &'a Claim,
    result: &'a [Interface],
}

impl Attached<'_> {
    fn check(&self, page: u64) -> Result<(), Failure> {
        let Self { host, claim, .. } = self;
        if !claim.is_of_this_boot(host)? {
            return Err(self.differs("it was wired before the node was booted"));
        }
        let described = descriptor::read_device(host, &claim.id)?;
        let described = described.ok_or_else(|| self.differs("it is not described any more"))?;
        let device = device::verify(host, &described, page)?;
        let attachment = descriptor::read_attachment(host, &claim.id)?;
        let attachment = attachment.ok_or_else(|| self.differs("its attachment.json is gone"))?;
        for step in &claim.undo {
            match step {
                Undo::RemoveAttachment => {}
                Undo::RemoveDeviceInfo(path) if host.exists(path) => {}
                Undo::RemoveDeviceInfo(path) => return Err(self.differs(format!("{path} is gone"))),
                Undo::Netdev(step) => self.interface(&attachment, step)?,
                Undo::Vf(_) => self.vf(&device)?,
                Undo::Dan(step) => self.interface_in_vm(&attachment, step)?,
            }
        }
        Ok(())
    }

    fn differs(&self, what: impl AsRef<str>) -> Failure {
        differs(&self.claim.id, what)
    }

    /// The interface in the sandbox, against what its container was told and against the result.
    fn interface(&self, attachment: &Attachment, step: &claim::Netdev) -> Result<(), Failure> {
        let name = &step.inside;
        let mut inside = netdev::open(&netdev::sandbox(self.host, &self.call.netns)?)?;
        let link = link::by_name(&mut inside, name)?;
        let link =
            link.ok_or_else(|| self.differs(format!("there is no interface {name} in its sandbox")))?;
        if link.parent != step.device {
            return Err(self.differs(format!("{name} in its sandbox is another device's")));
        }
        if !link.up {
            return Err(self.differs(format!("{name} is down")));
        }
        let mac = link.mac.map(|mac| mac.to_string());
        if mac != attachment.mac {
            return Err(self.differs(format!("{name} has {} and had {}", said(&mac), said(&attachment.mac))));
        }
        let addresses = link::addresses(&mut inside, link.index)?;
        for ip in &attachment.ips {
            if !addresses.contains(&(ip.address, ip.prefix)) {
                return Err(self.differs(format!("{name} has no address {}/{}", ip.address, ip.prefix)));
            }
        }
        self.in_result(&link)
    }

    /// The interface that its VM is to make of it, against what its container was told.
    fn interface_in_vm(&self, attachment: &Attachment, step: &claim::Dan) -> Result<(), Failure> {
        let Attachment { mac, ips, .. } = attachment;
        let differs = vm::differs(self.host, step, &self.call.netns, mac.as_deref(), ips)?;
        differs.map_or(Ok(()), |what| Err(self.differs(what)))
    }

    fn in_result(&self, link: &Link) -> Result<(), Failure> {
        let name = link.name.to_string();
        let here = |interface: &&Interface| interface.name == name && !interface.sandbox.is_empty();
        let Some(interface) = self.result.iter().find(here) else {
            return Err(self.differs(format!("prevResult has no interface {name}")));
        };
        let mac = link.mac.map(|mac| mac.to_string());
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        if let (Some(was), Some(is)) = (&interface.mac, &mac)
            && !same(was, is)
        {
            return Err(self.differs(format!("{name} has address {is}, by prevResult {was}")));
        }
        let wanted = interface.mtu.or(self.config.attributes.mtu).filter(|mtu| *mtu != link.mtu);
        match wanted {
            Some(mtu) => Err(self.differs(format!("{name} has MTU {}, and is to have {mtu}", link.mtu))),
            None => Ok(()),
        }
    }

    /// What the PF holds of the VF, against what is asked for.
    fn vf(&self, device: &Eligible) -> Result<(), Failure> {
        match vf::lacking(self.host, device, &self.config.attributes)? {
            Some(lacking) => Err(self.differs(format!("its PF does not hold {lacking}"))),
            None => Ok(()),
        }
    }
}

fn said(mac: &Option<String>) -> String {
    mac.as_ref().map_or_else(|| "no address".to_owned(), |mac| format!("address {mac}"))
}

#[cfg(test)]
mod tests;
