//! Access modes `netdev` and `virtio-vdpa`: the device's network interface goes into the pod, and comes back.
//!
//! On the host sysfs says which interface is the device's. In a pod, where it may have any name, the device below it
//! tells. The way back is `netdev/back.rs`.

mod back;

use std::thread;
use std::time::{Duration, Instant};

use doorbell_common::claim::{Addressed, Netdev, Undo};
use doorbell_common::formats::cni::code;
use doorbell_common::formats::descriptor::IpPrefix;
use doorbell_common::host::Host;
use doorbell_common::kernel::link::{self, Link, LinkChange, LinkError, LinkName, Route};
use doorbell_common::kernel::mac::MacAddress;
use doorbell_common::kernel::net;
use doorbell_common::kernel::netlink::{Netlink, protocols};
use doorbell_common::kernel::netns::Netns;
use doorbell_common::subdevice::{self, Eligible};

use crate::failure::{Failure, INTERFACE_FAILED, NOT_ELIGIBLE};
use crate::hold::Hold;

pub use back::bring_back;

/// The network namespace that runtimes run us in: the host's.
const OWN: &str = "/proc/self/ns/net";

/// Of interfaces beside the one that a chain is about: `doorbell0`, `doorbell1`, …
const BESIDE: &str = "doorbell";

/// Between an address that a PF gives and its VF's driver that has it lies a reset of the VF, which takes some 100 ms.
const ADDRESSED_WITHIN: Duration = Duration::from_secs(2);
const ADDRESS_PAUSE: Duration = Duration::from_millis(50);

/// A device's interface, on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The folder in sysfs below which it shows.
    pub home: String,
    /// As it is.
    pub link: Link,
}

/// What an interface is to be in the pod.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its name; `None` for the first that is free beside those of the plugins before us.
    pub name: Option<&'a LinkName>,
    /// Its MAC address.
    pub mac: Option<MacAddress>,
    /// Whether that is what the PF gave it.
    pub by_pf: bool,
    /// Bytes of its largest packet.
    pub mtu: Option<u32>,
    /// Its addresses.
    pub ips: &'a [IpPrefix],
    /// Routes by it.
    pub routes: &'a [Route],
}

/// The interface of a device; `None` in the modes that give none.
pub fn find(host: &Host, device: &Eligible) -> Result<Option<Found>, Failure> {
    if !device.access.is_netdev() {
        return Ok(None);
    }
    let home = subdevice::interface_home(host, &device.parent, &device.child).map_err(|reason| {
        Failure::new(NOT_ELIGIBLE, format!("device {} may not be wired", device.id)).with_details(reason)
    })?;
    match at(host, &mut open(&own(host)?)?, &home)? {
        Some(link) => Ok(Some(Found { home, link })),
        None => {
            let msg = format!("the network interface of device {} is not on the host", device.id);
            Err(Failure::new(code::TRY_AGAIN, msg).with_details(
                "it is in another network namespace, or on its way back from that of a pod that ended",
            ))
        }
    }
}

/// The pod's namespace, which has to stand.
pub fn sandbox(host: &Host, netns: &str) -> Result<Netns, Failure> {
    let none = || Failure::new(code::BAD_ENVIRONMENT, format!("CNI_NETNS {netns} is not to be had"));
    Netns::at(host, netns).map_err(|error| none().because(&error))
}

/// Moves an interface into the pod and makes it what it is to be there. Gives it as it is then.
pub fn move_in(
    host: &Host,
    hold: &mut Hold<'_>,
    found: &Found,
    pod: &Netns,
    wanted: &Wanted<'_>,
) -> Result<Link, Failure> {
    let own = own(host)?;
    let mut inside = open(pod)?;
    let name = match wanted.name {
        Some(name) => name.clone(),
        None => free(&mut inside, BESIDE, 0)?,
    };
    let Found { home, link } = found;
    let step = Netdev {
        name: link.name.clone(),
        inside: name.clone(),
        mac: link.mac.filter(|_| !wanted.by_pf),
        mtu: link.mtu,
        up: link.up,
        device: link.parent.clone(),
        home: home.clone(),
    };
    hold.change(Undo::Netdev(step), || {
        let index = link::move_to(&own, link.index, pod, &name)?.index;
        make(&mut inside, index, wanted)?;
        let made = link::by_index(&mut inside, index)?;
        made.ok_or_else(|| Failure::from(LinkError::Absent(format!("{name} in {}", pod.path().display()))))
    })
}

