//! What a PF holds of the device's VF: set for an attachment, and given back.
//!
//! By rtnetlink through the PF's own interface and by the VF's number, so that the kernel never lists the VFs of the
//! whole node. There is one list a PF to read from, and with many VFs the kernel fails to make it: what can't be read is
//! taken for what a VF is that nobody has touched.

use doorbell_common::claim::{self, Addressed, Undo};
use doorbell_common::formats::cni::code;
use doorbell_common::host::Host;
use doorbell_common::kernel::link::vf::{
    self, Attribute, LinkState, Rate, VfAttributes, VfChange, VfError, Vlan,
};
use doorbell_common::kernel::link::{self, Link};
use doorbell_common::kernel::mac::MacAddress;
use doorbell_common::kernel::netlink::Netlink;
use doorbell_common::kernel::pci::{self, PciAddress};
use doorbell_common::kernel::{net, sriov};
use doorbell_common::subdevice::Eligible;
use nix::errno::Errno;

use crate::attributes::Attributes;
use crate::failure::{Failure, VF_REFUSED};
use crate::hold::Hold;
use crate::netdev::{self, Found};

/// The address of a VF that its PF has given none.
const NO_MAC: [u8; 6] = [0; 6];

/// What a PF holds of a VF that nobody has touched, in the kernel's drivers.
fn untouched() -> VfAttributes {
    VfAttributes {
        mac: NO_MAC.into(),
        vlan: Vlan::default(),
        rate: Rate::default(),
        spoof_check: Some(true),
        trust: Some(false),
        link_state: LinkState::Auto,
    }
}

/// Sets what is asked of the device through its PF; `found` is its own interface, where it has one. Gives the MAC
/// address that the PF holds now, where one is asked for and that PF holds any.
///
/// A PF whose driver holds nothing of its VFs (virtio's) is no obstacle to an address: it is set on the interface, or by
/// who drives the device. Nor is it to what holds of its VFs anyway, as that they are in no VLAN. All else is refused
/// there, by name.
pub fn set(
    host: &Host,
    hold: &mut Hold<'_>,
    device: &Eligible,
    asked: &Attributes,
    found: Option<&Found>,
) -> Result<Option<MacAddress>, Failure> {
    let mut change = asked.change();
    let (Some(pf), Some(address)) = (device.pf, device.parent.vf()) else { return Ok(None) };
    if change == VfChange::default() {
        return Ok(None);
    }
    let index = index(host, pf, address)?;
    let mut netlink = netdev::open(&netdev::own(host)?)?;
    let (link, said) = ask(host, &mut netlink, pf, index)?;
    let before = match said {
        Ok(before) => {
            change = news(&change, &before);
            before
        }
        Err(VfError::TooMany { .. } | VfError::NotListed { .. }) => untouched(),
        Err(VfError::NoList { .. }) => {
            // Nobody checks what such a VF sends.
            let unheld = VfAttributes { spoof_check: None, ..untouched() };
            change.mac = None;
            // A PF in another network namespace may hold what it likes.
            if link.is_some() || !net::has_interface(host, &pci::folder(pf))? {
                change = news(&change, &unheld);
            }
            unheld
        }
        Err(error) => return Err(error.into()),
    };
    if change == VfChange::default() {
        return Ok(None);
    }
    let Some(link) = link else { return Err(unreached(host, pf, index, asked.keys())) };
    let before = VfAttributes {
        spoof_check: before.spoof_check.or(untouched().spoof_check),
        trust: before.trust.or(untouched().trust),
        ..before
    };
    let interface = found.filter(|_| change.mac.is_some()).and_then(|found| {
        let mac = found.link.mac?;
        Some(Addressed { home: found.home.clone(), mac })
    });
    let was = change.back_to(&before);
    let step = |was: VfChange| Undo::Vf(claim::Vf { pf, index, was, interface: interface.clone() });
    let outcome = hold.change(step(was.clone()), || Ok(vf::set(&mut netlink, link.index, index, &change)))?;
    if let Err(error) = outcome {
        // What it refuses it may refuse to be given back as well, and it is as it was.
        if let VfError::Refused { attribute, .. } = &error {
            hold.amend(step(was.before(*attribute)))?;
        }
        return Err(error.into());
    }
    Ok(change.mac)
}

/// What is asked of the device and its PF does not hold, by the keys of the configuration; `None` where it holds all, or
/// nothing can be read of it.
pub fn lacking(host: &Host, device: &Eligible, asked: &Attributes) -> Result<Option<String>, Failure> {
    let change = asked.change();
    let (Some(pf), Some(address)) = (device.pf, device.parent.vf()) else { return Ok(None) };
    let mut netlink = netdev::open(&netdev::own(host)?)?;
    let (_, said) = ask(host, &mut netlink, pf, index(host, pf, address)?)?;
    let Ok(now) = said else { return Ok(None) };
    let VfChange { mac, vlan, rate, spoof_check, trust, link_state } = news(&change, &now);
    let lacking = [
        ("mac", mac.is_some_and(|mac| mac != now.mac)),
        ("vlan", vlan.is_some()),
        ("min_tx_rate, max_tx_rate", rate.is_some()),
        ("spoofchk", spoof_check.is_some()),
        ("trust", trust.is_some()),
        ("link_state", link_state.is_some()),
    ];
    let lacking: Vec<&str> = lacking.into_iter().filter(|(_, lacks)| *lacks).map(|(key, _)| key).collect();
    Ok((!lacking.is_empty()).then(|| lacking.join(", ")))
}