fn make(netlink: &mut Netlink, index: u32, wanted: &Wanted<'_>) -> Result<(), Failure> {
    if let Some(mac) = wanted.mac {
        address(netlink, index, mac)?;
    }
    link::set(netlink, index, &LinkChange { mtu: wanted.mtu, up: Some(true), ..Default::default() })?;
    for ip in wanted.ips {
        link::add_address(netlink, index, (ip.address, ip.prefix))?;
    }
    for route in wanted.routes {
        link::add_route(netlink, index, route)?;
    }
    Ok(())
}

/// Gives an interface on the host back the address that it had before its PF gave it another; fine where it is gone.
pub fn readdress(host: &Host, netlink: &mut Netlink, interface: &Addressed) -> Result<(), Failure> {
    let Some(link) = at(host, netlink, &interface.home)? else { return Ok(()) };
    if link.mac == Some(interface.mac) {
        return Ok(());
    }
    switch(netlink, link.index, false)?;
    let addressed = address(netlink, link.index, interface.mac);
    switch(netlink, link.index, link.up)?;
    addressed
}

/// Has an interface that is down have an address, and leaves it down.
///
/// Where the PF gave that address to its VF, the VF's driver may refuse another and not know of this one yet. It learns
/// of it when it resets the VF: some do by themselves, a moment later (iavf), some when the interface goes down (igbvf).
fn address(netlink: &mut Netlink, index: u32, mac: MacAddress) -> Result<(), Failure> {
    let deadline = Instant::now() + ADDRESSED_WITHIN;
    while !has(netlink, index, mac)? {
        let said = link::set(netlink, index, &LinkChange { mac: Some(mac), ..Default::default() });
        if has(netlink, index, mac)? {
            break;
        }
        if Instant::now() >= deadline {
            said?;
            let msg = format!("the driver of an interface takes MAC address {mac} and does not keep it");
            return Err(Failure::new(INTERFACE_FAILED, msg));
        }
        switch(netlink, index, true)?;
        switch(netlink, index, false)?;
        thread::sleep(ADDRESS_PAUSE);
    }
    Ok(())
}

fn has(netlink: &mut Netlink, index: u32, mac: MacAddress) -> Result<bool, LinkError> {
    let link = link::by_index(netlink, index)?;
    let link = link.ok_or_else(|| LinkError::Absent(format!("with index {index}")))?;
    Ok(link.mac == Some(mac))
}

fn switch(netlink: &mut Netlink, index: u32, up: bool) -> Result<(), LinkError> {
    link::set(netlink, index, &LinkChange { up: Some(up), ..Default::default() })
}

/// The one interface below a folder of sysfs, where it is on the host.
fn at(host: &Host, netlink: &mut Netlink, home: &str) -> Result<Option<Link>, Failure> {
    match &net::interfaces(host, home)?[..] {
        [] => Ok(None),
        // One that was renamed meanwhile is not there under this name.
        [name] => name.parse().map_or(Ok(None), |name| Ok(link::by_name(netlink, &name)?)),
        several => {
            let msg = format!("{home} has several network interfaces: {}", several.join(", "));
            Err(Failure::new(NOT_ELIGIBLE, msg))
        }
    }
}

/// The first name of a prefix and a number, from `number` on, that no link has.
fn free(netlink: &mut Netlink, prefix: &str, number: u32) -> Result<LinkName, Failure> {
    for number in number..=u32::MAX {
        let Ok(name) = format!("{prefix}{number}").parse() else { break };
        if link::by_name(netlink, &name)?.is_none() {
            return Ok(name);
        }
    }
    Err(Failure::new(INTERFACE_FAILED, format!("no name {prefix}<number> is free")))
}

/// The host's own namespace.
pub fn own(host: &Host) -> Result<Netns, Failure> {
    Ok(Netns::at(host, OWN)?)
}

/// A socket to the links of a namespace.
pub fn open(netns: &Netns) -> Result<Netlink, Failure> {
    let failed = || {
        let msg = format!("reach the links of {}", netns.path().display());
        Failure::new(INTERFACE_FAILED, msg)
    };
    netns.run(|| Netlink::open(protocols::NETLINK_ROUTE))?.map_err(|error| failed().because(&error))
}

#[cfg(test)]
mod tests;