/// Gives a VF back what its PF held of it, and its interface the address that it had then. What can be given back is,
/// whatever fails; fine where the VF is gone.
pub fn restore(host: &Host, step: &claim::Vf) -> Result<(), Failure> {
    let claim::Vf { pf, index, was, interface } = step;
    if !sriov::vfs(host, *pf)?.iter().any(|(number, _)| number == index) {
        return Ok(());
    }
    let mut netlink = netdev::open(&netdev::own(host)?)?;
    let (Some(link), _) = ask(host, &mut netlink, *pf, *index)? else {
        return Err(unreached(host, *pf, *index, &[]));
    };
    let mut failed = None;
    for part in parts(was) {
        match vf::set(&mut netlink, link.index, *index, &part) {
            // A driver without such a thing has not changed it either: an ADD was killed when it was refused.
            Err(VfError::Refused { source: Errno::EOPNOTSUPP, .. }) | Ok(()) => {}
            // Some drivers take an address and never none: it stays, for the next attachment to replace (be2net).
            Err(VfError::Refused { attribute: Attribute::Mac, source: Errno::EINVAL, .. })
                if part.mac == Some(NO_MAC.into()) => {}
            Err(error) => failed = failed.or(Some(Failure::from(error))),
        }
    }
    if let Some(failed) = failed {
        return Err(failed);
    }
    interface.as_ref().map_or(Ok(()), |interface| netdev::readdress(host, &mut netlink, interface))
}

/// The link of a PF that holds something of its VFs, with what it says of one; or else any link of it, which says
/// nothing of VFs, as does a PF without a link on the host.
///
/// In switchdev mode a PF's folder shows the representors of its VFs beside its own interface.
fn ask(
    host: &Host,
    netlink: &mut Netlink,
    pf: PciAddress,
    index: u32,
) -> Result<(Option<Link>, Result<VfAttributes, VfError>), Failure> {
    let mut silent = None;
    for name in net::interfaces(host, &pci::folder(pf))? {
        let Ok(name) = name.parse() else { continue };
        let Some(link) = link::by_name(netlink, &name)? else { continue };
        match vf::read(netlink, link.index, index) {
            Err(VfError::NoList { .. }) => silent = silent.or(Some(link)),
            said => return Ok((Some(link), said)),
        }
    }
    Ok((silent, Err(VfError::NoList { pf: pf.to_string() })))
}

fn index(host: &Host, pf: PciAddress, vf: PciAddress) -> Result<u32, Failure> {
    let vfs = sriov::vfs(host, pf)?;
    let found = vfs.iter().find(|(_, address)| *address == vf).map(|(index, _)| *index);
    found.ok_or_else(|| Failure::new(VF_REFUSED, format!("PF {pf} does not list its VF {vf}")))
}

/// Nobody to set a VF by: its PF's interface is in another network namespace, or it has none.
fn unreached(host: &Host, pf: PciAddress, index: u32, keys: &[&str]) -> Failure {
    let elsewhere = net::has_interface(host, &pci::folder(pf)).unwrap_or(true);
    let (code, where_to) = if elsewhere { (code::TRY_AGAIN, " on the host") } else { (VF_REFUSED, "") };
    let msg = format!("PF {pf} has no network interface{where_to} by which its VF {index} could be set");
    let failure = Failure::new(code, msg);
    if keys.is_empty() { failure } else { failure.with_details(format!("asked for: {}", keys.join(", "))) }
}

/// The part of a change that is not so already. An address is one always: what the PF's list shows may be of the VF's
/// own choice, which it may change.
fn news(change: &VfChange, before: &VfAttributes) -> VfChange {
    VfChange {
        mac: change.mac,
        vlan: change.vlan.filter(|vlan| *vlan != before.vlan),
        rate: change.rate.filter(|rate| *rate != before.rate),
        spoof_check: change.spoof_check.filter(|on| Some(*on) != before.spoof_check),
        trust: change.trust.filter(|on| Some(*on) != before.trust),
        link_state: change.link_state.filter(|state| *state != before.link_state),
    }
}

/// A change for each attribute of one.
fn parts(change: &VfChange) -> [VfChange; 6] {
    let &VfChange { mac, vlan, rate, spoof_check, trust, link_state } = change;
    let none = VfChange::default;
    [
        VfChange { mac, ..none() },
        VfChange { vlan, ..none() },
        VfChange { rate, ..none() },
        VfChange { spoof_check, ..none() },
        VfChange { trust, ..none() },
        VfChange { link_state, ..none() },
    ]
}

#[cfg(test)]
mod tests;
